# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.response_request import response_request
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire.protocol import ApiReply
from airflow_provider_openai_runs.wire.responses import WIRE

REF = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="ai")
MESSAGE = {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Done."}]}
FUNCTION = {"type": "function", "name": "rows"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "rows", "arguments": "{}"}
SHELL = {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "action": {"commands": ["ls"]}}
CUSTOM = {"type": "custom_tool_call", "id": "ct_1", "call_id": "call_1", "name": "x_search", "input": "a"}
COMPUTER = {
    "type": "computer_call",
    "id": "cu_1",
    "call_id": "call_1",
    "status": "completed",
    "action": {"type": "click", "x": 1, "y": 2},
    "pending_safety_checks": [{"id": "sc_1", "code": "malicious", "message": "?"}],
}
PATCH = {"type": "apply_patch_call", "call_id": "call_1", "operation": {"type": "delete_file", "path": "a"}}
LOCAL_SHELL = {"type": "local_shell_call", "id": "ls_1", "call_id": "call_1", "action": {"command": ["ls"]}}
APPROVAL = {"type": "mcp_approval_request", "id": "call_1", "name": "drop", "arguments": "{}"}
EVERY_KIND = [CALL, SHELL, CUSTOM, COMPUTER, PATCH, LOCAL_SHELL, APPROVAL]


def run_of(output: list[Any], *, tools: Any = None, requested: Any = None) -> Run:
    data = {"id": "resp_1", "status": "completed", "output": output, "tools": tools}
    request = None if requested is None else response_request(model="m", input="Hi", tools=requested)
    return WIRE.retrieve(REF, request).read(ApiReply(data=data))


def pending(output: list[Any], *, tools: Any = None, requested: Any = None) -> list[str]:
    found = [call.id for call in run_of(output, tools=tools, requested=requested).tool_calls]
    if requested is None:
        data = {"id": "resp_1", "status": "completed", "output": output, "tools": tools}
        assert WIRE.poll(REF).read(ApiReply(data=data)).needs_action is bool(found)
    return found


@pytest.mark.parametrize("call", EVERY_KIND, ids=lambda call: call["type"])
@pytest.mark.parametrize("tools", [None, []])
def test_a_call_without_an_output_is_pending_where_nobody_says_what_was_offered(
    call: dict[str, Any], tools: Any
) -> None:
    assert pending([{"type": "reasoning"}, call], tools=tools) == ["call_1"]
    assert pending([MESSAGE, call], tools=tools) == ["call_1"]


@pytest.mark.parametrize("call", EVERY_KIND[:-1], ids=lambda call: call["type"])
def test_a_message_after_it_says_that_the_server_has_made_the_call(call: dict[str, Any]) -> None:
    assert pending([call, MESSAGE]) == []
    assert pending([call, {"type": "reasoning"}, MESSAGE, CALL | {"call_id": "call_2"}]) == ["call_2"]


def test_an_approval_is_waited_for_until_somebody_has_answered_it() -> None:
    assert pending([APPROVAL, MESSAGE], tools=[FUNCTION]) == ["call_1"]
    assert pending([APPROVAL, {"type": "mcp_approval_response", "approval_request_id": "call_1"}]) == []
    assert pending([APPROVAL, {"type": "mcp_call", "approval_request_id": "call_1", "output": "x"}]) == []


@pytest.mark.parametrize("call", EVERY_KIND[:-1], ids=lambda call: call["type"])
@pytest.mark.parametrize("kind", ["function_call_output", "shell_call_output", "anything_output"])
def test_a_call_that_the_same_output_answers_is_not_pending(call: dict[str, Any], kind: str) -> None:
    output = {"type": kind, "id": "o_1", "call_id": "call_1", "output": "912"}
    tools = [FUNCTION, {"type": "shell"}, {"type": "custom", "name": "x_search"}]
    assert pending([call, output], tools=tools) == []
    assert pending([output, call]) == []
    assert pending([call, output | {"call_id": "call_2"}]) == ["call_1"]


@pytest.mark.parametrize(
    "result",
    [
        {"type": "function_call_result", "call_id": "call_1", "output": "912"},
        {"type": "tool_result", "tool_call_id": "call_1", "content": "912"},
        {"type": "tool_result", "tool_use_id": "call_1", "content": "912"},
        {"type": "function_response", "function_call_id": "call_1", "response": {"rows": 912}},
        {"type": "message", "role": "tool", "tool_call_id": "call_1", "content": "912"},
        {"role": "tool", "tool_call_id": "call_1", "content": "912"},
    ],
    ids=str,
)
def test_any_item_that_names_a_call_and_is_none_answers_it(result: dict[str, Any]) -> None:
    assert pending([CALL, result, MESSAGE], tools=[FUNCTION]) == []
    assert pending([result, CALL], requested=[FUNCTION]) == []
    assert pending([CALL, CALL | {"call_id": "call_2"}, result], tools=[FUNCTION]) == ["call_2"]


@pytest.mark.parametrize("kind", ["reasoning", "mcp_call", "tool_call", "call", "tool_use"])
def test_neither_a_thought_nor_another_name_of_a_call_answers_it(kind: str) -> None:
    other = {"type": kind, "id": "x_1", "call_id": "call_1", "tool_call_id": "call_1"}
    assert pending([other, CALL, other, MESSAGE], tools=[FUNCTION]) == ["call_1"]


@pytest.mark.parametrize(
    "more",
    [
        {"output": "", "result": None, "error": None},
        {"output": None, "result": []},
        {"error": {"code": None, "message": None}},
    ],
)
def test_a_call_whose_members_for_a_result_are_empty_is_pending(more: dict[str, Any]) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    assert pending([call | more], tools=[{"type": "function", "name": "f"}]) == ["call_1"]


@pytest.mark.parametrize("kind", ["function_approval_request", "function_call_arguments", "tool_note"])
def test_an_item_that_names_a_call_and_says_nothing_is_no_answer(kind: str) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    item = {"type": kind, "call_id": "call_1"}
    assert pending([call, item], tools=[{"type": "function", "name": "f"}]) == ["call_1"]


@pytest.mark.parametrize("call", EVERY_KIND[:-1], ids=lambda call: call["type"])
@pytest.mark.parametrize(
    "more", [{"output": "912"}, {"result": {"n": 1}}, {"error": "down"}, {"status": "failed"}]
)
def test_a_call_that_says_what_came_of_it_is_not_pending(call: dict[str, Any], more: dict[str, Any]) -> None:
    tools = [FUNCTION, {"type": "shell"}, {"type": "custom", "name": "x_search"}]
    assert pending([call | more, MESSAGE], tools=tools) == []
    assert pending([call, call | more]) == []
    nothing = {"output": None, "result": None, "error": None, "status": "completed"}
    assert pending([call | nothing]) == ["call_1"]


def test_the_very_same_call_twice_is_one() -> None:
    assert pending([CALL, CALL | {"id": "fc_2"}, CALL], tools=[FUNCTION]) == ["call_1"]
    assert pending([CALL, CALL | {"call_id": "call_2"}], tools=[FUNCTION]) == ["call_1", "call_2"]
    assert pending([CALL, CALL | {"arguments": '{"a": 1}'}], tools=[FUNCTION]) == ["call_1", "call_1"]


@pytest.mark.parametrize("arguments", [None, "null", " null\n", "", {}])
@pytest.mark.parametrize("call", [CALL, APPROVAL], ids=lambda call: call["type"])
def test_a_call_of_no_arguments_has_an_empty_object_of_them(call: dict[str, Any], arguments: object) -> None:
    (found,) = run_of([call | {"arguments": arguments}]).tool_calls
    assert found.arguments == "{}"
    (found,) = run_of([{name: item for name, item in call.items() if name != "arguments"}]).tool_calls
    assert found.arguments == "{}"


@pytest.mark.parametrize(
    ("call", "tool"),
    [
        (CALL, FUNCTION),
        (CALL, {"type": "function", "function": {"name": "rows"}}),
        (CALL, {"type": "namespace", "name": "db", "tools": [FUNCTION]}),
        (CUSTOM, {"type": "custom", "name": "x_search"}),
        (SHELL, {"type": "shell"}),
        (SHELL, {"type": "shell", "environment": {"type": "local"}}),
        (COMPUTER, {"type": "computer_use_preview"}),
        (COMPUTER, {"type": "computer"}),
        (PATCH, {"type": "apply_patch"}),
        (LOCAL_SHELL, {"type": "local_shell"}),
    ],
    ids=str,
)
def test_what_was_offered_is_pending_whatever_the_model_says_after_it(
    call: dict[str, Any], tool: dict[str, Any]
) -> None:
    assert pending([call, MESSAGE], tools=[tool]) == ["call_1"]


@pytest.mark.parametrize("call", [SHELL, CUSTOM], ids=lambda call: call["type"])
@pytest.mark.parametrize("after", [[], [MESSAGE]], ids=["last", "followed"])
def test_what_nobody_offered_is_the_servers_own(call: dict[str, Any], after: list[Any]) -> None:
    assert pending([call, *after], tools=[{"type": "x_search"}]) == []
    assert pending([call, *after], tools=[], requested=[{"type": "x_search"}]) == []
    assert pending([call, *after], tools=[FUNCTION, {"type": "custom", "name": "other"}]) == []


@pytest.mark.parametrize("call", [CALL, COMPUTER, PATCH, LOCAL_SHELL], ids=lambda call: call["type"])
def test_a_call_that_only_we_could_make_is_the_models_mistake_unless_it_goes_on(call: dict[str, Any]) -> None:
    other = [{"type": "function", "name": "other"}]
    assert pending([call], tools=other) == ["call_1"]
    assert pending([call, MESSAGE], tools=other) == []
    assert pending([call, MESSAGE], requested=other) == []


def test_a_tool_of_the_request_counts_where_the_reply_does_not_echo_it() -> None:
    for echoed in (None, [], [{"type": "web_search"}]):
        assert pending([CALL, MESSAGE], tools=echoed, requested=[FUNCTION]) == ["call_1"]


@pytest.mark.parametrize(
    ("in_tool", "in_call"),
    [
        ({"type": "container_auto"}, None),
        ({"type": "container_reference"}, {"type": "container_reference", "container_id": "c"}),
        (None, {"type": "container_reference", "container_id": "c"}),
    ],
)
def test_a_shell_in_a_container_of_the_servers_is_not_ours(in_tool: Any, in_call: Any) -> None:
    call = {**SHELL, "environment": in_call}
    assert pending([call], tools=[{"type": "shell", "environment": in_tool}]) == []


def test_a_search_for_tools_is_ours_only_where_it_says_so() -> None:
    search = {"type": "tool_search_call", "call_id": "call_1", "arguments": {"goal": "weather"}}
    assert pending([{**search, "execution": "server"}]) == []
    assert pending([{**search, "execution": "client"}]) == ["call_1"]


@pytest.mark.parametrize(
    ("call", "action"),
    [
        (SHELL, {"action": {"commands": ["ls"]}}),
        (LOCAL_SHELL, {"action": {"command": ["ls"]}}),
        (PATCH, {"operation": {"type": "delete_file", "path": "a"}}),
        (COMPUTER, {name: COMPUTER[name] for name in ("action", "pending_safety_checks")}),
    ],
    ids=lambda value: value.get("type", ""),
)
def test_a_call_of_another_kind_says_all_that_is_to_be_done(call: dict[str, Any], action: Any) -> None:
    (found,) = run_of([call]).tool_calls
    assert (found.name, found.type) == (call["type"], call["type"])
    assert json.loads(found.arguments) == action
