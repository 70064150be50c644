# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.thread_run_request import thread_run_request
from airflow_provider_openai_runs.runs.usage import Usage
from airflow_provider_openai_runs.wire import wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest
from airflow_provider_openai_runs.wire.threads import WIRE, list_runs

BETA = {"OpenAI-Beta": "assistants=v2"}
REF = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="ai")
SLASHED = RunRef(kind=RunKind.THREAD_RUN, id="run/1?x", thread_id="../a b", conn_id="ai")
BARE = {"id": "run_1", "status": "in_progress"}

Drive = Callable[..., tuple[Any, list[ApiRequest[Any]]]]


def run_of(**data: Any) -> Run:
    return WIRE.retrieve(REF).read(ApiReply(data={**BARE, **data}))


def page(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(items), "has_more": False, **more}


def message(content: Any, **more: Any) -> dict[str, Any]:
    return {"id": f"msg_{content}", "run_id": "run_1", "role": "assistant", "content": content, **more}


def test_thread_runs_have_their_own_wire() -> None:
    assert wire_of(RunKind.THREAD_RUN) is WIRE


def test_a_create_is_one_paid_post_with_the_token_among_the_metadata() -> None:
    request = thread_run_request(
        thread_id="thread_1",
        assistant_id="asst_1",
        metadata={"team": "a"},
        include=["step_details.tool_calls[*].file_search.results[*].content"],
        tools=[{"type": "function", "name": "f"}],
    )
    call = WIRE.create(request, token="hash/abc", conn_id="ai")
    assert (call.method, call.path, call.headers, call.pays) == ("POST", "/threads/thread_1/runs", BETA, True)
    assert call.query == {"include": ["step_details.tool_calls[*].file_search.results[*].content"]}
    assert call.body == {
        "assistant_id": "asst_1",
        "metadata": {"team": "a", "airflow_token": "hash/abc"},
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    assert request.body["metadata"] == {"team": "a"}
    run = call.read(ApiReply(data={"id": "run_9", "status": "queued"}))
    assert run.ref == RunRef(kind=RunKind.THREAD_RUN, id="run_9", thread_id="thread_1", conn_id="ai")


def test_a_create_without_a_token_leaves_the_metadata_alone() -> None:
    request = thread_run_request(thread_id="thread_1", assistant_id="asst_1")
    call = WIRE.create(request, token=None, conn_id="ai")
    assert call.body == {"assistant_id": "asst_1"}
    assert call.query == {}


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (WIRE.poll(SLASHED), "GET", "/threads/..%2Fa%20b/runs/run%2F1%3Fx"),
        (WIRE.retrieve(SLASHED), "GET", "/threads/..%2Fa%20b/runs/run%2F1%3Fx"),
        (WIRE.cancel(SLASHED), "POST", "/threads/..%2Fa%20b/runs/run%2F1%3Fx/cancel"),
    ],
)
def test_other_calls_are_free_and_their_ids_stay_inside_their_path(
    call: ApiRequest[Any], method: str, path: str
) -> None:
    assert (call.method, call.path, call.headers) == (method, path, BETA)
    assert call.body is None
    assert not call.pays


def test_a_thread_is_created_by_a_call_of_its_own_that_costs_nothing() -> None:
    call = WIRE.create_thread({"messages": []})
    assert (call.method, call.path, call.headers) == ("POST", "/threads", BETA)
    assert call.body == {"messages": []}
    assert not call.pays
    assert call.read(ApiReply(data={"id": "thread_9"})) == "thread_9"


def test_all_answers_to_calls_go_in_one_request() -> None:
    call = WIRE.answer(run_of(), {"call_1": "a", "call_2": "b"}, None, token="ignored")
    assert (call.method, call.path) == ("POST", "/threads/thread_1/runs/run_1/submit_tool_outputs")
    assert call.pays
    assert call.body == {
        "tool_outputs": [
            {"tool_call_id": "call_1", "output": "a"},
            {"tool_call_id": "call_2", "output": "b"},
        ]
    }
    assert call.read(ApiReply(data={**BARE, "status": "queued"})).ref == REF


def test_a_poll_reads_the_status_and_the_hint_and_no_more() -> None:
    data = {**BARE, "status": "requires_action"}
    polled = WIRE.poll(REF).read(ApiReply(data=data, headers={"openai-poll-after-ms": "500"}))
    assert polled.status is RunStatus.REQUIRES_ACTION
    assert (polled.raw_status, polled.poll_after, polled.needs_action) == ("requires_action", 0.5, True)


@pytest.mark.parametrize("status", ["cancelled", "completed", "requires_action", "cancelling"])
def test_a_cancel_tells_how_the_run_stands_whatever_the_server_made_of_it(status: str) -> None:
    assert WIRE.cancel(REF).read(ApiReply(data={**BARE, "status": status})).status == status


def test_quirks_of_other_servers_are_read_all_the_same() -> None:
    run = run_of(
        created_at=1_700_000_000_123,
        started_at=1_700_000_001.25,
        completed_at=0,
        metadata=None,
        tools=None,
        usage=None,
        instructions=None,
        last_error={},
    )
    assert (run.created_at, run.started_at, run.completed_at) == (1_700_000_000, 1_700_000_001, None)
    assert run.metadata == {}
    assert run.tools == ()
    assert (run.usage, run.instructions, run.last_error) == (None, None, None)


@pytest.mark.parametrize("data", [{"detail": "Not Found"}, {"error": {"message": "no"}}, {"id": "run_1"}])
def test_an_error_in_the_place_of_a_run_is_unreadable(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the answer has no"):
        WIRE.retrieve(REF).read(ApiReply(data=data))


def test_pending_calls_are_read_with_their_arguments_as_text() -> None:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "call_2", "function": {"name": "g", "arguments": {"b": 2}}},
    ]
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
    pending = run_of(status="requires_action", required_action=action).tool_calls
    assert [(call.id, call.name, call.arguments, call.type) for call in pending] == [
        ("call_1", "f", '{"a": 1}', "function"),
        ("call_2", "g", '{"b": 2}', "function"),
    ]
    assert run_of(status="in_progress", required_action=action).tool_calls == ()


def wanted(*calls: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": list(calls)}}
    pending = run_of(status="requires_action", required_action=action).tool_calls
    return [(call.id, call.name, call.arguments, call.type) for call in pending]


@pytest.mark.parametrize("more", [{"output": "7"}, {"result": 7}, {"error": "down"}, {"status": "failed"}])
def test_a_call_that_says_what_came_of_it_is_not_pending(more: dict[str, Any]) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}", "output": None}}
    open_call = ("c2", "f", "{}", "function")
    assert wanted(call | more, call | {"id": "c2"}) == [open_call]
    assert wanted(call | {"function": {"name": "f"} | more}, call | {"id": "c2"}) == [open_call]


def test_the_very_same_call_twice_is_one() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert wanted(call, call) == [("c1", "f", "{}", "function")]


@pytest.mark.parametrize("arguments", [{"arguments": None}, {"arguments": " null"}, {"arguments": ""}, {}])
def test_a_call_of_no_arguments_has_an_empty_object_of_them(arguments: dict[str, Any]) -> None:
    assert wanted({"id": "c1", "function": {"name": "f"} | arguments}) == [("c1", "f", "{}", "function")]
    assert wanted({"id": "c1", "type": "mcp", "name": "f"} | {"arguments": None}) == [
        ("c1", "f", "{}", "mcp")
    ]


@pytest.mark.parametrize(
    ("kind", "action", "name", "arguments"),
    [
        ("openapi", {"name": "get", "arguments": '{"a": 1}'}, "get", '{"a": 1}'),
        ("openapi", {"path": "/rows"}, "openapi", '{"path": "/rows"}'),
        (
            "computer_use_preview",
            {"action": {"type": "click"}},
            "computer_use_preview",
            '{"action": {"type": "click"}}',
        ),
    ],
)
def test_a_call_of_another_type_says_what_is_to_be_done(
    kind: str, action: dict[str, Any], name: str, arguments: str
) -> None:
    assert wanted({"id": "c1", "type": kind, kind: action}) == [("c1", name, arguments, kind)]
    assert wanted({"id": "c1", "type": kind, **action}) == [("c1", name, arguments, kind)]


@pytest.mark.parametrize(
    ("data", "files"),
    [
        ({"file_ids": ["file_1", None]}, ("file_1",)),
        ({"file_ids": [], "tool_resources": {"code_interpreter": {"file_ids": ["file_2"]}}}, ()),
        ({"tool_resources": {"code_interpreter": {"file_ids": ["file_2", 5]}}}, ("file_2",)),
        ({"tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}}, ()),
        ({}, ()),
    ],
)
def test_files_come_from_the_run_or_else_from_its_tools(data: dict[str, Any], files: tuple[str, ...]) -> None:
    assert run_of(**data).file_ids == files


@pytest.mark.parametrize(
    "content",
    [
        "Hello",
        ["Hello"],
        [{"type": "text", "text": {"value": "Hello", "annotations": []}}],
        [{"type": "text", "text": "Hello"}],
        [{"type": "text", "text": ["Hel", "lo", None]}],
        [{"type": "text", "text": [{"value": "Hel"}, {"value": "lo"}]}],
        [{"type": "image_file"}, {"type": "text", "text": {"value": "Hello"}}],
        {"type": "text", "text": {"value": "Hello"}},
        {"value": "Hello"},
        [{"type": "output_text", "text": "Hello"}],
        [{"type": "reasoning", "text": "Hm."}, "Hello"],
    ],
)
def test_the_text_of_a_message_is_found_in_every_shape(content: Any, drive: Drive) -> None:
    run, _ = drive(WIRE.complete(run_of(), steps=False), [page(message(content))])
    assert run.output_text == "Hello"


def test_the_answer_is_what_the_assistant_wrote_in_this_run(drive: Drive) -> None:
    listed = page(
        message("mine", role="user"),
        message("another run", run_id="run_0"),
        message("first", attachments=[{"file_id": "file_2"}, {"file_id": "file_1"}, {}]),
        message("second"),
    )
    run, calls = drive(WIRE.complete(run_of(file_ids=["file_1"]), steps=False), [listed])
    assert run.output_text == "first\nsecond"
    assert run.file_ids == ("file_1", "file_2")
    assert run.steps is None
    assert [(call.method, call.path) for call in calls] == [("GET", "/threads/thread_1/messages")]
    assert calls[0].query == {"run_id": "run_1", "order": "asc", "limit": 100}
    assert calls[0].headers == BETA


def test_steps_are_read_over_all_pages(drive: Drive) -> None:
    step = {"type": "tool_calls", "status": "completed", "step_details": {"tool_calls": [1]}}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    run, calls = drive(
        WIRE.complete(run_of(), steps=True),
        [
            page(),
            page({"id": "s1", **step, "usage": usage}, {"id": "s2", **step}, has_more=True, last_id="s2"),
            page({"id": "s3", "step_details": {"type": "message_creation"}}, last_id="s3"),
        ],
    )
    assert [step.id for step in run.steps] == ["s1", "s2", "s3"]
    assert [step.type for step in run.steps] == ["tool_calls", "tool_calls", "message_creation"]
    assert run.steps[0].details == {"tool_calls": [1]}
    assert run.steps[0].usage == Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    assert run.output_text is None
    assert [call.path for call in calls[1:]] == ["/threads/thread_1/runs/run_1/steps"] * 2
    assert [call.query.get("after") for call in calls[1:]] == [None, "s2"]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_messages_and_steps_has_none(status: int, drive: Drive) -> None:
    run, _ = drive(WIRE.complete(run_of(), steps=True), [status, status])
    assert run.output_text is None
    assert run.steps == ()


def test_any_other_failure_of_a_list_is_raised(drive: Drive) -> None:
    with pytest.raises(ApiRequestFailed, match="HTTP 500"):
        drive(WIRE.complete(run_of(), steps=True), [500])


def test_a_thread_without_runs_to_list_is_a_failure(drive: Drive) -> None:
    with pytest.raises(ApiRequestFailed):
        drive(list_runs("thread_1", conn_id="ai"), [404])


@pytest.mark.parametrize("step", [{"id": "s1"}, {"id": "s1", "x": 1}, {}, {"id": ["odd"]}, {"id": None}])
@pytest.mark.parametrize("last_id", ["s1", None, "", 5, "never seen"])
def test_a_page_that_repeats_for_ever_ends(step: dict[str, Any], last_id: object, drive: Drive) -> None:
    again = page(step, has_more=True, last_id=last_id)
    run, calls = drive(WIRE.complete(run_of(), steps=True), [page(), *[again] * 5])
    assert len(calls) <= 3
    assert len(run.steps) <= 2


def test_a_list_that_never_ends_is_cut(drive: Drive) -> None:
    endless = [page({"id": f"s{n}"}, has_more=True) for n in range(500)]
    run, calls = drive(WIRE.complete(run_of(), steps=True), [page(), *endless])
    assert len(run.steps) == len(calls) - 1 == 100


def test_items_without_an_id_are_all_kept(drive: Drive) -> None:
    run, _ = drive(WIRE.complete(run_of(), steps=True), [page(), page({"type": "a"}, {"type": "b"})])
    assert [step.type for step in run.steps] == ["a", "b"]


def test_the_runs_of_a_thread_are_listed(drive: Drive) -> None:
    runs, calls = drive(list_runs("a/b", conn_id="ai"), [page(BARE)])
    assert [run.ref.id for run in runs] == ["run_1"]
    assert calls[0].path == "/threads/a%2Fb/runs"
    assert calls[0].query == {"order": "desc", "limit": 100}


@pytest.mark.parametrize(
    "unfit", [{}, {"id": None}, {"id": "a\nb"}, {"id": "\ud800"}, {"id": "x" * 600}], ids=str
)
def test_a_listed_run_with_an_unfit_id_does_not_hurt_the_others(unfit: dict[str, Any], drive: Drive) -> None:
    first = page({**BARE, **unfit} if unfit else {"status": "queued"}, BARE, {**BARE, **unfit}, has_more=True)
    runs, calls = drive(list_runs("t", conn_id="ai"), [first, page({**BARE, "id": "run_2"})])
    assert [run.ref.id for run in runs] == ["run_1", "run_2"]
    assert calls[1].query["after"] == "run_1"


@pytest.mark.parametrize("status", [None, "", 5, ["queued"], {}])
def test_a_listed_run_with_an_odd_status_is_one_whose_status_is_unknown(status: object, drive: Drive) -> None:
    (run,), _ = drive(list_runs("t", conn_id="ai"), [page({"id": "run_1", "status": status})])
    assert (run.raw_status, run.status.is_active) == ("unknown", True)


def test_answers_that_nobody_signed_are_those_since_the_run_was_created(drive: Drive) -> None:
    listed = page(
        message("old", run_id=None, created_at=1_700_000_000),
        message("asked", run_id=None, role="user", created_at=1_700_000_100),
        message("new", run_id=None, created_at=1_700_000_200_000),
        message("undated", run_id=None),
        message("another run", run_id="run_0", created_at=1_700_000_200),
    )
    run, _ = drive(WIRE.complete(run_of(created_at=1_700_000_100), steps=False), [listed])
    assert run.output_text == "new\nundated"


def test_messages_of_one_second_are_turned_around_with_their_list(drive: Drive) -> None:
    newest_first = page(
        message("three", created_at=20), message("two", created_at=20), message("one", created_at=10)
    )
    for answers in ([newest_first], [400, newest_first]):
        run, _ = drive(WIRE.complete(run_of(), steps=False), answers)
        assert run.output_text == "one\ntwo\nthree"


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_the_query_of_a_list_is_asked_without_it(status: int, drive: Drive) -> None:
    newest_first = page(message("two", created_at=20), message("one", created_at=10), has_more=True)
    rest = page(message("zero", created_at=5))
    run, calls = drive(WIRE.complete(run_of(), steps=False), [status, newest_first, rest])
    assert run.output_text == "zero\none\ntwo"
    assert [call.query for call in calls[1:]] == [{}, {"after": "msg_one"}]


def test_a_list_that_is_refused_in_any_form_is_an_error(drive: Drive) -> None:
    with pytest.raises(ApiRequestFailed):
        drive(WIRE.complete(run_of(), steps=False), [400, 400])


def test_a_reply_replaces_neither_the_id_nor_the_thread_that_was_asked_for() -> None:
    for data in ({"id": "run_other", "thread_id": "thread_other"}, {"id": None}):
        assert WIRE.retrieve(REF).read(ApiReply(data={**BARE, **data})).ref == REF


def test_a_create_that_names_an_id_and_nothing_else_keeps_the_id() -> None:
    request = thread_run_request(thread_id="thread_1", assistant_id="asst_1")
    run = WIRE.create(request, token=None, conn_id="ai").read(ApiReply(data={"id": "run_9"}))
    assert (run.ref.id, run.ref.thread_id, run.raw_status) == ("run_9", "thread_1", "unknown")


def answered(drive: Drive, *contents: Any) -> Run:
    run = WIRE.retrieve(REF).read(ApiReply(data={**BARE, "status": "completed"}))
    asked = {"id": "msg_0", "role": "user", "content": "Hi"}
    own = [
        {"id": f"msg_{place}", "role": "assistant", "run_id": "run_1", "content": content}
        for place, content in enumerate(contents, 1)
    ]
    found, _ = drive(WIRE.complete(run, steps=False), [{"data": [asked, *own]}])
    assert isinstance(found, Run)
    return found


def test_the_last_message_of_a_run_is_its_typed_answer(drive: Drive) -> None:
    parts = [[{"type": "text", "text": {"value": word}}] for word in ("One.", "Two.")]
    run = answered(drive, *parts)
    assert (run.output_text, run.final_text, run.is_empty) == ("One.\nTwo.", "Two.", False)


def test_a_refusing_message_is_a_refusal(drive: Drive) -> None:
    run = answered(drive, [{"type": "refusal", "refusal": "I cannot help."}])
    assert (run.refusal, run.output_text, run.is_empty) == ("I cannot help.", None, False)


def test_a_run_without_a_message_of_its_own_is_empty(drive: Drive) -> None:
    assert answered(drive).is_empty
    assert answered(drive, []).is_empty
    assert not answered(drive, [{"type": "image_file", "image_file": {"file_id": "file_1"}}]).is_empty


@pytest.mark.parametrize("content", [[], None])
def test_a_refusal_beside_the_content_is_one(drive: Drive, content: Any) -> None:
    refused = message(content, refusal="I cannot help.")
    run, _ = drive(WIRE.complete(run_of(status="completed"), steps=False), [page(refused)])
    assert (run.refusal, run.output_text, run.is_empty) == ("I cannot help.", None, False)


@pytest.mark.parametrize(
    ("content", "empty"),
    [
        ("", True),
        (" \n", True),
        ([{"type": "text", "text": {"value": "", "annotations": []}}], True),
        ([{"type": "image_url", "image_url": {"url": "https://x/a.png"}}], False),
        ([{"type": "audio", "transcript": "Hi"}], False),
    ],
)
def test_white_space_is_no_answer_and_a_picture_is_one(drive: Drive, content: Any, empty: bool) -> None:
    assert answered(drive, content).is_empty is empty
    assert answered(drive, "One.", content).final_text == ("Hi" if "audio" in str(content) else "One.")


def test_a_message_that_was_cut_says_why_though_its_run_is_completed(drive: Drive) -> None:
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_tokens"}}
    for last, why in ((cut, {"reason": "max_tokens"}), ({**cut, "status": "completed"}, None)):
        listed = page(message("one"), message('{"na', **last))
        run, _ = drive(WIRE.complete(run_of(status="completed"), steps=False), [listed])
        assert run.incomplete_details == why


def written(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"id": f"msg_{text}", "role": role, "content": text, **more}


@pytest.mark.parametrize("times", [(None, None), ("yesterday", "today")], ids=["no times", "odd times"])
def test_an_answer_of_the_past_is_not_that_of_a_run_whose_beginning_nobody_knows(
    drive: Drive, times: tuple[object, object]
) -> None:
    old, new = times
    listed = page(
        written("assistant", "old", created_at=old),
        written("user", "question", created_at=new),
        written("assistant", "new", created_at=new),
    )
    run, _ = drive(WIRE.complete(run_of(), steps=False), [listed])
    assert run.output_text == "new"


def test_messages_newest_first_are_read_oldest_first(drive: Drive) -> None:
    listed = page(
        written("assistant", "second", created_at=20, run_id=REF.id),
        written("assistant", "first", created_at=10, run_id=REF.id),
    )
    run, _ = drive(WIRE.complete(run_of(), steps=False), [listed])
    assert (run.output_text, run.final_text) == ("first\nsecond", "second")


def test_two_parts_of_an_answer_under_one_id_are_both_read(drive: Drive) -> None:
    one, two = (
        {"id": "msg_1", "role": "assistant", "run_id": REF.id, "content": text} for text in ("one", "two")
    )
    run, _ = drive(WIRE.complete(run_of(), steps=False), [page(one, two, one)])
    assert run.output_text == "one\ntwo"
