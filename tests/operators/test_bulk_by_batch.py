# SPDX-License-Identifier: Apache-2.0
"""A bulk task by batches as its users see it: the same items and results, and no batch created twice."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.bulk.batch.requests import BatchRequests
from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunConnectionError,
    RunEndedError,
    RunRequestError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import BatchScenario, Fault, Limits, Scenario
from airflow_provider_openai_runs.triggers import BatchCompletionTrigger
from tests.support.scene import Scene

Bulk = Callable[..., BulkCreateResponsesOperator]
ROWS = 20


@pytest.fixture
def bulk(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bulk:
    """Make a bulk operator by batches; what waits for a server waits shortly."""
    _ = scene.store  # skips below Airflow 3.3
    attempt = "airflow_provider_openai_runs.bulk.batch.attempt"
    lost = "airflow_provider_openai_runs.bulk.batch.lost_create"
    monkeypatch.setattr(f"{lost}.BATCH_CREATE_SECONDS", 0.3)
    monkeypatch.setattr(f"{lost}.SEARCH_SECONDS", 0.3)
    monkeypatch.setattr(f"{attempt}.SEARCH_PAUSE", 0.1)
    monkeypatch.setattr(f"{attempt}.REFUSED_PAUSE", 0.3)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.queue.REFUSED_PAUSE", 0.3)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.queue.FULL_QUEUE_PAUSE", 0.5)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.preparing.SEND_WITHIN", 0.3)

    def make(**arguments: Any) -> BulkCreateResponsesOperator:
        given = {
            "task_id": "ask",
            "model": "gpt-4o-mini",
            "processing": "batch",
            "items": [f"Question {number}" for number in range(ROWS)],
            "output_path": str(tmp_path / "out"),
            "poll_interval": 0.1,
            "deferrable": False,
        }
        if "input_path" in arguments:
            del given["items"]
        return BulkCreateResponsesOperator(**{**given, **arguments})

    return make


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch have eight items at most."""
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.building.MAX_ROWS", 8)


def _results(result: Any) -> dict[int, str]:
    found = [(item["row"], item["output_text"]) for item in read_results(result)]
    assert len(found) == len(dict(found)), "an item has two results"
    return dict(found)


def _errors(result: Any) -> dict[int, str]:
    found = read_results(result, failed=True)
    return {item["row"]: item["error"] for item in found if item["state"] != "succeeded"}


def _batches(scene: Scene) -> list[dict[str, Any]]:
    return [entry for entry in scene.simulator.runs() if entry["kind"] == "batch"]


def _asked(scene: Scene) -> Counter[str]:
    """Count how often each item was executed by some batch."""
    return Counter(
        item.custom_id
        for batch in scene.simulator._store.batches.values()
        for item in batch.items[: batch.finished(scene.simulator._store.clock.now())]
    )


def _uploads(scene: Scene) -> int:
    return scene.simulator.count("POST", "/files")


def _xcom(context: Any) -> Any:
    return context["ti"].xcoms["return_value"]


class _Killed(BaseException):
    """The worker is gone."""


def _die_at(monkeypatch: pytest.MonkeyPatch, place: str, *, before: bool) -> None:
    """Let the worker be gone at the first call of a method."""
    module, _, name = place.rpartition(".")
    owner_module, _, owner_name = module.rpartition(".")
    owner = getattr(__import__(owner_module, fromlist=[owner_name]), owner_name)
    method = getattr(owner, name)
    is_first = iter([True])

    def dying(*arguments: Any, **more: Any) -> Any:
        if not next(is_first, False):
            return method(*arguments, **more)
        if not before:
            method(*arguments, **more)
        raise _Killed

    monkeypatch.setattr(owner, name, dying)
    # kill -9 lets nothing be ended.
    ending = "airflow_provider_openai_runs.bulk.batch.ending.BatchEnding.end"
    monkeypatch.setattr(ending, lambda *_, **__: None)


def test_items_go_through_a_batch_and_have_the_results_of_any_bulk_task(scene: Scene, bulk: Bulk) -> None:
    result = scene.run(bulk(), scene.kept)
    assert len(_results(result)) == ROWS
    assert (result["rows"], result["succeeded"], result["stopped"]) == (ROWS, ROWS, None)
    assert len(_batches(scene)) == 1
    assert scene.creates() == 0
    assert result["usage"]["total_tokens"] > 0
    assert "Question 3" in _results(result)[3]


def test_a_batch_names_who_asked_if_that_is_wanted(scene: Scene, bulk: Bulk) -> None:
    scene.run(bulk(), scene.kept)
    scene.run(bulk(provider_metadata=True), scene.clear(scene.kept))
    [silent, naming] = [batch["metadata"] for batch in _batches(scene)]
    assert set(silent) == {"airflow_token"}
    assert set(naming) == {"airflow_token", "airflow_dag_id", "airflow_task_id", "airflow_run_id"}
    assert naming["airflow_task_id"] == "ask"


def test_a_task_waits_for_all_of_its_batches_in_one_trigger(
    scene: Scene, bulk: Bulk, small_files: None
) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=600, times=None))
    operator = bulk(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    trigger = deferred.value.trigger
    assert isinstance(trigger, BatchCompletionTrigger)
    assert trigger.count == len(_batches(scene)) == 3
    assert "Question" not in json.dumps(trigger.serialize()[1])
    scene.simulator.advance(700)
    result = scene.run(bulk(deferrable=True), scene.kept)
    assert len(_results(result)) == ROWS
    assert len(_batches(scene)) == 3


def test_rows_with_models_of_their_own_are_in_batches_of_their_own(scene: Scene, bulk: Bulk) -> None:
    items = [{"input": f"Ask {row}", "model": ["gpt-4o", "gpt-4o-mini"][row % 2]} for row in range(6)]
    assert len(_results(scene.run(bulk(items=items), scene.kept))) == 6
    assert sorted(batch["model"] for batch in _batches(scene)) == ["gpt-4o", "gpt-4o-mini"]


def test_labels_and_rows_that_cannot_be_sent_are_as_in_any_bulk_task(scene: Scene, bulk: Bulk) -> None:
    items = [{"input": "Yes?", "custom_id": "a"}, {"input": "No?", "temperature": 9}, {"input": "So?"}]
    result = scene.run(bulk(items=items), scene.kept)
    assert set(_results(result)) == {0, 2}
    assert "temperature" in _errors(result)[1]
    assert {item["custom_id"] for item in read_results(result)} == {"a", None}


def test_an_item_that_failed_for_now_is_sent_again_and_one_that_failed_for_good_is_not(
    scene: Scene, bulk: Bulk
) -> None:
    bad_day, never = {"code": "server_error", "message": "Oh."}, {"code": "invalid_prompt", "message": "No."}
    scene.simulator.script(
        Scenario(when="Question 3$", ends="failed", error=bad_day, times=1),
        Scenario(when="Question 4$", ends="failed", error=never, times=None),
    )
    result = scene.run(bulk(), scene.kept)
    assert set(_results(result)) == set(range(ROWS)) - {4}
    assert _errors(result) == {4: "HTTP 400: No."}
    assert len(_batches(scene)) == 2


def test_what_a_batch_has_not_come_to_is_sent_again(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=4, expires_after=2))
    result = scene.run(bulk(), scene.kept)
    assert len(_results(result)) == ROWS
    assert set(_asked(scene).values()) == {1}
    assert [batch["status"] for batch in _batches(scene)] == ["expired", "completed"]


def test_the_end_of_the_window_collects_what_is_paid_for_and_names_the_rest_as_expired(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=10, cancelling=1))
    monkeypatch.setattr("airflow_provider_openai_runs.operators.by_batch.LEAST_WINDOW", 0)
    with pytest.raises(RunTimeoutError, match="completion_window=5 was over"):
        scene.run(bulk(completion_window=5, deferrable=True), scene.kept)
    result = _xcom(scene.kept)
    assert 0 < result["succeeded"] < ROWS
    assert result["succeeded"] == len(_results(result)) == sum(_asked(scene).values())
    assert result["failed"] == ROWS - result["succeeded"]
    assert all(error.startswith("expired: completion_window") for error in _errors(result).values())
    assert [batch["status"] for batch in _batches(scene)] == ["cancelled"]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "place",
    [
        "bulk.batch.requests.BatchRequests.uploaded",
        "bulk.batch.requests.BatchRequests.create",
        "bulk.batch.requests.BatchRequests.poll",
        "bulk.batch.requests.BatchRequests.download",
        "bulk.batch.recorder.Recorder.flush",
        "bulk.journal.Journal.commit",
        "bulk.manifest.conclude",
    ],
)
def test_no_batch_is_created_twice_wherever_a_worker_dies(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, place: str, *, before: bool
) -> None:
    with monkeypatch.context() as dies:
        if place.endswith("conclude"):
            dies.setattr("airflow_provider_openai_runs.bulk.batch.work.conclude", _raise_killed)
        else:
            _die_at(dies, f"airflow_provider_openai_runs.{place}", before=before)
        with pytest.raises(_Killed):
            scene.run(bulk(), scene.kept)
    result = scene.run(bulk(), scene.retry(scene.kept))
    assert len(_results(result)) == ROWS
    assert len(_batches(scene)) == 1
    assert _uploads(scene) == 1


def _raise_killed(*_: Any, **__: Any) -> None:
    raise _Killed


def test_a_lost_create_is_found_by_its_token(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(hidden_for=0.3))
    scene.simulator.fault(Fault(method="POST", path="/batches$", kind="lost"))
    assert len(_results(scene.run(bulk(), scene.kept))) == ROWS
    assert len(_batches(scene)) == 1


def test_a_lost_create_is_a_lost_item_where_no_list_tells_unless_it_may_be_sent_again(
    scene: Scene, bulk: Bulk
) -> None:
    lost = Fault(method="POST", path="/batches$", kind="lost")
    no_list = Fault(method="GET", path="/batches$", kind="status", status=404, times=None)
    scene.simulator.fault(lost, no_list)
    with pytest.raises(RunEndedError, match=f"{ROWS} lost"):
        scene.run(bulk(), scene.kept)
    assert len(_batches(scene)) == 1

    scene.simulator.fault(lost, no_list)
    cleared = scene.clear(scene.kept)
    result = scene.run(bulk(on_lost_create="resubmit"), cleared)
    assert len(_results(result)) == ROWS
    assert len(_batches(scene)) == 3

    scene.simulator.fault(Fault(method="POST", path="/batches$", kind="lost", times=2), no_list)
    with pytest.raises(RunEndedError, match=f"{ROWS} lost"):
        scene.run(bulk(on_lost_create="resubmit"), scene.clear(cleared))
    assert len(_batches(scene)) == 5


_STILL = "The file file-abc is still being processed."


@pytest.mark.parametrize(
    "refusal",
    [
        Fault(method="POST", path="/batches$", kind="status", status=400, message=_STILL),
        BatchScenario(error={"code": "invalid_file", "message": _STILL}),
        Scenario(when="Question 3$", ends="failed", error={"code": "file_error", "message": _STILL}, times=1),
    ],
)
def test_a_file_that_is_not_processed_yet_is_waited_for(
    scene: Scene, bulk: Bulk, refusal: Fault | BatchScenario | Scenario
) -> None:
    match refusal:
        case Fault():
            scene.simulator.fault(refusal)
        case BatchScenario():
            scene.simulator.script_batches(refusal)
        case Scenario():
            scene.simulator.script(refusal)
    assert len(_results(scene.run(bulk(), scene.kept))) == ROWS


def test_a_create_that_never_arrived_is_sent_again(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.fault(Fault(method="POST", path="/batches$", kind="reset"))
    assert len(_results(scene.run(bulk(), scene.kept))) == ROWS
    assert len(_batches(scene)) == 1


def test_a_full_queue_is_waited_for_and_a_batch_that_is_too_large_for_it_is_halved(
    scene: Scene, bulk: Bulk
) -> None:
    scene.simulator.limit(Limits(enqueued_tokens=30))
    result = scene.run(bulk(deferrable=True), scene.kept)
    assert len(_results(result)) == ROWS
    assert set(_asked(scene).values()) == {1}


def test_a_batch_that_fails_for_one_of_its_rows_is_sent_again_without_it(scene: Scene, bulk: Bulk) -> None:
    error = {"code": "invalid_type", "message": "Not this one.", "line": 3}
    scene.simulator.script_batches(BatchScenario(error=error))
    result = scene.run(bulk(), scene.kept)
    assert set(_results(result)) == set(range(ROWS)) - {2}
    assert "Not this one" in _errors(result)[2]


def test_a_batch_that_fails_as_a_whole_fails_its_items_with_the_reason(scene: Scene, bulk: Bulk) -> None:
    with pytest.raises(RunEndedError, match="Not a single item succeeded"):
        scene.run(bulk(model="no-such-model"), scene.kept)
    assert "is not supported by the Batch API" in _errors(_xcom(scene.kept))[0]


def test_a_refused_key_fails_the_task_and_no_item(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.attempt.PERMANENT_FAILURE_BUDGET", 0.5)
    scene.simulator.fault(Fault(method="POST", path="/batches$", status=401, times=None))
    with pytest.raises(RunConnectionError, match="refused the key"):
        scene.run(bulk(), scene.kept)
    assert _batches(scene) == []


def test_more_failures_than_allowed_end_the_task(scene: Scene, bulk: Bulk, small_files: None) -> None:
    error = {"code": "invalid_prompt", "message": "No."}
    scene.simulator.script(Scenario(ends="failed", error=error, times=None))
    scene.simulator.script_batches(BatchScenario(), BatchScenario(in_progress=60, times=None))
    with pytest.raises(RunEndedError, match="max_failed=5"):
        scene.run(bulk(max_failed=5), scene.kept)
    assert {batch["status"] for batch in _batches(scene)} == {"completed", "cancelled"}


def _when_batched(scene: Scene, then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the journal knows of a batch."""

    def wait() -> None:
        while not (scene.store.values.get("openai_bulk") or {}).get("writers", [["", 0]])[-1][1] >= 2:
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_mark_in_the_worker_cancels_the_batches_and_names_them(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60))
    operator, lines = bulk(), []
    lines = scene.log_of(operator)

    def mark() -> None:
        scene.kept["ti"].state = "failed"
        operator.on_kill()

    thread = _when_batched(scene, mark)
    with pytest.raises(OpenAIRunError, match="The task was killed") as killed:
        operator.execute(scene.kept)
    thread.join()
    batch = _batches(scene)[0]
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
    assert [batch["status"] for batch in _batches(scene)] in (["cancelling"], ["cancelled"])


def test_a_worker_that_goes_away_leaves_its_batches_to_the_retry(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=3))
    operator = bulk()
    thread = _when_batched(scene, operator.on_kill)
    with pytest.raises(OpenAIRunError, match="The task was killed"):
        operator.execute(scene.kept)
    thread.join()
    assert len(_results(scene.run(bulk(), scene.retry(scene.kept)))) == ROWS
    assert [batch["status"] for batch in _batches(scene)] == ["completed"]


def test_a_clear_ends_the_batches_of_before_and_begins_anew(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True).execute(scene.kept)
    result = scene.run(bulk(), scene.clear(scene.kept))
    assert len(_results(result)) == ROWS
    assert [batch["status"] for batch in _batches(scene)] == ["cancelled", "completed"]


def test_the_execution_timeout_ends_the_batches_and_a_retry_collects_what_they_did(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.operators.by_batch.LEAST_WINDOW", 0)
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    operator = bulk(execution_timeout=timedelta(seconds=5), item_retries=0)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute(scene.context_of(scene.store, max_tries=1))
    result = scene.run(bulk(item_retries=0), scene.retry(scene.context_of(scene.store, max_tries=1)))
    assert len(_results(result)) == ROWS
    assert set(_asked(scene).values()) == {1}
    assert [batch["status"] for batch in _batches(scene)] == ["cancelled", "completed"]


def test_a_task_goes_on_as_it_began_or_not_at_all(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60))
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True).execute(scene.kept)
    with pytest.raises(RunRequestError, match=r"clear .* 1 batches may be going and billing: batch_"):
        scene.run(bulk(processing=None, poll_interval=0.05), scene.retry(scene.kept))
    assert scene.creates() == 0


def test_a_clear_ends_batches_whatever_the_task_does_now(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True).execute(scene.kept)
    result = scene.run(bulk(processing=None, poll_interval=0.05), scene.clear(scene.kept))
    assert len(_results(result)) == scene.creates() == ROWS
    assert [batch["status"] for batch in _batches(scene)] == ["cancelled"]


def test_a_clear_ends_batches_also_where_the_server_does_not_know_them_for_a_moment(
    scene: Scene, bulk: Bulk
) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.ending._PAUSE", 0.2)
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True).execute(scene.kept)
    scene.simulator.fault(Fault(path="/batches/", kind="status", status=404, times=2))
    assert len(_results(scene.run(bulk(), scene.clear(scene.kept)))) == ROWS
    assert [batch["status"] for batch in _batches(scene)] == ["cancelled", "completed"]


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
    assert len(_results(result)) == ROWS
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
    assert len(_results(scene.run(again, scene.clear(scene.kept)))) == ROWS
    assert any("Before the clear, 1 creates may have been accepted" in line for line in lines), lines


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"completion_window": 86_400}, "too short for processing='batch'"),
        ({"service_tier": "flex"}, "service_tier and processing='batch' exclude"),
        ({"background_options": {"completion_window": "2h"}}, "background_options and processing"),
    ],
)
def test_what_a_batch_cannot_do_is_refused_while_the_dag_is_parsed(
    bulk: Bulk, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(RunRequestError, match=said):
        bulk(**arguments)


def test_the_window_is_26_hours_unless_one_is_named(bulk: Bulk) -> None:
    assert bulk().completion_window == 26 * 3600
    assert bulk(processing=None).completion_window == 24 * 3600
