# SPDX-License-Identifier: Apache-2.0
"""The parameters of a new response: what is accepted, and what the response shows of them."""

from __future__ import annotations

from typing import Any

from airflow_provider_openai_runs.simulator import response_checks as checks
from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.errors import ApiError, missing
from airflow_provider_openai_runs.simulator.include import INCLUDABLE

_LEAST_TOKENS = 16
_PARAMETERS: dict[str, v.Check] = {
    **dict.fromkeys(("background", "parallel_tool_calls", "store", "stream"), v.boolean),
    **dict.fromkeys(
        (
            "instructions",
            "previous_response_id",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "user",
        ),
        v.string,
    ),
    **dict.fromkeys(
        (
            "access_programs",
            "background_options",
            "image",
            "moderation",
            "prompt",
            "prompt_cache_options",
            "stream_options",
        ),
        v.mapping,
    ),
    "context_management": v.array(),
    "include": v.array(item=v.one_of(*INCLUDABLE)),
    "conversation": v.of_type(str, dict),
    "input": v.of_type(str, list),
    "max_output_tokens": v.number(_LEAST_TOKENS, integer=True),
    "max_tool_calls": v.number(1, integer=True),
    "metadata": v.metadata,
    "model": v.model,
    "temperature": v.number(0, 2),
    "reasoning": checks.reasoning,
    "service_tier": v.one_of("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"),
    "text": checks.text,
    "tool_choice": checks.tool_choice,
    "tools": v.array(item=checks.tool),
    "top_logprobs": v.number(0, 20, integer=True),
    "top_p": v.number(0, 1),
    "truncation": v.one_of("auto", "disabled"),
}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Complete a tool as the API shows it; what authorises at an MCP server is never shown."""
    if tool["type"] == "function":
        return {"description": None, "parameters": None, "strict": True, **tool}
    if tool["type"] == "mcp":
        kept = {name: value for name, value in tool.items() if name != "authorization"}
        approval = _approval(tool.get("require_approval"))
        return {"allowed_tools": None, **kept, "headers": None, "require_approval": approval}
    return tool


def _approval(given: Any) -> Any:
    """Complete the rule which tools of an MCP server need an approval."""
    if not isinstance(given, dict):
        return given or "always"
    rules = {"always": None, "never": None, **given}
    return {name: rule and {"read_only": None, "tool_names": None, **rule} for name, rule in rules.items()}


def echoed(body: dict[str, Any]) -> dict[str, Any]:
    """Work out the fields that a response merely echoes, defaults filled in."""
    defaults: dict[str, Any] = {
        "frequency_penalty": 0.0,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "gpt-4.1-mini",
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "safety_identifier": None,
        "temperature": 1.0,
        "tool_choice": "auto",
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }
    given = {name: body[name] for name in defaults if body.get(name) is not None}
    text = {"format": {"type": "text"}, "verbosity": "medium", **(body.get("text") or {})}
    return {
        **defaults,
        **given,
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "text": text,
        "tools": [_tool(tool) for tool in body.get("tools") or ()],
    }


def check_parameters(body: dict[str, Any]) -> None:
    """Refuse a request whose parameters are wrong, each or together."""
    v.check(body, _PARAMETERS)
    if body.get("prompt") is None and body.get("model") is None:
        raise missing("model")
    if not any(body.get(name) for name in ("input", "previous_response_id", "prompt", "conversation")):
        raise ApiError(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided.",
            param="input",
            code="missing_required_parameter",
        )
    if body.get("conversation") is not None and body.get("previous_response_id") is not None:
        raise ApiError(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.",
            param="previous_response_id",
            code="mutually_exclusive_parameters",
        )
