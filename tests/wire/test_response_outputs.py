# SPDX-License-Identifier: Apache-2.0
"""Answers to the calls of a response: in the form that their kind has, or refused with a sentence."""

from __future__ import annotations

import json
import re
import types
import typing
from typing import Any

import pytest
from openai.types.responses import response_input_item_param as sdk
from pydantic import TypeAdapter

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest
from airflow_provider_openai_runs.wire.responses import WIRE
from tests.wire.test_response_calls import (
    APPROVAL,
    CALL,
    COMPUTER,
    CUSTOM,
    EVERY_KIND,
    LOCAL_SHELL,
    PATCH,
    SHELL,
)
from tests.wire.test_response_calls import REF as RESPONSE

SEARCH = {"type": "tool_search_call", "call_id": "call_1", "execution": "client", "arguments": {}}
SHOT = {"type": "computer_screenshot", "image_url": "https://example.com/a.png"}
ITEMS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (SHELL, {"type": "shell_call_output", "call_id": "call_1", "output": []}),
    (PATCH, {"type": "apply_patch_call_output", "call_id": "call_1", "status": "completed"}),
    (COMPUTER, {"type": "computer_call_output", "call_id": "call_1", "output": SHOT}),
    (LOCAL_SHELL, {"type": "local_shell_call_output", "id": "call_1", "output": "{}"}),
    (APPROVAL, {"type": "mcp_approval_response", "approval_request_id": "call_1", "approve": False}),
    (CALL, {"type": "function_call_output", "call_id": "call_1", "output": "x"}),
    (CUSTOM, {"type": "custom_tool_call_output", "call_id": "call_1", "output": "x"}),
    (SEARCH, {"type": "tool_search_output", "call_id": "call_1", "tools": []}),
]


def waiting(call: dict[str, Any], **more: Any) -> Run:
    data = {"id": "resp_1", "status": "completed", "output": [call], **more}
    return WIRE.retrieve(RESPONSE).read(ApiReply(data=data))


def answered(call: dict[str, Any], answer: Any) -> dict[str, Any]:
    request = WIRE.answer(waiting(call), {"call_1": answer}, None, token=None)
    (item,) = (request.body or {})["input"]
    assert isinstance(item, dict)
    return item


@pytest.mark.parametrize(
    ("call", "kind", "name"),
    [
        (CALL, "function_call_output", "call_id"),
        (CUSTOM, "custom_tool_call_output", "call_id"),
        (LOCAL_SHELL, "local_shell_call_output", "id"),
    ],
    ids=lambda value: value.get("type", "") if isinstance(value, dict) else "",
)
def test_a_text_answers_what_takes_a_text(call: dict[str, Any], kind: str, name: str) -> None:
    assert answered(call, "912") == {"type": kind, name: "call_1", "output": "912"}
    assert answered(call, {"type": "invoice"})["output"] == json.dumps({"type": "invoice"})


@pytest.mark.parametrize("call", [SHELL, PATCH, COMPUTER, SEARCH], ids=lambda call: call["type"])
@pytest.mark.parametrize("answer", ["done", True, {"stdout": "a"}, {"type": "stdout"}], ids=str)
def test_a_text_for_any_other_call_is_refused_with_the_type_of_the_item(
    call: dict[str, Any], answer: Any
) -> None:
    wanted = "tool_search_output" if call is SEARCH else f"{call['type']}_output"
    with pytest.raises(RunRequestError, match=rf"call_1.*takes no text.*'{wanted}'.*Nothing was sent"):
        answered(call, answer)


@pytest.mark.parametrize("answer", ["yes", "true", "False", 1, None, {"approve": True}], ids=str)
def test_only_true_and_false_approve_and_reject(answer: Any) -> None:
    with pytest.raises(RunRequestError, match="takes True or False"):
        answered(APPROVAL, answer)
    for said in (True, False):
        assert answered(APPROVAL, said)["approve"] is said


@pytest.mark.parametrize(("call", "item"), ITEMS, ids=lambda value: value["type"])
def test_a_whole_item_is_sent_as_it_is_and_its_id_may_be_left_out(
    call: dict[str, Any], item: dict[str, Any]
) -> None:
    assert answered(call, item) == item
    names = {"call_id", "id", "approval_request_id"}
    assert answered(call, {key: value for key, value in item.items() if key not in names}) == item


@pytest.mark.parametrize(("call", "item"), ITEMS, ids=lambda value: value["type"])
def test_an_item_of_another_kind_or_of_another_call_is_refused(
    call: dict[str, Any], item: dict[str, Any]
) -> None:
    other = ITEMS[0][1] if item is not ITEMS[0][1] else ITEMS[1][1]
    name = next(key for key in ("approval_request_id", "call_id", "id") if key in item)
    for wrong in (other, {**item, name: "call_2"}):
        with pytest.raises(RunRequestError, match=re.escape(repr(item["type"]))):
            answered(call, wrong)


@pytest.mark.parametrize("call", [*EVERY_KIND, SEARCH], ids=lambda call: call["type"])
def test_a_call_that_is_given_up_is_answered_by_an_item_that_the_sdk_knows(call: dict[str, Any]) -> None:
    (item,) = closed_with(call, [])
    known = TypeAdapter(sdk_type_of(item["type"]))
    assert known.validate_python(item)
    assert "call_1" in item.values()


@pytest.mark.parametrize(("call", "item"), ITEMS, ids=lambda value: value["type"])
def test_a_call_that_its_conversation_shows_an_answer_to_is_not_answered_again(
    call: dict[str, Any], item: dict[str, Any]
) -> None:
    assert closed_with(call, [item, call]) == []
    assert closed_with(call, [item], has_more=True) == []


@pytest.mark.parametrize(("call", "item"), ITEMS, ids=lambda value: value["type"])
def test_a_call_whose_id_was_used_before_is_open_until_it_has_an_answer_of_its_own(
    call: dict[str, Any], item: dict[str, Any]
) -> None:
    assert len(closed_with(call, [call, item, call])) == 1
    assert closed_with(call, [item, call, item, call]) == []


@pytest.mark.parametrize("status", [404, 405, 501])
def test_calls_are_closed_where_the_server_lists_no_items(status: int) -> None:
    assert len(closed_with(CALL, status)) == 1


def test_an_old_call_that_is_not_among_the_newest_items_was_answered_long_ago() -> None:
    assert closed_with(CALL, [{"type": "message", "role": "user"}], has_more=True) == []


def closed_with(
    call: dict[str, Any], listed: list[dict[str, Any]] | int, *, has_more: bool = False
) -> list[dict[str, Any]]:
    """Return the items that close a call in a conversation with these items, newest first."""
    flow = WIRE.close(waiting(call, conversation="conv_1"), conversation=None)
    asked = next(flow)
    assert isinstance(asked, ApiRequest)
    assert (asked.method, asked.path, asked.query["order"]) == ("GET", "/conversations/conv_1/items", "desc")
    try:
        if isinstance(listed, int):
            failure = RequestFailure(kind=FailureKind.NOT_FOUND, text="no", http_status=listed)
            posted = flow.throw(ApiRequestFailed(failure, pays=False))
        else:
            posted = flow.send(ApiReply(data={"data": listed, "has_more": has_more}))
    except StopIteration:
        return []
    assert isinstance(posted, ApiRequest)
    return list((posted.body or {})["items"])


def sdk_type_of(kind: str) -> Any:
    """Find the SDK's input item of a type."""
    for member in typing.get_args(sdk.ResponseInputItemParam):
        hint = typing.get_type_hints(member, include_extras=False).get("type")
        values = typing.get_args(hint) if not isinstance(hint, types.NoneType) else ()
        if kind in values:
            return member
    raise AssertionError(kind)
