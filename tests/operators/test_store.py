# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunCallError
from airflow_provider_openai_runs.simulator import Scenario, Simulator

LONG = Scenario(queued=0.02, in_progress=500)
QUICK = Scenario(queued=0.02, in_progress=0.05)
DOWN = ConnectionError("the API server is down")


def test_an_attempt_that_is_not_the_tasks_any_more_cancels_the_run_that_it_has_just_created(
    create: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    gone: Exception,
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG)
    store.fail("set", gone, skip=1)
    with pytest.raises(RunCallError, match=r"a later one has taken over.*was cancelled"):
        create().execute(kept)

    assert [run["status"] for run in openai_runs_simulator.runs()] == ["cancelled"]


def test_an_attempt_that_is_not_the_tasks_any_more_creates_nothing(
    create: Callable[..., Any],
    creates: Callable[[], int],
    kept: dict[str, Any],
    store: Any,
    gone: Exception,
) -> None:
    store.fail("set", gone)
    with pytest.raises(OpenAIRunError, match="a later one has taken over"):
        create().execute(kept)

    assert creates() == 0


def test_an_attempt_that_is_not_the_tasks_any_more_leaves_the_run_of_its_successor_alone(
    create: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    gone: Exception,
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(kept)
    store.fail("set", gone)
    with pytest.raises(OpenAIRunError, match="a later one has taken over"):
        create().execute(retry(kept))

    assert len(openai_runs_simulator.active()) == 1


def test_a_store_that_fails_after_the_create_does_not_end_the_task(
    create: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(QUICK)
    store.fail("set", DOWN, skip=1)

    assert run_task(create(deferrable=True), kept)["status"] == "completed"
    assert creates() == 1


@pytest.mark.parametrize("method", ["get", "set"])
def test_nothing_is_created_when_the_store_cannot_be_read_or_the_intent_not_be_written(
    create: Callable[..., Any],
    creates: Callable[[], int],
    kept: dict[str, Any],
    store: Any,
    method: str,
) -> None:
    store.fail(method, DOWN)
    with pytest.raises(ConnectionError):
        create().execute(kept)

    assert creates() == 0


def test_a_store_that_fails_at_the_end_does_not_hide_why_the_task_failed(
    create: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG)
    operator = create(deferrable=True, completion_window=5)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(kept)
    ref = deferred.value.trigger.serialize()[1]["ref"]
    store.fail("get", DOWN)
    event = {"ref": ref, "outcome": "window_over", "fate": "cancelled", "status": "cancelled"}
    with pytest.raises(OpenAIRunError, match="did not end within completion_window=5"):
        operator.execute_complete(kept, event)


def test_the_intent_is_written_before_the_paid_call_and_the_run_after_it(
    create: Callable[..., Any],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(QUICK)
    found = run_task(create(), kept)

    intent, record = store.writes
    assert "ref" not in intent
    assert intent["token"] == record["token"] == found["metadata"]["airflow_token"]
    assert intent["cycle"] == kept["ti"].max_tries
    assert record["ref"] == found["ref"]
    assert record["deadline"] == pytest.approx(record["created_at"] + 30)
