# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunCallError
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Make, Scene

LONG = Scenario(queued=0.02, in_progress=500)
QUICK = Scenario(queued=0.02, in_progress=0.05)
DOWN = ConnectionError("the API server is down")


def test_an_attempt_that_is_not_the_tasks_any_more_cancels_the_run_that_it_has_just_created(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(LONG)
    scene.store.fail("set", scene.gone, skip=1)
    with pytest.raises(RunCallError, match=r"a later one has taken over.*was cancelled"):
        create().execute(scene.kept)

    assert [run["status"] for run in scene.simulator.runs()] == ["cancelled"]


def test_a_run_that_is_not_visible_yet_is_not_taken_for_cancelled_by_an_attempt_that_is_not_the_tasks(
    scene: Scene, create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.create.ZOMBIE_CANCEL_WAIT", 0.2)
    scene.simulator.script(Scenario(queued=0, in_progress=500, hidden_for=60))
    scene.store.fail("set", scene.gone, skip=1)
    with pytest.raises(RunCallError, match="not cancelled and may be running and billing"):
        create().execute(scene.kept)


def test_an_attempt_that_is_not_the_tasks_any_more_creates_nothing(scene: Scene, create: Make) -> None:
    scene.store.fail("set", scene.gone)
    with pytest.raises(OpenAIRunError, match="a later one has taken over"):
        create().execute(scene.kept)

    assert scene.creates() == 0


def test_an_attempt_that_is_not_the_tasks_any_more_leaves_the_run_of_its_successor_alone(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(LONG)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)
    scene.store.fail("set", scene.gone)
    with pytest.raises(OpenAIRunError, match="a later one has taken over"):
        create().execute(scene.retry(scene.kept))

    assert len(scene.simulator.active()) == 1


def test_a_store_that_fails_after_the_create_does_not_end_the_task(scene: Scene, create: Make) -> None:
    scene.simulator.script(QUICK)
    scene.store.fail("set", DOWN, skip=1)

    assert scene.run(create(deferrable=True), scene.kept)["status"] == "completed"
    assert scene.creates() == 1


@pytest.mark.parametrize("method", ["get", "set"])
def test_nothing_is_created_when_the_store_cannot_be_read_or_the_intent_not_be_written(
    scene: Scene, create: Make, method: str
) -> None:
    scene.store.fail(method, DOWN)
    with pytest.raises(ConnectionError):
        create().execute(scene.kept)

    assert scene.creates() == 0


def test_a_store_that_fails_at_the_end_does_not_hide_why_the_task_failed(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG)
    operator = create(deferrable=True, completion_window=5)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    ref = deferred.value.trigger.serialize()[1]["ref"]
    scene.store.fail("get", DOWN)
    event = {"ref": ref, "outcome": "window_over", "fate": "cancelled", "status": "cancelled"}
    with pytest.raises(OpenAIRunError, match="did not end within completion_window=5"):
        operator.execute_complete(scene.kept, event)


def test_the_intent_is_written_before_the_paid_call_and_the_run_after_it(scene: Scene, create: Make) -> None:
    scene.simulator.script(QUICK)
    found = scene.run(create(), scene.kept)

    intent, record, ended = scene.store.writes
    assert ended == {**record, "ended": True, "spending": ended["spending"]}
    assert "ref" not in intent
    assert intent["token"] == record["token"] == found["metadata"]["airflow_token"]
    assert intent["cycle"] == scene.kept["ti"].max_tries
    assert record["ref"] == found["ref"]
    assert record["deadline"] == pytest.approx(record["created_at"] + 30)
