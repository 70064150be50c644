# SPDX-License-Identifier: Apache-2.0
"""The items that responses read and write and that conversations keep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_openai_runs.simulator.answers import text_of
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.response_checks import item as check_item

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
    "mcp_call": "mcp",
}
_WITH_STATUS = frozenset({"message", "function_call", "function_call_output"})


def stored_items(given: Any, *, name: str = "input") -> list[dict[str, Any]]:
    """Write input, a text or a list of items, as the API stores it: complete items with ids."""
    if given is None:
        return []
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_stored(item, f"{name}[{index}]") for index, item in enumerate(given)]


def _stored(item: Any, where: str) -> dict[str, Any]:
    check_item(where, item)
    kind = item.get("type") or "message"
    stored = {"id": new_id(_PREFIXES.get(kind, "item"), length=50), **item, "type": kind}
    if kind in _WITH_STATUS:
        stored["status"] = item.get("status") or "completed"
    if kind == "message":
        stored["content"] = _content(item["content"], from_model=item["role"] == "assistant")
    return stored


def _content(content: Any, *, from_model: bool) -> list[dict[str, Any]]:
    if not isinstance(content, str):
        return [{"detail": "auto", **part} if part["type"] == "input_image" else part for part in content]
    return [output_text(content)] if from_model else [{"type": "input_text", "text": content}]


def output_text(text: str, annotations: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """Write text as the model does."""
    return {"type": "output_text", "annotations": list(annotations), "logprobs": [], "text": text}


def refusal(text: str) -> dict[str, Any]:
    """Write a refusal as the model does."""
    return {"type": "refusal", "refusal": text}


def prompt_of(items: list[dict[str, Any]]) -> str:
    """Give all text in the messages among the items."""
    return "\n".join(text_of(item.get("content")) for item in items if item["type"] == "message")


def question_of(items: list[dict[str, Any]]) -> str:
    """Give the text of the last user message among the items, empty if there is none."""
    texts = [text_of(i.get("content")) for i in items if i["type"] == "message" and i["role"] == "user"]
    return texts[-1] if texts else ""


def questions(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Index the calls and approval requests among the items by the id that an answer names."""
    found = {item["call_id"]: item for item in items if item["type"] == "function_call"}
    found.update((item["id"], item) for item in items if item["type"] == "mcp_approval_request")
    return found


def answers(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Index the outputs of calls and the decisions on approvals among the items by what they answer."""
    found = {item["call_id"]: item for item in items if item["type"] == "function_call_output"}
    decisions = [item for item in items if item["type"] == "mcp_approval_response"]
    return {**found, **{item["approval_request_id"]: item for item in decisions}}
