# SPDX-License-Identifier: Apache-2.0
"""A bulk task by batches over several attempts: a mark, a clear, a worker that goes away, a limit of time."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_openai_runs.bulk.batch.requests import BatchRequests
from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunRequestError,
)
from airflow_provider_openai_runs.simulator import BatchScenario, Fault, Scenario
from tests.support import batch_operators
from tests.support.batch_operators import (
    ROWS,
    Bulk,
    asked,
    batches,
    results,
    when_batched,
)
from tests.support.scene import Scene

bulk, small_files = batch_operators.bulk, batch_operators.small_files


def test_a_mark_in_the_worker_cancels_the_batches_and_names_them(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60))
    operator, lines = bulk(), []
    lines = scene.log_of(operator)

    def mark() -> None:
        scene.kept["ti"].state = "failed"
        operator.on_kill()

    thread = when_batched(scene, mark)
    with pytest.raises(OpenAIRunError, match="The task was killed") as killed:
        operator.execute(scene.kept)
    thread.join()
    batch = batches(scene)[0]
    assert batch["status"] in {"cancelling", "cancelled"}
    assert batch["id"] in str(killed.value)
    assert any(batch["id"] in line and "file-" in line for line in lines)


def test_a_mark_during_the_create_cancels_the_batch_that_no_list_shows_yet(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60))
    operator, create = bulk(), BatchRequests.create

    def marked(*arguments: Any, **more: Any) -> Any:
        with monkeypatch.context() as hides:
            hides.setattr(BatchRequests, "find", lambda *_: None)
            scene.kept["ti"].state = "failed"
            operator.on_kill()
            for thread in threading.enumerate():
                if thread.name == "openai-batch-end":
                    thread.join()
        return create(*arguments, **more)

    monkeypatch.setattr(BatchRequests, "create", marked)
    with pytest.raises(OpenAIRunError, match="asked to end"):
        operator.execute(scene.kept)
    assert [batch["status"] for batch in batches(scene)] in (["cancelling"], ["cancelled"])


def test_a_worker_that_goes_away_leaves_its_batches_to_the_retry(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60))
    operator = bulk()
    thread = when_batched(scene, operator.on_kill)
    with pytest.raises(OpenAIRunError, match="The task was killed"):
        operator.execute(scene.kept)
    thread.join()
    scene.simulator.advance(60)
    assert len(results(scene.run(bulk(), scene.retry(scene.kept)))) == ROWS
    assert [batch["status"] for batch in batches(scene)] == ["completed"]


def test_a_clear_ends_the_batches_of_before_and_begins_anew(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True).execute(scene.kept)
    result = scene.run(bulk(), scene.clear(scene.kept))
    assert len(results(result)) == ROWS
    assert [batch["status"] for batch in batches(scene)] == ["cancelled", "completed"]


def test_the_execution_timeout_ends_the_batches_and_a_retry_collects_what_they_did(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.operators.by_batch.LEAST_WINDOW", 0)
    scene.simulator.script_batches(BatchScenario(in_progress=30, cancelling=0.2))
    operator = bulk(execution_timeout=timedelta(seconds=3), item_retries=0)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute(scene.context_of(scene.store, max_tries=1))
    result = scene.run(bulk(item_retries=0), scene.retry(scene.context_of(scene.store, max_tries=1)))
    assert len(results(result)) == ROWS
    assert set(asked(scene).values()) == {1}
    assert [batch["status"] for batch in batches(scene)] == ["cancelled", "completed"]


def test_a_task_goes_on_as_it_began_or_not_at_all(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60))
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True).execute(scene.kept)
    with pytest.raises(RunRequestError, match=r"clear .* Not collected: batch_"):
        scene.run(bulk(processing=None, poll_interval=0.05), scene.retry(scene.kept))
    assert scene.creates() == 0


def test_the_last_attempt_ends_batches_that_it_does_not_go_on_with(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    context = scene.context_of(scene.store, max_tries=1)
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True).execute(context)
    with pytest.raises(RunRequestError, match="asked to end"):
        scene.run(bulk(processing=None, poll_interval=0.05), scene.retry(context))
    assert [batch["status"] for batch in batches(scene)] in (["cancelling"], ["cancelled"])


def test_the_last_attempt_ends_single_runs_that_it_does_not_go_on_with(scene: Scene, bulk: Bulk) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    scene.simulator.script(Scenario(queued=0, in_progress=600, times=3))
    context = scene.context_of(scene.store, max_tries=1)
    task = bulk(processing=None, items=["A", "B", "C"], poll_interval=None, deferrable=True)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    with pytest.raises(RunRequestError, match="runs of its own"):
        scene.run(bulk(), scene.retry(context))
    assert {run["status"] for run in scene.simulator.runs()} == {"cancelled"}


def test_a_clear_ends_batches_whatever_the_task_does_now(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True).execute(scene.kept)
    result = scene.run(bulk(processing=None, poll_interval=0.05), scene.clear(scene.kept))
    assert len(results(result)) == scene.creates() == ROWS
    assert [batch["status"] for batch in batches(scene)] == ["cancelled"]


def test_a_clear_ends_batches_also_where_the_server_does_not_know_them_for_a_moment(
    scene: Scene, bulk: Bulk
) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.ending._PAUSE", 0.2)
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True).execute(scene.kept)
    scene.simulator.fault(Fault(path="/batches/", kind="status", status=404, times=2))
    assert len(results(scene.run(bulk(), scene.clear(scene.kept)))) == ROWS
    assert [batch["status"] for batch in batches(scene)] == ["cancelled", "completed"]


def test_a_clear_ends_single_runs_whose_task_goes_by_batch_now(scene: Scene, bulk: Bulk) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    scene.simulator.script(Scenario(queued=0, in_progress=600, times=3))
    task = bulk(processing=None, items=["A", "B", "C"], poll_interval=None, deferrable=True)
    with pytest.raises(TaskDeferred):
        task.execute(scene.kept)
    lines = scene.log_of(again := bulk())
    result = scene.run(again, scene.clear(scene.kept))
    assert [run["status"] for run in scene.simulator.runs() if run["kind"] == "response"][:3] == [
        "cancelled"
    ] * 3
    assert len(results(result)) == ROWS
    assert any("before the clear: Nothing of it is active." in line for line in lines), lines


def test_a_clear_names_single_creates_without_an_answer_whose_task_goes_by_batch_now(
    scene: Scene, bulk: Bulk
) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    scene.simulator.script(Scenario(queued=0, in_progress=600, times=3))
    scene.simulator.fault(Fault(method="POST", path="/responses$", kind="lost"))
    task = bulk(processing=None, items=["A", "B", "C"], poll_interval=None, deferrable=True)
    with pytest.raises(TaskDeferred):
        task.execute(scene.kept)
    lines = scene.log_of(again := bulk())
    assert len(results(scene.run(again, scene.clear(scene.kept)))) == ROWS
    assert any("Before the clear, 1 creates may have been accepted" in line for line in lines), lines
