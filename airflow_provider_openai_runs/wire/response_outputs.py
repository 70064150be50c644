# SPDX-License-Identifier: Apache-2.0
"""Answers to the calls of a response, as the input items by which it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.wire.protocol import Answer
from airflow_provider_openai_runs.wire.response_calls import APPROVAL

_APPROVAL_RESPONSE = "mcp_approval_response"
#: Calls whose answer is a text, by the type of the item that brings it.
_TAKES_TEXT = {
    "function": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "local_shell_call": "local_shell_call_output",
}
#: Calls whose answer has a form of its own: that of an item which says that nothing came of the call.
_FAILED: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "shell_call": lambda why: {
        "output": [{"stdout": "", "stderr": why, "outcome": {"type": "exit", "exit_code": 1}}]
    },
    "apply_patch_call": lambda why: {"status": "failed", "output": why},
    "tool_search_call": lambda _: {"execution": "client", "tools": []},
    "computer_call": lambda _: {"output": {"type": "computer_screenshot", "image_url": _NO_PICTURE}},
}
#: One transparent pixel, since a screenshot cannot be left out.
_NO_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kg"
    "AAAABJRU5ErkJggg=="
)


def output_item(call_id: str, answer: Answer, call: ToolCall | None) -> dict[str, Any]:
    """
    Return the input item that answers a call.

    :param call: as the response shows it; None where it does not.
    :raises RunRequestError: if a call of its type takes no such answer.
    """
    if call is None:
        if isinstance(answer, Mapping) and "type" in answer:
            return dict(answer)
        call = ToolCall(id=call_id, name="", arguments="")
    wanted = _item_type(call)
    if isinstance(answer, Mapping) and _is_item(answer.get("type")):
        return _whole_item(call, answer, wanted)
    if call.type == APPROVAL:
        if not isinstance(answer, bool):
            raise _unfit(call, answer, "the approval request of an MCP tool, which takes True or False")
        return {"type": wanted, **_name_of(call), "approve": answer}
    if call.type not in _TAKES_TEXT:
        what = f"a {call.type}, which takes no text: give the whole item, {{'type': {wanted!r}, ...}}"
        raise _unfit(call, answer, what)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return {"type": wanted, **_name_of(call), "output": text}


def failed_item(call: ToolCall, why: str) -> dict[str, Any]:
    """Return the input item that says of a call that nothing came of it."""
    head = {"type": _item_type(call), **_name_of(call)}
    if call.type == APPROVAL:
        return {**head, "approve": False, "reason": why}
    return {**head, **(_FAILED[call.type](why) if call.type in _FAILED else {"output": why})}


def _whole_item(call: ToolCall, item: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    names = _name_of(call)
    if item["type"] != wanted or any(item.get(key, name) != name for key, name in names.items()):
        raise _unfit(call, item, f"a call that takes { ({'type': wanted} | names) }")
    return {**names, **item}


def _item_type(call: ToolCall) -> str:
    if call.type == APPROVAL:
        return _APPROVAL_RESPONSE
    if call.type == "tool_search_call":
        return "tool_search_output"
    return _TAKES_TEXT.get(call.type, f"{call.type}_output")


def _name_of(call: ToolCall) -> dict[str, str]:
    if call.type == APPROVAL:
        return {"approval_request_id": call.id}
    # The one item that the API knows by the id of the call alone.
    return {"id" if call.type == "local_shell_call" else "call_id": call.id}


def _is_item(kind: object) -> bool:
    """Whether a dict of that ``type`` is an input item; the answer of a function may have a ``type``, too."""
    return isinstance(kind, str) and (kind.endswith("_output") or kind == _APPROVAL_RESPONSE)


def _unfit(call: ToolCall, answer: Answer, what: str) -> Exception:
    return checks.invalid(f"outputs[{call.id!r}]", answer, f"is for {what}")
