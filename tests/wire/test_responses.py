# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.acquisition import SearchResult
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.response_request import response_request
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.usage import Usage
from airflow_provider_openai_runs.wire import wire_of
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest
from airflow_provider_openai_runs.wire.responses import WIRE

REF = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="ai")
SLASHED = RunRef(kind=RunKind.RESPONSE, id="resp/1?x y", conn_id="ai")
BARE = {"id": "resp_1", "status": "in_progress"}
DONE = {"id": "resp_1", "status": "completed"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'}

Drive = Callable[..., tuple[Any, list[ApiRequest[Any]]]]


def run_of(**data: Any) -> Run:
    return WIRE.retrieve(REF).read(ApiReply(data={**BARE, **data}))


def message(*parts: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "status": "completed", "content": list(parts)}


def text(value: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": value}


def test_responses_have_their_own_wire() -> None:
    assert wire_of(RunKind.RESPONSE) is WIRE


def test_a_create_is_one_paid_post_with_flat_tools_and_the_token() -> None:
    request = response_request(
        model="gpt-5",
        input="Hi",
        metadata={"team": "a"},
        tools=[
            {"type": "function", "function": {"name": "f", "strict": True}},
            {"type": "function", "name": "g", "parameters": '{"type": "object"}'},
            {"type": "code_interpreter"},
        ],
    )
    call = WIRE.create(request, token="hash/abc", conn_id="ai")
    assert (call.method, call.path, call.headers, call.pays) == ("POST", "/responses", {}, True)
    assert call.body == {
        "model": "gpt-5",
        "input": "Hi",
        "background": True,
        "store": True,
        "metadata": {"team": "a", "airflow_token": "hash/abc"},
        "tools": [
            {
                "type": "function",
                "name": "f",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            },
            {"type": "function", "name": "g", "parameters": {"type": "object"}, "strict": False},
            {"type": "code_interpreter"},
        ],
    }
    assert call.read(ApiReply(data=BARE)).ref == REF


def test_a_create_without_a_token_sends_no_metadata() -> None:
    call = WIRE.create(response_request(model="gpt-5", input="Hi"), token=None, conn_id="ai")
    assert call.body is not None
    assert "metadata" not in call.body


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (WIRE.poll(SLASHED), "GET", "/responses/resp%2F1%3Fx%20y"),
        (WIRE.retrieve(SLASHED), "GET", "/responses/resp%2F1%3Fx%20y"),
        (WIRE.cancel(SLASHED), "POST", "/responses/resp%2F1%3Fx%20y/cancel"),
    ],
)
def test_other_calls_are_free_and_their_ids_stay_inside_their_path(
    call: ApiRequest[Any], method: str, path: str
) -> None:
    assert (call.method, call.path, call.headers, call.body) == (method, path, {}, None)
    assert not call.pays


@pytest.mark.parametrize("kind", ["function_call", "custom_tool_call", "computer_call", "local_shell_call"])
def test_completed_with_a_pending_call_is_no_answer(kind: str) -> None:
    polled = WIRE.poll(REF).read(ApiReply(data={**DONE, "output": [{"type": "reasoning"}, {"type": kind}]}))
    assert polled.status is RunStatus.COMPLETED
    assert polled.needs_action


@pytest.mark.parametrize(
    "data",
    [
        {**DONE, "output": [message(text("Hi"))]},
        {**DONE, "output": [{"type": ["function_call"]}, {"type": "mcp_call"}]},
        {**DONE, "output": None},
        {**BARE, "output": [CALL]},
        {**BARE, "background": None},
    ],
)
def test_other_answers_need_nobody(data: dict[str, Any]) -> None:
    assert not WIRE.poll(REF).read(ApiReply(data=data)).needs_action


def test_a_poll_reads_the_hint_of_the_server() -> None:
    polled = WIRE.poll(REF).read(ApiReply(data=BARE, headers={"retry-after": "7"}))
    assert (polled.raw_status, polled.poll_after) == ("in_progress", 7)


@pytest.mark.parametrize("status", ["in_progress", "cancelled", "completed"])
def test_a_cancel_tells_how_the_response_stands(status: str) -> None:
    assert WIRE.cancel(REF).read(ApiReply(data={**BARE, "status": status})).raw_status == status


def test_a_response_is_shown_under_the_names_of_a_run() -> None:
    run = run_of(
        status="completed",
        object="response",
        created_at=1_700_000_000.0,
        completed_at=1_700_000_009,
        model="gpt-5",
        conversation={"id": "conv_1"},
        usage={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        previous_response_id="resp_0",
        max_output_tokens=20,
        tools=[{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file_1", 5]}}],
        output=[{"type": "reasoning", "id": "rs_1"}, message(text("Hel"), text("lo"))],
    )
    assert run.ref == RunRef(kind=RunKind.RESPONSE, id="resp_1", thread_id="conv_1", conn_id="ai")
    assert (run.created_at, run.completed_at) == (1_700_000_000, 1_700_000_009)
    assert run.usage == Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    assert run.output_text == "Hello"
    assert run.limits == {"max_output_tokens": 20}
    assert run.file_ids == ("file_1",)
    assert run.raw == {"previous_response_id": "resp_0"}
    assert run.steps is not None
    assert [(step.id, step.type, step.status) for step in run.steps] == [
        ("rs_1", "reasoning", None),
        ("msg_1", "message", "completed"),
    ]
    assert run.steps[1].details == {"content": [text("Hel"), text("lo")]}


def test_quirks_of_other_servers_are_read_all_the_same() -> None:
    run = run_of(
        created_at=1_700_000_000_123,
        completed_at=1_700_000_009,
        background=None,
        metadata=None,
        conversation="conv_1",
        output=None,
        error=None,
        output_text="Hello",
    )
    assert run.ref == RunRef(kind=RunKind.RESPONSE, id="resp_1", thread_id="conv_1", conn_id="ai")
    assert (run.created_at, run.completed_at, run.usage) == (1_700_000_000, None, None)
    assert (run.metadata, run.steps, run.output_text) == ({}, (), "Hello")
    assert run.object == "response"


def test_partial_text_of_an_incomplete_response_is_kept_with_its_reason() -> None:
    run = run_of(
        status="incomplete",
        incomplete_details={"reason": "max_output_tokens"},
        output=[message(text("Once"), {"type": "refusal", "refusal": "no"}, text(None))],
    )
    assert run.incomplete_details == {"reason": "max_output_tokens"}
    assert run.output_text == "Once"


@pytest.mark.parametrize("data", [{"detail": "Not Found"}, {"error": {"message": "no"}}, {"id": "resp_1"}])
def test_an_error_in_the_place_of_a_response_is_unreadable(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the answer has no"):
        WIRE.poll(REF).read(ApiReply(data=data))
    with pytest.raises(ValueError, match="the answer has no"):
        WIRE.retrieve(REF).read(ApiReply(data=data))


def test_pending_calls_are_read_with_their_arguments_as_text() -> None:
    run = run_of(
        status="completed",
        output=[
            CALL,
            {"type": "function_call", "call_id": "call_2", "name": "g", "arguments": {"b": 2}},
            {"type": "custom_tool_call", "call_id": "call_3", "name": "h", "input": "free text"},
            {"type": "mcp_approval_request", "id": "mcpr_1", "name": "i", "arguments": "{}"},
            {"type": "computer_call", "id": "cu_1", "call_id": "call_5", "action": {"type": "wait"}},
        ],
    )
    assert [(call.id, call.name, call.arguments, call.type) for call in run.tool_calls] == [
        ("call_1", "f", '{"a": 1}', "function"),
        ("call_2", "g", '{"b": 2}', "function"),
        ("call_3", "h", "free text", "custom_tool_call"),
        ("mcpr_1", "i", "{}", "mcp_approval_request"),
        ("call_5", "computer_call", '{"action": {"type": "wait"}}', "computer_call"),
    ]
    assert run.needs_action
    assert run_of(output=[CALL]).tool_calls == ()


def test_an_answer_is_a_new_paid_response_with_tools_and_instructions_again() -> None:
    request = response_request(
        model="gpt-5", input="Hi", instructions="Be kind", tools=[{"type": "function", "name": "f"}]
    )
    first = run_of(status="completed", output=[CALL, {"type": "custom_tool_call", "call_id": "c2"}])
    call = WIRE.answer(first, {"call_1": "sunny", "c2": "free"}, request, token="hash/abc")
    assert (call.method, call.path, call.pays) == ("POST", "/responses", True)
    assert call.body is not None
    assert call.body["previous_response_id"] == "resp_1"
    assert call.body["input"] == [
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "free"},
    ]
    assert call.body["instructions"] == "Be kind"
    assert call.body["tools"][0]["name"] == "f"
    assert call.body["metadata"] == {"airflow_token": "hash/abc"}
    assert call.body["background"] is True


def test_an_answer_in_a_conversation_stays_in_it() -> None:
    request = response_request(model="gpt-5", input="Hi", conversation="conv_1")
    call = WIRE.answer(run_of(conversation={"id": "conv_1"}), {"c": "x"}, request, token=None)
    assert call.body is not None
    assert call.body["conversation"] == "conv_1"
    assert "previous_response_id" not in call.body


def test_an_answer_without_the_first_request_knows_the_model_from_the_response() -> None:
    call = WIRE.answer(run_of(model="gpt-5"), {"c": "x"}, None, token=None)
    assert call.body is not None
    assert call.body["model"] == "gpt-5"
    assert call.body["store"] is True
    silent = WIRE.answer(run_of(), {"c": "x"}, None, token=None)
    assert silent.body is not None
    assert "model" not in silent.body


def test_a_response_is_complete_as_it_is(drive: Drive) -> None:
    run = run_of(output=[message(text("Hi"))])
    assert drive(WIRE.complete(run, steps=True), []) == (run, [])
    without, _ = drive(WIRE.complete(run, steps=False), [])
    assert without.steps is None
    assert without.output_text == "Hi"


def test_nobody_can_say_whether_a_lost_response_exists(drive: Drive) -> None:
    flow = WIRE.search(thread_id=None, token="hash/abc", since=0, conn_id="ai")
    assert drive(flow, []) == (SearchResult(ref=None, conclusive=False), [])


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "Hi"}],
        [{"type": "output_text", "text": "Hi"}],
        "Hi",
        ["H", "i"],
        {"type": "output_text", "text": "Hi"},
        [{"text": "Hi"}],
        [{"type": "text", "text": {"value": "Hi", "annotations": []}}],
        [{"type": "output_text", "text": ["H", {"value": "i"}]}],
        [{"type": "output_text", "value": "Hi"}],
        [{"type": "reasoning_text", "text": "Hm."}, {"type": "refusal", "text": "No."}, {"text": "Hi"}],
        [{"type": "thought", "text": "Hm."}, {"type": "image_file", "value": "x"}, {"text": "Hi"}],
    ],
)
def test_the_text_of_a_message_has_several_shapes(content: object) -> None:
    item = {"type": "message", "id": "msg_1", "content": content}
    assert run_of(status="completed", output=[item]).output_text == "Hi"
    assert run_of(status="completed", output=item).output_text == "Hi"


def test_output_that_is_plain_text_is_the_answer() -> None:
    run = run_of(status="completed", output="Hi")
    assert (run.output_text, run.final_text, run.is_empty) == ("Hi", "Hi", False)


def test_what_a_model_thinks_is_not_what_it_says() -> None:
    thought = {"type": "reasoning", "content": [{"type": "text", "text": "Hm."}]}
    assert run_of(status="completed", output=[thought, message(text("Blue."))]).output_text == "Blue."


def test_a_response_that_says_itself_that_it_wants_an_answer_is_not_waited_for() -> None:
    data = {"id": "resp_1", "status": "requires_action", "output": [CALL]}
    assert WIRE.poll(REF).read(ApiReply(data=data)).needs_action
    run = run_of(**data)
    assert run.needs_action
    assert [call.name for call in run.tool_calls] == ["f"]


def test_output_without_a_status_is_an_answer() -> None:
    data = {"id": "resp_1", "output": [message(text("Hi"))]}
    request = response_request(model="small", input="Hi")
    run = WIRE.create(request, token=None, conn_id="ai").read(ApiReply(data=data))
    assert (run.raw_status, run.status, run.output_text) == ("completed", RunStatus.COMPLETED, "Hi")
    with pytest.raises(ValueError, match="no status"):
        WIRE.poll(REF).read(ApiReply(data={**data, "output": []}))


def test_an_answer_that_is_no_text_is_sent_as_json_unless_it_is_an_item_itself() -> None:
    item = {"type": "computer_call_output", "call_id": "c2", "output": {"type": "computer_screenshot"}}
    call = WIRE.answer(run_of(), {"c1": {"rows": 912}, "c2": item, "c3": True}, None, token=None)

    assert call.body is not None
    assert call.body["input"] == [
        {"type": "function_call_output", "call_id": "c1", "output": '{"rows": 912}'},
        item,
        {"type": "function_call_output", "call_id": "c3", "output": "true"},
    ]


def test_a_reply_replaces_neither_the_id_nor_the_conversation_that_was_asked_for() -> None:
    asked = RunRef(kind=RunKind.RESPONSE, id="resp_1", thread_id="conv_1", conn_id="ai")
    for data in ({"id": "resp_other", "conversation": {"id": "conv_other"}}, {"id": None}, {}):
        assert WIRE.retrieve(asked).read(ApiReply(data={**DONE, **data})).ref == asked


@pytest.mark.parametrize("conversation", ["conv_1", {"id": "conv_1"}])
@pytest.mark.parametrize("echoed", [{}, {"conversation": None}, {"conversation": {"id": "conv_other"}}])
def test_the_conversation_of_the_request_is_the_responses(conversation: Any, echoed: dict[str, Any]) -> None:
    request = response_request(model="small", input="Hi", conversation=conversation)
    call = WIRE.create(request, token=None, conn_id="ai")
    first = call.read(ApiReply(data={**DONE, "output": [CALL], **echoed}))
    assert first.ref.thread_id == "conv_1"
    again = WIRE.answer(first, {"call_1": "x"}, None, token=None)
    assert again.body is not None
    assert again.body["conversation"] == "conv_1"
    assert again.read(ApiReply(data={"id": "resp_2", "status": "queued"})).ref == RunRef(
        kind=RunKind.RESPONSE, id="resp_2", thread_id="conv_1", conn_id="ai"
    )


def test_a_create_that_names_an_id_and_nothing_else_keeps_the_id() -> None:
    call = WIRE.create(response_request(model="small", input="Hi"), token=None, conn_id="ai")
    run = call.read(ApiReply(data={"id": "resp_9", "object": "response"}))
    assert (run.ref.id, run.status, run.raw_status) == ("resp_9", RunStatus.UNKNOWN, "unknown")


@pytest.mark.parametrize("arguments", [None, "null", " null\n", "", {}])
def test_a_call_without_arguments_has_an_empty_object_of_them(arguments: object) -> None:
    run = run_of(status="completed", output=[{**CALL, "arguments": arguments}])
    assert [call.arguments for call in run.tool_calls] == ["{}"]


JSON = '{"name": "Acme"}'


@pytest.mark.parametrize(
    ("output", "whole", "final"),
    [
        ([message(text(JSON)), message(text(JSON))], JSON, JSON),
        ([message(text(JSON[:5])), message(text(JSON))], JSON, JSON),
        ([message(text(JSON)), message(text(JSON[:5]))], JSON, JSON),
        ([message(text("One. ")), message(text("Two."))], "One. Two.", "Two."),
        ([{**message(text("One.")), "id": None}, {**message(text("One.")), "id": None}], "One.One.", "One."),
        ([{**message(text("I begin.")), "id": "a", "phase": "commentary"}, message(text(JSON))], JSON, JSON),
        ([message(text("First.")), {**message(text(JSON)), "id": "b", "phase": "final_answer"}], None, JSON),
        ([message(text(JSON)), {**message(text(" \n")), "id": "b"}], JSON + " \n", JSON),
        ([{**message(text("I begin.")), "phase": "commentary"}, {"type": "web_search_call"}], None, None),
        ([{**message(text("Hm.")), "phase": "analysis"}], None, None),
        ([{**message(text("Hm.")), "id": "a", "phase": "analysis"}, message(text(JSON))], JSON, JSON),
        ([{**message(text("Who?")), "id": "q", "role": "user"}, message(text(JSON))], JSON, JSON),
        ([message(text(JSON)), {**message(text("Be kind")), "id": "s", "role": "system"}], JSON, JSON),
    ],
)
def test_the_answer_is_each_message_once_without_preambles_and_its_end_is_the_last_one(
    output: list[Any], whole: str | None, final: str | None
) -> None:
    run = run_of(status="completed", output=output)
    assert run.final_text == final
    assert run.output_text == (whole or ("First." + JSON if final else None))


def in_phase(phase: str | None, said: str, name: str = "") -> dict[str, Any]:
    return {**message(text(said)), "id": name or said, "phase": phase}


@pytest.mark.parametrize("others", [[], [{"type": "reasoning"}], [in_phase("final_answer", " ")]])
def test_a_preamble_is_the_answer_where_there_is_nothing_else(others: list[Any]) -> None:
    run = run_of(status="completed", output=[in_phase("commentary", JSON), *others])
    assert (run.final_text, run.is_empty) == (JSON, False)
    assert JSON in (run.output_text or "")
    called = run_of(status="completed", output=[in_phase("commentary", JSON), *others, CALL])
    assert (called.final_text or " ") == " "


@pytest.mark.parametrize(
    ("phases", "final"),
    [
        (["final_answer", None], "0"),
        (["final_answer", "final_answer", None, "commentary"], "1"),
        ([None, "commentary", None], "2"),
    ],
)
def test_the_end_of_an_answer_is_the_last_message_that_calls_itself_one(
    phases: list[str | None], final: str
) -> None:
    output = [in_phase(phase, str(place)) for place, phase in enumerate(phases)]
    assert run_of(status="completed", output=output).final_text == final


@pytest.mark.parametrize(
    "data",
    [
        {"output": [{**message(), "refusal": "I cannot help."}]},
        {"output": [{**message(), "content": None, "refusal": "I cannot help."}]},
        {"output": [message({"type": "refusal", "refusal": "I cannot help."}) | {"refusal": "No."}]},
        {"output": [], "refusal": "I cannot help."},
        {"output": [message({"type": "refusal", "refusal": "I cannot help."}) | {"phase": "commentary"}]},
        {
            "output": [
                message({"type": "refusal", "refusal": "I cannot help."}) | {"phase": "commentary"},
                {"type": "web_search_call"},
            ]
        },
    ],
)
def test_a_refusal_is_one_wherever_it_stands(data: dict[str, Any]) -> None:
    run = run_of(status="completed", **data)
    assert (run.refusal, run.output_text, run.is_empty) == ("I cannot help.", None, False)


def test_a_refusal_on_the_way_to_an_answer_is_none() -> None:
    refused = message({"type": "refusal", "refusal": "I cannot."}) | {"id": "a", "phase": "commentary"}
    run = run_of(status="completed", output=[refused, message(text("Hi"))])
    assert (run.refusal, run.output_text) == (None, "Hi")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "output_audio", "data": "aGk=", "transcript": "Hello"},
        {"type": "audio", "audio": {"transcript": "Hello"}},
    ],
)
def test_what_is_spoken_is_its_transcript(part: dict[str, Any]) -> None:
    run = run_of(status="completed", output=[message(part)])
    assert (run.output_text, run.final_text, run.is_empty) == ("Hello", "Hello", False)


def test_a_refusal_is_what_the_model_said() -> None:
    refused = message({"type": "refusal", "refusal": "I cannot help."})
    run = run_of(status="completed", output=[refused, refused])
    assert (run.refusal, run.output_text, run.is_empty) == ("I cannot help.", None, False)
    assert run.to_xcom()["refusal"] == "I cannot help."


@pytest.mark.parametrize(
    ("output", "empty"),
    [
        ([], True),
        (None, True),
        ([{"type": "reasoning"}, message()], True),
        ([{"type": "reasoning"}, message(text(""))], True),
        ([{"type": "web_search_call", "status": "completed"}], True),
        ([message(text(" \n\t"))], True),
        ([message({"type": "reasoning_text", "text": "Hm."})], True),
        ([message({"type": "output_audio", "data": "aGk="})], False),
        ([message({"type": "output_audio"})], True),
        ([message({"type": "image_url", "image_url": {"url": "https://a/b.png"}})], False),
        ([message({"type": "output_image", "image_url": "https://a/b.png"})], False),
        ([message({"type": "output_file", "file_id": "file_1"})], False),
        ([{"type": "image_generation_call", "result": "aGk="}], False),
        ([{"type": "image_generation_call", "status": "failed", "result": None}], True),
        ([{**CALL, "status": "failed"}], True),
        ([{"type": "code_interpreter_call", "status": "completed"}], False),
        ([CALL], False),
        ([message(text("Hi"))], False),
    ],
)
def test_a_completed_response_without_anything_to_show_is_empty(output: Any, empty: bool) -> None:
    assert run_of(status="completed", output=output).is_empty is empty
    assert not run_of(status="in_progress", output=output).is_empty


def test_instructions_of_a_prompt_template_are_a_list_of_messages() -> None:
    part = {"type": "input_text", "text": "Be kind."}
    written = [{"type": "message", "role": "developer", "content": [part]}, {"content": "Be short."}]
    assert run_of(instructions=written).instructions == "Be kind.\nBe short."
    assert run_of(instructions="Be kind.").instructions == "Be kind."
    assert run_of(instructions=[{"content": None}, 5]).instructions is None
