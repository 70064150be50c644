# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import RunConnectionError, RunFailedError, RunTimeoutError
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator

LONG = Scenario(queued=0.02, in_progress=500)
QUICK = Scenario(queued=0.02, in_progress=0.05)
SERVER_ERROR = {"code": "server_error", "message": "Sorry."}


@pytest.fixture
def die_after_create() -> Callable[[Any, dict[str, Any]], None]:
    """Let an attempt end right after its deferral, as if its triggerer and everything had been lost."""

    def run(operator: Any, context: dict[str, Any]) -> None:
        operator.deferrable = True
        with pytest.raises(TaskDeferred):
            operator.execute(context)

    return run


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_retry_goes_on_with_the_run_that_is_still_active(
    create: Callable[..., Any],
    creates: Callable[[], int],
    die_after_create: Callable[..., None],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
    *,
    deferrable: bool,
) -> None:
    openai_runs_simulator.script(LONG)
    die_after_create(create(), kept)
    second = retry(kept)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(second)
    openai_runs_simulator.advance(550)
    found = run_task(create(deferrable=deferrable), retry(second))

    assert found["status"] == "completed"
    assert second["ti"].xcoms["ref"] == found["ref"]
    assert creates() == 1


def test_a_retry_finishes_from_a_run_that_completed_meanwhile(
    create: Callable[..., Any],
    creates: Callable[[], int],
    die_after_create: Callable[..., None],
    kept: dict[str, Any],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG)
    die_after_create(create(), kept)
    openai_runs_simulator.advance(550)
    found = create(deferrable=True).execute(retry(kept))

    assert found["status"] == "completed"
    assert found["output_text"]
    assert creates() == 1


def test_a_retry_after_a_run_that_failed_creates_a_new_one(
    create: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(in_progress=0, ends="failed", error=SERVER_ERROR), QUICK)
    with pytest.raises(RunFailedError):
        run_task(create(), kept)
    found = run_task(create(), retry(kept))

    assert found["id"] == openai_runs_simulator.runs()[1]["id"]
    assert creates() == 2


def test_a_retry_after_a_run_that_this_task_had_cancelled_creates_a_new_one_once_it_has_ended(
    create: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG, QUICK)
    with pytest.raises(RunTimeoutError):
        run_task(create(completion_window=0.2), kept)
    assert store.record["ended_by_us"]

    assert run_task(create(), retry(kept))["status"] == "completed"
    assert creates() == 2
    assert openai_runs_simulator.active() == []


def test_a_run_that_is_being_cancelled_is_waited_for_before_a_new_one_is_created(
    create: Callable[..., Any],
    creates: Callable[[], int],
    die_after_create: Callable[..., None],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=500, cancelling=0.4), QUICK)
    die_after_create(create(), kept)
    store.values["openai_run"]["ended_by_us"] = True
    found = run_task(create(), retry(kept))

    first, second = openai_runs_simulator.runs()
    assert first["status"] == "cancelled"
    assert found["id"] == second["id"]
    assert creates() == 2


def test_changed_arguments_are_named_in_a_warning_and_the_run_is_adopted_all_the_same(
    create: Callable[..., Any],
    creates: Callable[[], int],
    die_after_create: Callable[..., None],
    kept: dict[str, Any],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
    capture_log: Callable[[Any], list[str]],
) -> None:
    openai_runs_simulator.script(LONG)
    die_after_create(create(instructions="at 10:00"), kept)
    operator = create(instructions="at 10:05", deferrable=True)
    lines = capture_log(operator)
    with pytest.raises(TaskDeferred):
        operator.execute(retry(kept))

    assert [line for line in lines if "the earlier values of instructions" in line]
    assert creates() == 1


def test_a_recorded_run_that_the_server_does_not_know_any_more_is_replaced(
    create: Callable[..., Any],
    creates: Callable[[], int],
    die_after_create: Callable[..., None],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(QUICK, QUICK)
    die_after_create(create(), kept)
    store.values["openai_run"]["ref"]["id"] += "gone"
    store.values["openai_run"]["created_at"] -= 100

    openai_runs_simulator.advance(5)
    assert run_task(create(), retry(kept))["status"] == "completed"
    assert creates() == 2


def test_a_recorded_run_that_is_not_visible_yet_is_waited_for(
    create: Callable[..., Any],
    creates: Callable[[], int],
    die_after_create: Callable[..., None],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0.1, hidden_for=0.4))
    die_after_create(create(), kept)

    assert run_task(create(), retry(kept))["status"] == "completed"
    assert creates() == 1


def test_a_key_that_is_refused_in_a_retry_fails_and_creates_nothing(
    create: Callable[..., Any],
    creates: Callable[[], int],
    die_after_create: Callable[..., None],
    kept: dict[str, Any],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG)
    die_after_create(create(), kept)
    openai_runs_simulator.fault(Fault(status=401, times=None))
    with pytest.raises(RunConnectionError, match=r"refused the key.*may still be running and billing"):
        create().execute(retry(kept))

    assert creates() == 1


def test_a_retry_of_fire_and_forget_returns_the_recorded_run_whatever_its_status(
    create: Callable[..., Any],
    creates: Callable[[], int],
    kept: dict[str, Any],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(in_progress=1, ends="failed"))
    first = create(completion_window=None).execute(kept)
    second = retry(kept)
    assert create(completion_window=None).execute(second)["id"] == first["id"]
    openai_runs_simulator.advance(5)
    third = create(completion_window=None).execute(retry(second))

    assert (third["id"], third["status"]) == (first["id"], "failed")
    assert creates() == 1


def test_without_a_store_a_retry_finds_a_thread_run_by_its_token(
    run_on: Callable[..., Any],
    creates: Callable[[], int],
    die_after_create: Callable[..., None],
    context_of: Callable[..., dict[str, Any]],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG)
    context = context_of(None)
    die_after_create(run_on(), context)
    openai_runs_simulator.advance(550)
    found = run_on().execute(retry(context))

    assert found["status"] == "completed"
    assert creates() == 1


def test_without_a_store_a_retry_of_a_response_creates_it_anew(
    respond: Callable[..., Any],
    creates: Callable[[], int],
    die_after_create: Callable[..., None],
    context_of: Callable[..., dict[str, Any]],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG, QUICK)
    context = context_of(None)
    die_after_create(respond(), context)

    assert respond().execute(retry(context))["status"] == "completed"
    assert creates() == 2


def test_each_mapped_task_instance_has_a_run_of_its_own(
    create: Callable[..., Any],
    creates: Callable[[], int],
    context_of: Callable[..., dict[str, Any]],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(QUICK, QUICK)
    for index in range(2):
        create().execute(context_of(None, map_index=index))

    tokens = {run["metadata"]["airflow_token"].split("/")[0] for run in openai_runs_simulator.runs()}
    assert len(tokens) == creates() == 2
