# SPDX-License-Identifier: Apache-2.0
"""What a reader has to ask for with `include`, and what is there instead if nobody does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from airflow_provider_openai_runs.simulator import validation as v

ENCRYPTED_REASONING = "reasoning.encrypted_content"
_LOGPROBS = "message.output_text.logprobs"
_TOKEN = 4
INCLUDABLE = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    ENCRYPTED_REASONING,
    _LOGPROBS,
)
STEP_INCLUDABLE = ("step_details.tool_calls[*].file_search.results[*].content",)


def check_include(values: Collection[str], known: tuple[str, ...] = INCLUDABLE) -> None:
    """Refuse what cannot be asked for."""
    v.array(item=v.one_of(*known))("include", list(values))


def without_extras(item: dict[str, Any], include: Collection[str]) -> dict[str, Any]:
    """Show an item of a response to a reader who asked for `include`."""
    kind = item["type"]
    if kind == "file_search_call" and "file_search_call.results" not in include:
        return {**item, "results": None}
    if kind == "code_interpreter_call" and "code_interpreter_call.outputs" not in include:
        return {**item, "outputs": None}
    if kind == "web_search_call" and "web_search_call.action.sources" not in include:
        return {**item, "action": _without(item["action"], "sources")}
    if kind == "reasoning" and ENCRYPTED_REASONING not in include:
        return _without(item, "encrypted_content")
    if kind == "message" and _LOGPROBS in include and item["role"] == "assistant":
        return {**item, "content": [_with_logprobs(part) for part in item["content"]]}
    return item


def step_without_extras(step: dict[str, Any], include: Collection[str]) -> dict[str, Any]:
    """Show a step of a thread run to a reader who asked for `include`."""
    details = step["step_details"]
    if details["type"] != "tool_calls" or STEP_INCLUDABLE[0] in include:
        return step
    return {
        **step,
        "step_details": {**details, "tool_calls": [_bare(call) for call in details["tool_calls"]]},
    }


def _with_logprobs(part: dict[str, Any]) -> dict[str, Any]:
    """Cut a text into tokens, each the only one that was likely."""
    text = part.get("text", "")
    tokens = (text[start : start + _TOKEN] for start in range(0, len(text), _TOKEN))
    logprobs = [
        {"token": token, "bytes": list(token.encode()), "logprob": 0.0, "top_logprobs": []}
        for token in tokens
    ]
    return {**part, "logprobs": logprobs} if part["type"] == "output_text" else part


def _bare(call: dict[str, Any]) -> dict[str, Any]:
    if call["type"] != "file_search":
        return call
    search = call["file_search"]
    return {**call, "file_search": {**search, "results": [_without(r, "content") for r in search["results"]]}}


def _without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}
