# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import RunTimeoutError
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator

LONG = Scenario(queued=0.02, in_progress=500)
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])


@BOTH
def test_a_run_that_outlasts_its_window_is_cancelled_at_the_server_and_may_be_tried_again(
    create: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
    *,
    deferrable: bool,
) -> None:
    openai_runs_simulator.script(LONG)
    with pytest.raises(RunTimeoutError) as caught:
        run_task(create(deferrable=deferrable, completion_window=0.3), context)

    run = openai_runs_simulator.runs()[0]
    text = str(caught.value)
    words = (run["id"], "completion_window=0.3", "The run was cancelled", "A retry starts a new run")
    assert not [word for word in words if word not in text]
    assert not isinstance(caught.value, AirflowFailException)
    assert run["status"] == context["ti"].xcoms["return_value"]["status"] == "cancelled"
    assert openai_runs_simulator.count("POST", "/cancel$") == 1


def test_a_window_may_be_given_as_a_timedelta(
    respond: Callable[..., Any], context: dict[str, Any], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(LONG)
    with pytest.raises(RunTimeoutError):
        respond(completion_window=timedelta(milliseconds=200)).execute(context)


@BOTH
def test_cancel_on_timeout_false_leaves_the_run_and_a_retry_waits_for_it_with_a_new_window(
    create: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
    *,
    deferrable: bool,
) -> None:
    openai_runs_simulator.script(LONG)
    operator = create(deferrable=deferrable, completion_window=0.3, cancel_on_timeout=False)
    with pytest.raises(RunTimeoutError, match=r"left running and billing.*A retry waits for it again"):
        run_task(operator, kept)
    assert len(openai_runs_simulator.active()) == 1

    openai_runs_simulator.advance(550)
    assert run_task(operator, retry(kept))["status"] == "completed"
    assert creates() == 1
    assert openai_runs_simulator.count("POST", "/cancel$") == 0


def test_a_run_found_completed_has_won_whatever_the_clock_says(
    respond: Callable[..., Any], context: dict[str, Any], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0.2))
    found = respond(completion_window=0.25, poll_interval=1).execute(context)

    assert found["status"] == "completed"
    assert openai_runs_simulator.count("POST", "/cancel$") == 0


def test_a_run_that_completes_before_its_cancel_comes_is_a_success(
    create: Callable[..., Any], context: dict[str, Any], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=600, cancelling=0.1, cancel_ends="completed"))
    found = create(completion_window=0.2).execute(context)

    assert found["status"] == "completed"


@BOTH
def test_execution_timeout_ends_the_wait_also_while_deferred(
    create: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
    *,
    deferrable: bool,
) -> None:
    openai_runs_simulator.script(LONG)
    operator = create(deferrable=deferrable, execution_timeout=timedelta(seconds=0.4))
    with pytest.raises(RunTimeoutError, match=r"execution_timeout=0:00:00\.4.*The run was cancelled"):
        run_task(operator, context)

    assert openai_runs_simulator.active() == []


def test_a_cancel_that_the_server_refuses_is_told_in_the_error(
    respond: Callable[..., Any], context: dict[str, Any], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(LONG)
    openai_runs_simulator.fault(Fault(method="POST", path="/cancel$", status=403, times=None))
    with pytest.raises(RunTimeoutError, match="could not be cancelled and may be running and billing"):
        respond(completion_window=0.2).execute(context)


def test_trouble_while_waiting_does_not_end_a_healthy_run(
    create: Callable[..., Any],
    creates: Callable[[], int],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(queued=0.02, in_progress=0.2))
    polls = r"^/(responses|threads/[^/]+/runs)/[^/]+$"
    openai_runs_simulator.fault(Fault(method="GET", path=polls, status=429, retry_after=1))
    assert create().execute(context)["status"] == "completed"
    assert creates() == 1


def test_the_deadline_is_not_moved_by_a_retry(
    respond: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG)
    operator = respond(completion_window=100, deferrable=True)
    with pytest.raises(BaseException, match=r".*") as first:
        operator.execute(kept)
    deadline = store.record["deadline"]
    assert deadline == pytest.approx(time.time() + 100, abs=2)
    time.sleep(0.05)
    with pytest.raises(BaseException, match=r".*") as second:
        operator.execute(retry(kept))

    triggers = [first.value.trigger, second.value.trigger]  # type: ignore[attr-defined]
    assert triggers[0].deadline == triggers[1].deadline == deadline
    assert triggers[0].created_at == triggers[1].created_at
    assert store.record["deadline"] == deadline
