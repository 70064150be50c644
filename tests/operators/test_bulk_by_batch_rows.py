# SPDX-License-Identifier: Apache-2.0
"""What becomes of each row of a batch: what was executed is never bought again, what was not costs no try."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk.batch.lines import from_line
from airflow_provider_openai_runs.exceptions import RunCallError, RunConnectionError, RunEndedError
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import BatchScenario, Fault, Scenario
from airflow_provider_openai_runs.simulator.batch import Batch
from airflow_provider_openai_runs.wire.response_replies import read_created
from tests.support import batch_operators
from tests.support.batch_operators import ROWS, asked, batches, errors, results, xcom
from tests.support.scene import FakeStore, Scene

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = batch_operators.bulk
small_files = batch_operators.small_files


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait shortly for files that are late."""
    collecting = "airflow_provider_openai_runs.bulk.batch.collecting"
    monkeypatch.setattr(f"{collecting}.BATCH_FILE_PAUSES", (0.05, 0.05), raising=False)


def _show_late(monkeypatch: pytest.MonkeyPatch, *, polls: int, without: str, **counts: int) -> None:
    """Let the first polls of a batch that has completed lack its file of responses."""
    render, left = Batch.render, iter(range(polls))

    def late(self: Batch, now: float) -> dict[str, Any]:
        shown = render(self, now)
        if shown["status"] == "completed" and next(left, None) is not None:
            return {**shown, without: None, "request_counts": {**shown["request_counts"], **counts}}
        return shown

    monkeypatch.setattr(Batch, "render", late)


def test_a_file_of_responses_that_is_not_there_yet_is_waited_for(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.fault(Fault(method="GET", path="/files/[^/]+/content$", kind="status", status=404))
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS
    assert set(asked(scene).values()) == {1}


@pytest.mark.parametrize("counts", [{}, {"total": 0, "completed": 0}], ids=["counted", "not counted"])
def test_a_batch_that_does_not_name_its_responses_yet_is_asked_again(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]
) -> None:
    _show_late(monkeypatch, polls=2, without="output_file_id", **counts)
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS
    assert set(asked(scene).values()) == {1}


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("completed", {"total": ROWS, "completed": 0, "failed": 0}),
        ("completed", {"total": ROWS, "completed": 3, "failed": 0}),
        ("completed", None),
        ("expired", None),
        ("cancelled", {"total": ROWS}),
    ],
    ids=str,
)
def test_files_that_come_after_the_end_are_waited_for_whatever_the_counts_leave_open(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, status: str, counts: dict[str, int] | None
) -> None:
    render, left = Batch.render, iter(range(2))

    def late(self: Batch, now: float) -> dict[str, Any]:
        shown = render(self, now)
        if shown["status"] != "completed":
            return shown
        shown = {**shown, "status": status, "request_counts": counts}
        return shown if next(left, None) is None else {**shown, "output_file_id": None}

    monkeypatch.setattr(Batch, "render", late)
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS
    assert set(asked(scene).values()) == {1}


def test_a_full_queue_is_what_a_batch_says_that_has_ended_and_not_one_that_goes_on(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = Batch.render
    full = {"data": [{"code": "token_limit_exceeded", "message": "It is tried again."}]}

    def waits(self: Batch, now: float) -> dict[str, Any]:
        shown = render(self, now)
        return {**shown, "errors": full} if shown["status"] == "validating" else shown

    monkeypatch.setattr(Batch, "render", waits)
    scene.simulator.script_batches(BatchScenario(validating=0.5, in_progress=0.1))
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS
    assert len(batches(scene)) == 1


@pytest.mark.parametrize("status", [404, 400, 405, 422])
@pytest.mark.parametrize("policy", ["fail", "resubmit"])
def test_a_list_that_is_refused_once_is_asked_for_again(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, policy: str, status: int
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.attempt.BATCH_MISSING_SECONDS", 30.0)
    scene.simulator.fault(
        Fault(method="POST", path="/batches$", kind="lost"),
        Fault(method="GET", path="/batches$", kind="status", status=status),
    )
    assert len(results(scene.run(bulk(on_lost_create=policy), scene.kept))) == ROWS
    assert set(asked(scene).values()) == {1}


def test_a_lost_create_is_no_second_batch_where_the_list_shows_no_metadata(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = Batch.render
    monkeypatch.setattr(Batch, "render", lambda self, now: {**render(self, now), "metadata": None})
    scene.simulator.fault(Fault(method="POST", path="/batches$", kind="lost"))
    with pytest.raises(RunEndedError, match="without its metadata"):
        scene.run(bulk(), scene.kept)
    assert len(batches(scene)) == 1
    assert all("It may be going and billing" in error for error in errors(xcom(scene.kept)).values())


def test_a_line_whose_row_has_thousands_of_digits_is_of_no_row() -> None:
    assert from_line(b'{"custom_id": "row-%s", "response": null}' % (b"9" * 5000)) is None


def test_a_line_with_an_error_hides_no_response_of_the_same_row(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Batch.lines

    def both(self: Batch, kind: Any, now: float) -> Any:
        for line in lines(self, kind, now):
            yield {**line, "response": None, "error": {"code": "server_error", "message": "Again."}}
            yield line

    monkeypatch.setattr(Batch, "lines", both)
    assert len(results(scene.run(bulk(item_retries=0), scene.kept))) == ROWS
    assert set(asked(scene).values()) == {1}


def test_responses_that_are_gone_for_good_are_named_and_not_bought_again(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Fault(method="GET", path="/files/[^/]+/content$", status=404, message="No such file.", times=None)
    scene.simulator.fault(gone)
    with pytest.raises(RunEndedError, match="Not a single item succeeded"):
        scene.run(bulk(), scene.kept)
    (batch,) = batches(scene)
    output = scene.get(f"/batches/{batch['id']}")["output_file_id"]
    found = errors(xcom(scene.kept))
    assert len(found) == ROWS
    assert all(batch["id"] in error and output in error for error in found.values())


@pytest.mark.parametrize("retries", [2, 0])
def test_responses_that_a_gateway_keeps_away_are_left_to_a_retry_where_there_is_one(
    scene: Scene, bulk: Bulk, retries: int
) -> None:
    away = Fault(
        method="GET", path="/files/[^/]+/content$", status=404, message="no healthy upstream", times=3
    )
    scene.simulator.fault(away)
    context = scene.context_of(scene.store, max_tries=retries)
    with pytest.raises(RunCallError if retries else RunEndedError, match=r"retry reads it|Not a single item"):
        scene.run(bulk(), context)
    if retries:
        assert len(results(scene.run(bulk(), scene.retry(context)))) == ROWS
    else:
        assert all("it is not sent again" in error for error in errors(xcom(context)).values())
    assert set(asked(scene).values()) == {1}


def test_a_batch_that_a_gateway_does_not_know_is_waited_for(scene: Scene, bulk: Bulk) -> None:
    away = Fault(method="GET", path="/batches/", status=404, message="no healthy upstream", times=12)
    scene.simulator.fault(away)
    assert len(results(scene.run(bulk(poll_interval=0.1), scene.kept))) == ROWS
    assert set(asked(scene).values()) == {1}


@pytest.mark.usefixtures("small_files")
def test_a_file_that_the_server_refuses_to_give_keeps_no_other_batch_from_being_read(
    scene: Scene, bulk: Bulk
) -> None:
    refused = Fault(method="GET", path="/files/[^/]+/content$", kind="status", status=400, times=3)
    scene.simulator.fault(refused)
    result = scene.run(bulk(max_failed=None), scene.kept)
    lost = errors(result)
    assert len(lost) == 8
    assert len(results(result)) == ROWS - 8
    assert all("it is not sent again" in error for error in lost.values())
    assert set(asked(scene).values()) == {1}


def test_a_response_that_cannot_be_read_is_the_error_of_its_row_alone(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(data: Any, **given: Any) -> Any:
        if "Question 3" in str(data):
            raise TypeError("unhashable type: 'list'")
        return read_created(data, **given)

    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.collecting.read_created", read)
    result = scene.run(bulk(items=["Question 2", "Question 3", "Question 4"]), scene.kept)
    assert sorted(results(result)) == [0, 2]
    assert "cannot be read" in errors(result)[1]


def test_what_failed_is_sent_again_where_only_the_file_of_errors_is_missing(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"code": "server_error", "message": "Oh."}
    scene.simulator.script(Scenario(when="Question 3$", ends="failed", error=error, times=1))
    _show_late(monkeypatch, polls=10, without="error_file_id")
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS
    assert len(batches(scene)) == 2


def test_a_batch_of_an_earlier_dag_run_with_the_same_name_is_not_taken_for_a_lost_create(
    scene: Scene, bulk: Bulk
) -> None:
    scene.run(bulk(), scene.kept)
    assert len(batches(scene)) == 1
    # The Dag run is deleted, with its state and its files, and made again.
    again = scene.context_of(FakeStore())
    scene.simulator.fault(Fault(method="POST", path="/batches$", kind="reset"))
    result = scene.run(bulk(output_path=f"{bulk().output_path}-again"), again)
    assert len(results(result)) == ROWS
    assert len(batches(scene)) == 2


def test_rows_lose_no_try_for_the_sake_of_others_in_their_batch(scene: Scene, bulk: Bulk) -> None:
    error = {"code": "invalid_type", "message": "Not this one.", "line": 1}
    scene.simulator.script_batches(BatchScenario(error=error, times=4))
    result = scene.run(bulk(item_retries=0), scene.kept)
    assert set(results(result)) == set(range(4, ROWS))
    assert all("Not this one" in error for error in errors(result).values())


def test_a_row_that_is_named_for_a_passing_reason_is_tried_again(scene: Scene, bulk: Bulk) -> None:
    error = {"code": "server_error", "message": "Oh.", "line": 1}
    scene.simulator.script_batches(BatchScenario(error=error))
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS


@pytest.mark.parametrize("code", ["server_error", "invalid_file_format"])
def test_a_batch_that_fails_as_a_whole_is_sent_again_where_its_reason_may_pass(
    scene: Scene, bulk: Bulk, code: str
) -> None:
    scene.simulator.script_batches(BatchScenario(error={"code": code, "message": "Oh."}))
    if code == "server_error":
        assert len(results(scene.run(bulk(), scene.kept))) == ROWS
        return
    with pytest.raises(RunEndedError, match="Not a single item succeeded"):
        scene.run(bulk(), scene.kept)


_NO_QUOTA = {"code": "insufficient_quota", "message": "You exceeded your current quota."}


def test_items_that_meet_an_account_without_quota_are_left_for_a_retry(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script(Scenario(when="Question 1[0-9]$", ends="failed", error=_NO_QUOTA, times=1))
    with pytest.raises(RunConnectionError, match="no quota"):
        scene.run(bulk(item_retries=0), scene.kept)
    result = scene.run(bulk(item_retries=0), scene.retry(scene.kept))
    assert len(results(result)) == ROWS
    assert len(batches(scene)) == 2


@pytest.mark.parametrize("code", ["insufficient_quota", "token_limit_exceeded"])
def test_what_a_batch_has_executed_before_it_failed_for_the_account_is_kept(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=8, expires_after=1))
    render = Batch.render

    def failing(self: Batch, now: float) -> dict[str, Any]:
        shown, errors = render(self, now), [{"code": code, "message": "No more.", "line": None}]
        is_first = next(iter(scene.simulator._store.batches)) == self.id
        if is_first and shown["status"] == "expired":
            return {**shown, "status": "failed", "error_file_id": None, "errors": {"data": errors}} | {
                "request_counts": {**shown["request_counts"], "failed": 0}
            }
        return shown

    monkeypatch.setattr(Batch, "render", failing)
    if code == "insufficient_quota":
        with pytest.raises(RunConnectionError, match="no quota"):
            scene.run(bulk(), scene.kept)
    result = scene.run(bulk(), scene.retry(scene.kept))
    assert len(results(result)) == ROWS
    assert set(asked(scene).values()) == {1}


def test_a_batch_that_somebody_else_cancels_takes_a_try_of_its_items(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.05, times=None))
    ends = threading.Event()

    def cancel_all() -> None:
        while not ends.wait(0.05):
            for batch in batches(scene):
                if batch["status"] in {"validating", "in_progress"}:
                    scene.post(f"/batches/{batch['id']}/cancel")

    person = threading.Thread(target=cancel_all)
    person.start()
    try:
        with pytest.raises(RunEndedError, match="Not a single item succeeded"):
            scene.run(bulk(item_retries=2), scene.kept)
    finally:
        ends.set()
        person.join()
    assert len(batches(scene)) == 3
    assert "its batch was cancelled" in errors(xcom(scene.kept))[0]


@pytest.mark.parametrize(
    "argument", [{"service_tier": "flex"}, {"background_options": {"completion_window": "2h"}}]
)
def test_what_the_operator_refuses_by_batch_is_refused_of_a_row(
    scene: Scene, bulk: Bulk, argument: dict[str, Any]
) -> None:
    result = scene.run(bulk(items=["a", {"input": "b", **argument}]), scene.kept)
    assert set(results(result)) == {0}
    assert f"{next(iter(argument))} and processing='batch' exclude each other" in errors(result)[1]


def test_rows_of_many_models_in_turn_still_share_batches(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.building._MOST_OPEN", 3)
    items = [{"input": f"Ask {row}", "model": f"model-{row % 4}"} for row in range(ROWS)]
    assert len(results(scene.run(bulk(items=items), scene.kept))) == ROWS
    sizes = [len(batch.items) for batch in scene.simulator._store.batches.values()]
    assert len(sizes) < ROWS / 2
