# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest
from airflow_provider_openai_runs.wire.responses import WIRE as RESPONSES
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS
from tests.support.exchanges import bodies, conversations, read

Drive = Callable[..., tuple[Any, list[ApiRequest[Any]]]]


def thread_run(data: dict[str, Any]) -> Run:
    ref = RunRef(kind=RunKind.THREAD_RUN, id=data["id"], thread_id=data["thread_id"], conn_id="ai")
    return THREADS.retrieve(ref).read(ApiReply(data=data))


def response(data: dict[str, Any]) -> Run:
    ref = RunRef(kind=RunKind.RESPONSE, id=data["id"], conn_id="ai")
    return RESPONSES.retrieve(ref).read(ApiReply(data=data))


def lists(name: str, route: str) -> list[dict[str, Any]]:
    return [one.answer for one in read(name) if one.method == "GET" and one.path.endswith(route)]


@conversations("our thread run", "AssistantsTests/BasicRunOperationsWork")
def test_a_recorded_run_goes_from_queued_to_its_answer(name: str, drive: Drive) -> None:
    runs = [thread_run(data) for data in bodies(name, "thread.run")]
    assert [run.raw_status for run in runs] == ["queued", "queued", "in_progress", "completed"]
    assert all(run.created_at and run.assistant_id and run.model for run in runs)
    assert runs[0].expires_at == (runs[0].created_at or 0) + 600
    assert runs[-1].expires_at is None
    assert runs[-1].usage is not None
    assert runs[-1].usage.total_tokens > 0
    done = drive(THREADS.complete(runs[-1], steps=False), lists(name, "/messages")[-1:])[0]
    assert done.output_text
    json.dumps(done.to_xcom())


@conversations(
    "our steps on two pages", "AssistantsTests/Pagination_CanRehydrateRunStepPageCollectionFromBytes"
)
def test_recorded_steps_are_read_over_their_pages(name: str, drive: Drive) -> None:
    run = thread_run(bodies(name, "thread.run")[-1])
    pages = lists(name, "/steps")[:2]
    done, calls = drive(THREADS.complete(run, steps=True), [{"data": []}, *pages])
    assert len(done.steps) == sum(len(page["data"]) for page in pages) > 2
    assert calls[-1].query["after"] == pages[0]["last_id"]
    assert {step.type for step in done.steps} == {"tool_calls", "message_creation"}
    assert all(step.id and step.created_at and step.usage for step in done.steps)


@conversations("our function call", "AssistantsTests/FunctionToolsWork")
def test_recorded_calls_of_functions_are_pending_until_they_are_answered(name: str) -> None:
    count = {"our function call": 2, "AssistantsTests/FunctionToolsWork": 9}[name]
    runs = [thread_run(data) for data in bodies(name, "thread.run")]
    pending = [run for run in runs if run.status is RunStatus.REQUIRES_ACTION]
    assert len(pending) == count
    assert all(run.needs_action and run.tool_calls for run in pending)
    call = pending[0].tool_calls[0]
    assert call.id.startswith("call_")
    assert isinstance(json.loads(call.arguments), dict)
    assert [run.needs_action for run in runs if run not in pending] == [False] * (len(runs) - count)


@conversations("our thread run", "AssistantsTests/BasicRunOperationsWork")
def test_recorded_lists_of_runs_can_be_searched(name: str, drive: Drive) -> None:
    empty, full = lists(name, "/runs")
    for page in (empty, full):
        flow = THREADS.search(thread_id="thread_1", token="hash/abc", since=0, conn_id="ai")
        result = drive(flow, [page])[0]
        assert result.ref is None
        assert result.conclusive == all(run["metadata"] for run in page["data"])


@conversations("our cancelled response", "ResponsesTests/CanCancelBackgroundResponses")
def test_a_recorded_background_response_is_cancelled_at_once(name: str) -> None:
    first, last = map(response, bodies(name, "response"))
    assert (first.raw_status, last.raw_status) == ("queued", "cancelled")
    assert first.ref == last.ref


@conversations("our only a call", "ResponsesTests/FunctionToolChoiceWorks")
def test_a_recorded_answer_that_is_only_a_call_needs_action(name: str) -> None:
    (data,) = bodies(name, "response")
    run = response(data)
    assert run.status is RunStatus.COMPLETED
    assert run.needs_action
    assert run.output_text is None
    polled = RESPONSES.poll(run.ref).read(ApiReply(data=data))
    assert polled.needs_action


@conversations("our ceiling", "ResponsesTests/MaxTokens")
def test_a_recorded_ceiling_is_described_with_the_partial_text(name: str) -> None:
    run = response(bodies(name, "response")[0])
    assert run.status is RunStatus.INCOMPLETE
    assert run.incomplete_details == {"reason": "max_output_tokens"}
    assert run.limits == {"max_output_tokens": 20}
    assert run.output_text


@conversations("our approval", "ResponsesToolTests/MCPToolAlwaysRequiresApproval_False")
def test_a_recorded_request_for_approval_needs_action(name: str) -> None:
    asked, done = map(response, bodies(name, "response"))
    assert [call.type for call in asked.tool_calls] == ["mcp_approval_request"]
    assert not done.needs_action
    assert done.output_text
    assert done.raw == {"previous_response_id": asked.ref.id}


@conversations(
    "our thread run",
    "our function call",
    "our background response",
    "our response",
    "AssistantsTests/BasicRunStepFunctionalityWorks",
    "AssistantsTests/SettingResponseFormatWorks",
    "ResponsesTests/CanStreamBackgroundResponses",
    "ResponsesTests/MessageHistoryWorks",
    "ResponseStoreTests/GetInputItemsCollectionPage",
)
def test_every_recorded_run_becomes_json(name: str) -> None:
    found = [
        *(thread_run(data) for data in bodies(name, "thread.run")),
        *(response(data) for data in bodies(name, "response")),
    ]
    assert found
    for run in found:
        assert run.status is not RunStatus.UNKNOWN
        assert json.loads(json.dumps(run.to_xcom()))["id"] == run.ref.id
