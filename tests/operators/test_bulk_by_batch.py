# SPDX-License-Identifier: Apache-2.0
"""A bulk task by batches as its users see it: the same items and results, and no batch created twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.exceptions import (
    RunConnectionError,
    RunEndedError,
    RunRequestError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.simulator import BatchScenario, Fault, Limits, Scenario
from airflow_provider_openai_runs.triggers import BatchCompletionTrigger
from tests.support import batch_operators
from tests.support.batch_operators import (
    ROWS,
    Bulk,
    Killed,
    asked,
    batches,
    die_at,
    errors,
    results,
    uploads,
    xcom,
)
from tests.support.scene import Scene

bulk, small_files = batch_operators.bulk, batch_operators.small_files
_STILL = "The file file-abc is still being processed."


def test_items_go_through_a_batch_and_have_the_results_of_any_bulk_task(scene: Scene, bulk: Bulk) -> None:
    result = scene.run(bulk(), scene.kept)
    assert len(results(result)) == ROWS
    assert (result["rows"], result["succeeded"], result["stopped"]) == (ROWS, ROWS, None)
    assert len(batches(scene)) == 1
    assert scene.creates() == 0
    assert result["usage"]["total_tokens"] > 0
    assert "Question 3" in results(result)[3]


def test_a_batch_names_who_asked_if_that_is_wanted(scene: Scene, bulk: Bulk) -> None:
    scene.run(bulk(), scene.kept)
    scene.run(bulk(provider_metadata=True), scene.clear(scene.kept))
    [silent, naming] = [batch["metadata"] for batch in batches(scene)]
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
    assert trigger.count == len(batches(scene)) == 3
    assert "Question" not in json.dumps(trigger.serialize()[1])
    scene.simulator.advance(700)
    result = scene.run(bulk(deferrable=True), scene.kept)
    assert len(results(result)) == ROWS
    assert len(batches(scene)) == 3


def test_rows_with_models_of_their_own_are_in_batches_of_their_own(scene: Scene, bulk: Bulk) -> None:
    items = [{"input": f"Ask {row}", "model": ["gpt-4o", "gpt-4o-mini"][row % 2]} for row in range(6)]
    assert len(results(scene.run(bulk(items=items), scene.kept))) == 6
    assert sorted(batch["model"] for batch in batches(scene)) == ["gpt-4o", "gpt-4o-mini"]


def test_labels_and_rows_that_cannot_be_sent_are_as_in_any_bulk_task(scene: Scene, bulk: Bulk) -> None:
    items = [{"input": "Yes?", "custom_id": "a"}, {"input": "No?", "temperature": 9}, {"input": "So?"}]
    result = scene.run(bulk(items=items), scene.kept)
    assert set(results(result)) == {0, 2}
    assert "temperature" in errors(result)[1]
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
    assert set(results(result)) == set(range(ROWS)) - {4}
    assert errors(result) == {4: "HTTP 400: No."}
    assert len(batches(scene)) == 2


def test_what_a_batch_has_not_come_to_is_sent_again(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=8, expires_after=1))
    result = scene.run(bulk(), scene.kept)
    assert len(results(result)) == ROWS
    assert set(asked(scene).values()) == {1}
    assert [batch["status"] for batch in batches(scene)] == ["expired", "completed"]


def test_the_end_of_the_window_collects_what_is_paid_for_and_names_the_rest_as_expired(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=16, cancelling=0.5))
    monkeypatch.setattr("airflow_provider_openai_runs.operators.by_batch.LEAST_WINDOW", 0)
    with pytest.raises(RunTimeoutError, match="completion_window=2 was over"):
        scene.run(bulk(completion_window=2, deferrable=True), scene.kept)
    result = xcom(scene.kept)
    assert 0 < result["succeeded"] < ROWS
    assert result["succeeded"] == len(results(result)) == sum(asked(scene).values())
    assert result["failed"] == ROWS - result["succeeded"]
    assert all(error.startswith("expired: completion_window") for error in errors(result).values())
    assert [batch["status"] for batch in batches(scene)] == ["cancelled"]


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
            die_at(dies, f"airflow_provider_openai_runs.{place}", before=before)
        with pytest.raises(Killed):
            scene.run(bulk(), scene.kept)
    result = scene.run(bulk(), scene.retry(scene.kept))
    assert len(results(result)) == ROWS
    assert len(batches(scene)) == 1
    assert uploads(scene) == 1


def _raise_killed(*_: Any, **__: Any) -> None:
    raise Killed


def test_a_lost_create_is_found_by_its_token_and_the_log_says_that_it_is_searched_for(
    scene: Scene, bulk: Bulk
) -> None:
    scene.simulator.script_batches(BatchScenario(hidden_for=0.3))
    scene.simulator.fault(Fault(method="POST", path="/batches$", kind="lost"))
    log = scene.log_of(task := bulk())
    assert len(results(scene.run(task, scene.kept))) == ROWS
    [batch] = batches(scene)
    [line] = [line for line in log if "searching for it" in line]
    assert f"{ROWS} items wait for the batch with airflow_token {batch['metadata']['airflow_token']}" in line


def test_batches_whose_polls_fail_are_waited_for_and_the_log_says_why(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.session._SAY_EVERY", 0.1)
    scene.simulator.fault(Fault(method="GET", path="/batches/", status=503, times=2))
    log = scene.log_of(task := bulk())
    assert len(results(scene.run(task, scene.kept))) == ROWS
    assert any("polls failed, going on" in line and "503" in line for line in log)


def test_a_lost_create_is_a_lost_item_where_no_list_tells_unless_it_may_be_sent_again(
    scene: Scene, bulk: Bulk
) -> None:
    lost = Fault(method="POST", path="/batches$", kind="lost")
    no_list = Fault(method="GET", path="/batches$", kind="status", status=404, times=None)
    scene.simulator.fault(lost, no_list)
    with pytest.raises(RunEndedError, match=f"{ROWS} lost"):
        scene.run(bulk(), scene.kept)
    assert len(batches(scene)) == 1

    scene.simulator.fault(lost, no_list)
    cleared = scene.clear(scene.kept)
    result = scene.run(bulk(on_lost_create="resubmit"), cleared)
    assert len(results(result)) == ROWS
    assert len(batches(scene)) == 3

    scene.simulator.fault(Fault(method="POST", path="/batches$", kind="lost", times=2), no_list)
    with pytest.raises(RunEndedError, match=f"{ROWS} lost"):
        scene.run(bulk(on_lost_create="resubmit"), scene.clear(cleared))
    assert len(batches(scene)) == 5


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
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS


def test_a_create_that_never_arrived_is_sent_again(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.fault(Fault(method="POST", path="/batches$", kind="reset"))
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS
    assert len(batches(scene)) == 1


def test_a_full_queue_is_waited_for_and_a_batch_that_is_too_large_for_it_is_halved(
    scene: Scene, bulk: Bulk
) -> None:
    scene.simulator.limit(Limits(enqueued_tokens=30))
    log = scene.log_of(task := bulk(deferrable=True))
    result = scene.run(task, scene.kept)
    assert len(results(result)) == ROWS
    assert any("is failed" in line and "Enqueued token limit" in line for line in log), log
    assert any(f"its {ROWS} items may be sent again, after " in line for line in log)
    assert set(asked(scene).values()) == {1}


def test_a_batch_that_fails_for_one_of_its_rows_is_sent_again_without_it(scene: Scene, bulk: Bulk) -> None:
    error = {"code": "invalid_type", "message": "Not this one.", "line": 3}
    scene.simulator.script_batches(BatchScenario(error=error))
    result = scene.run(bulk(), scene.kept)
    assert set(results(result)) == set(range(ROWS)) - {2}
    assert "Not this one" in errors(result)[2]


def test_a_batch_that_fails_as_a_whole_fails_its_items_with_the_reason(scene: Scene, bulk: Bulk) -> None:
    with pytest.raises(RunEndedError, match="Not a single item succeeded"):
        scene.run(bulk(model="no-such-model"), scene.kept)
    assert "is not supported by the Batch API" in errors(xcom(scene.kept))[0]


def test_a_refused_key_fails_the_task_and_no_item(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.attempt.PERMANENT_FAILURE_BUDGET", 0.5)
    scene.simulator.fault(Fault(method="POST", path="/batches$", status=401, times=None))
    with pytest.raises(RunConnectionError, match="refused the key"):
        scene.run(bulk(), scene.kept)
    assert batches(scene) == []


def test_more_failures_than_allowed_end_the_task(scene: Scene, bulk: Bulk, small_files: None) -> None:
    error = {"code": "invalid_prompt", "message": "No."}
    scene.simulator.script(Scenario(ends="failed", error=error, times=None))
    scene.simulator.script_batches(BatchScenario(), BatchScenario(in_progress=60, times=None))
    with pytest.raises(RunEndedError, match="max_failed=5"):
        scene.run(bulk(max_failed=5), scene.kept)
    assert {batch["status"] for batch in batches(scene)} == {"completed", "cancelled"}


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
