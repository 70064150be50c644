# SPDX-License-Identifier: Apache-2.0
"""Lists that servers cut, refuse or write too large, and other requests that are sent again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire import batches, flows, thread_pages
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest, Sleep
from airflow_provider_openai_runs.wire.threads import WIRE

REF = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="ai")
RUN = Run(ref=REF, status=RunStatus.COMPLETED, raw_status="completed", object="thread.run")
LARGE = ApiRequestFailed(RequestFailure(kind=FailureKind.TOO_LARGE, text="20 MB"))
NOBODY = ApiRequestFailed(RequestFailure(kind=FailureKind.NOT_FOUND, text="Not Found", http_status=404))


def answered(flow: Any, *answers: Any) -> tuple[Any, list[Any]]:
    """Give a flow these answers, or errors, one after the other; return its result, and what it asked for."""
    asked = [next(flow)]
    for answer in answers:
        try:
            error = isinstance(answer, Exception)
            asked.append(flow.throw(answer) if error else flow.send(answer))
        except StopIteration as ended:
            return ended.value, asked
    raise AssertionError(f"it goes on: {asked[-1]}")


def page(*items: Any, **more: Any) -> ApiReply:
    return ApiReply(data={"data": [*items], **more})


def message(run_id: str, number: int) -> dict[str, Any]:
    return {"id": f"msg_{number}", "run_id": run_id, "role": "assistant", "content": f"Text {number}."}


def test_no_server_keeps_a_read_waiting_for_an_hour() -> None:
    late = RequestFailure(kind=FailureKind.RETRY_LATER, text="later", retry_after=3600.0)
    request = ApiRequest(method="GET", path="/x", read=lambda _: None)
    flow = flows.with_retries(flows.single(request), budget=300)
    next(flow)
    paused = flow.throw(ApiRequestFailed(late))
    assert isinstance(paused, Sleep)
    assert paused.seconds == 120


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    large = ApiRequestFailed(RequestFailure(kind=FailureKind.TOO_LARGE, text="20 MB"))
    flow = thread_pages.read_list("/threads/t/runs/r/steps", {"order": "asc"})
    asked: list[Any] = [next(flow), flow.throw(large), flow.throw(large)]
    assert [request.query["limit"] for request in asked] == [100, 10, 1]
    with pytest.raises(StopIteration) as ended:
        flow.send(ApiReply(data={"data": [{"id": "step_1"}], "has_more": False}))
    assert [item["id"] for item in ended.value.value.items] == ["step_1"]


OLD = [message("run_0", number) for number in range(100)]


def test_the_answer_of_a_run_is_read_from_the_newest_where_a_list_is_cut() -> None:
    newest = [message("run_1", 151), message("run_1", 150), *OLD[2:]]
    run, asked = answered(WIRE.complete(RUN, steps=False), page(*OLD), page(*newest))
    assert [request.query["order"] for request in asked] == ["asc", "desc"]
    assert (run.output_text, run.final_text) == ("Text 150.\nText 151.", "Text 151.")
    assert (run.is_empty, run.is_unread) == (False, False)


def test_what_a_cut_list_does_not_show_is_unread_and_not_empty() -> None:
    run, _ = answered(WIRE.complete(RUN, steps=False), page(*OLD), page(*OLD))
    assert (run.output_text, run.is_empty, run.is_unread) == (None, False, True)
    run, _ = answered(WIRE.complete(RUN, steps=False), NOBODY)
    assert (run.is_empty, run.is_unread) == (False, True)
    run, _ = answered(WIRE.complete(RUN, steps=False), page(message("run_0", 1), has_more=False))
    assert (run.is_empty, run.is_unread) == (True, False)


@pytest.mark.parametrize("status", [405, 501])
def test_a_server_that_has_no_messages_leaves_nothing_unread(status: int) -> None:
    missing = ApiRequestFailed(RequestFailure(kind=FailureKind.REJECTED, text="No.", http_status=status))
    run, _ = answered(WIRE.complete(RUN, steps=False), missing)
    assert (run.output_text, run.is_empty, run.is_unread) == (None, False, False)


def test_steps_that_are_too_large_do_not_cost_the_answer() -> None:
    said = page(message("run_1", 1), has_more=False)
    run, asked = answered(WIRE.complete(RUN, steps=True), said, LARGE, LARGE, LARGE)
    assert [request.query.get("limit") for request in asked] == [100, 100, 10, 1]
    assert (run.output_text, run.steps, run.steps_truncated) == ("Text 1.", (), True)
    with pytest.raises(ApiRequestFailed):
        answered(WIRE.complete(RUN, steps=True), said, NOBODY_AT_ALL)


NOBODY_AT_ALL = ApiRequestFailed(RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text="reset"))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"status": None, "completed_at": 1_800_000_000}, "completed"),
        ({"failed_at": 1_800_000_000}, "failed"),
        ({"status": "in_progress", "completed_at": 1_800_000_000}, "in_progress"),
    ],
)
def test_the_time_of_an_end_tells_a_status_that_is_missing(data: dict[str, Any], status: str) -> None:
    assert WIRE.poll(REF).read(ApiReply(data={"id": "run_1", **data})).raw_status == status


def test_an_upload_is_sent_again_where_nobody_seems_to_be_there(tmp_path: Path) -> None:
    path = tmp_path / "up"
    path.write_bytes(b"{}")
    made = "file_1"
    found, asked = answered(batches.uploaded(path, "a.jsonl"), NOBODY, None, NOBODY, None, made)
    assert found == made
    assert [type(step) for step in asked] == [ApiRequest, Sleep, ApiRequest, Sleep, ApiRequest]
    with pytest.raises(ApiRequestFailed):
        answered(batches.uploaded(path, "a.jsonl"), NOBODY, None, NOBODY, None, NOBODY)
    with pytest.raises(ApiRequestFailed):
        answered(batches.uploaded(path, "a.jsonl"), NOBODY_AT_ALL)
    assert answered(batches.uploaded(path, "a.jsonl"), made)[0] == made


def test_a_pause_may_ask_for_a_new_key() -> None:
    step = next(flows.pause(2.0, refresh_connection=True))
    assert isinstance(step, Sleep)
    assert (step.seconds, step.refresh_connection) == (2.0, True)
