# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.scene import Make, Scene

try:
    from airflow.sdk.exceptions import TaskDeferralError
except ImportError:  # Airflow 3.1
    from airflow.exceptions import TaskDeferralError  # type: ignore[no-redef]

LONG = Scenario(queued=0.02, in_progress=500)
#: What Airflow passes on when a trigger raised, or was not there when its time was over.
FAILURE = {"error": "Trigger failure", "traceback": ["RuntimeError: no"]}


@pytest.fixture(params=["with a store", "without"])
def deferred_in(
    scene: Scene, request: pytest.FixtureRequest, create: Make
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Bring a task to where its trigger may die."""
    store = scene.store if request.param == "with a store" else None

    def defer(*, of_ti: dict[str, Any] | None = None, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        scene.simulator.script(LONG)
        context = scene.context_of(store, **(of_ti or {}))
        with pytest.raises(TaskDeferred):
            create(deferrable=True).execute(context)
        return create(**arguments), context

    return defer


def test_a_run_that_completed_while_its_trigger_was_dead_finishes_the_task(
    scene: Scene, deferred_in: Callable[..., tuple[Any, dict[str, Any]]]
) -> None:
    operator, context = deferred_in()
    scene.simulator.advance(550)
    found = operator.resume_execution("__fail__", FAILURE, context)

    assert found["status"] == "completed"


def test_a_run_whose_trigger_died_is_left_to_the_retry(
    scene: Scene, deferred_in: Callable[..., tuple[Any, dict[str, Any]]]
) -> None:
    operator, context = deferred_in()
    with pytest.raises(TaskDeferralError):
        operator.resume_execution("__fail__", FAILURE, context)

    assert len(scene.simulator.active()) == 1


def test_a_run_whose_trigger_died_is_cancelled_when_no_retry_is_left(
    scene: Scene, deferred_in: Callable[..., tuple[Any, dict[str, Any]]]
) -> None:
    operator, context = deferred_in(of_ti={"try_number": 3, "max_tries": 2})
    with pytest.raises(TaskDeferralError):
        operator.resume_execution("__fail__", FAILURE, context)

    assert [run["status"] for run in scene.simulator.runs()] == ["cancelled"]


def test_cancel_on_kill_false_leaves_the_run_of_a_dead_trigger_too(
    scene: Scene, deferred_in: Callable[..., tuple[Any, dict[str, Any]]]
) -> None:
    operator, context = deferred_in(of_ti={"try_number": 3, "max_tries": 2}, cancel_on_kill=False)
    with pytest.raises(TaskDeferralError):
        operator.resume_execution("__fail__", FAILURE, context)

    assert len(scene.simulator.active()) == 1


def test_a_run_that_completes_before_the_cancel_comes_finishes_the_task(scene: Scene, create: Make) -> None:
    context = scene.context_of(scene.store, try_number=3)
    scene.simulator.script(Scenario(queued=0.02, in_progress=4))
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(context)
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=409, times=None))

    assert create().resume_execution("__fail__", FAILURE, context)["status"] == "completed"


def test_a_run_that_cannot_be_polled_does_not_hide_that_its_trigger_died(
    scene: Scene, deferred_in: Callable[..., tuple[Any, dict[str, Any]]]
) -> None:
    operator, context = deferred_in()
    scene.simulator.fault(Fault(status=401, times=None))
    with pytest.raises(TaskDeferralError):
        operator.resume_execution("__fail__", FAILURE, context)


def test_a_trigger_that_died_before_anything_was_recorded_is_airflows_own_failure(
    scene: Scene, respond: Make
) -> None:
    with pytest.raises(TaskDeferralError):
        respond().resume_execution("__fail__", FAILURE, scene.context)


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "ended_2"},
        {"outcome": None},
        {"outcome": ["ended"]},
        {"fate": "paused"},
        {"ref": None},
        {"ref": {"kind": "conversation", "id": "x"}},
    ],
    ids=str,
)
def test_an_event_of_another_version_loses_no_run(scene: Scene, create: Make, change: dict[str, Any]) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=2))
    operator = create(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    event = scene.fire(deferred.value.trigger)
    worker = create(deferrable=True)
    lines = scene.log_of(worker)
    found = worker.execute_complete(scene.kept, {**event, **change})

    assert found["status"] == "completed"
    assert scene.creates() == 1
    assert [line for line in lines if line.startswith("The event of the trigger cannot be read")]


def test_a_foreign_event_is_refused(scene: Scene, respond: Make) -> None:
    with pytest.raises(ValueError, match="no event of RunCompletionTrigger"):
        respond().execute_complete(scene.context, {"status": "success"})
