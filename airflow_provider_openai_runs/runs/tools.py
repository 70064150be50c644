# SPDX-License-Identifier: Apache-2.0
"""The tools that a run may use, as the contract writes them; each wire sends them in its own shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.runs.text import message_text

_FUNCTION_KEYS = ("name", "description", "parameters", "strict")
#: So many calls are named in a log line or an error.
_MAX_DESCRIBED = 5
#: Characters of a name, an id or arguments there.
_MAX_SHOWN = 100


def checked_tools(tools: object, *, warnings: list[str]) -> list[dict[str, Any]]:
    """
    Check the tools and bring functions into the nested form ``{"type": "function", "function": {...}}``.

    The flat form of responses, ``{"type": "function", "name": ...}``, is accepted as well, so that the same
    tools serve both kinds of run.

    :param warnings: receives a sentence for each outdated name.
    :raises RunRequestError: with the tool's place, its value and the rule.
    """
    return [
        _checked_tool(f"tools[{place}]", tool, warnings)
        for place, tool in enumerate(checks.sequence("tools", tools))
    ]


def names_of(tools: object) -> set[str]:
    """Return the names of the functions among the tools, in either form."""
    names = set()
    for tool in tools if isinstance(tools, (list, tuple)) else ():
        if isinstance(tool, Mapping) and tool.get("type") == "function":
            function = tool.get("function", tool)
            names.add(str(function.get("name")) if isinstance(function, Mapping) else "")
    return names


def _checked_tool(name: str, value: object, warnings: list[str]) -> dict[str, Any]:
    tool = checks.mapping(name, value)
    kind = tool.get("type")
    if not isinstance(kind, str) or not kind:
        raise checks.invalid(
            name, value, "needs a 'type' such as 'code_interpreter', 'file_search' or 'function'"
        )
    if kind == "retrieval":
        warnings.append(f"{name}: tool type 'retrieval' is the old name of 'file_search', which is sent")
        return {**tool, "type": "file_search"}
    if kind == "function":
        return {"type": "function", "function": _checked_function(name, tool)}
    return tool


def _checked_function(name: str, tool: dict[str, Any]) -> dict[str, Any]:
    if "function" in tool:
        function = checks.mapping(f"{name}['function']", tool["function"])
    else:
        function = {key: tool[key] for key in _FUNCTION_KEYS if key in tool}
    if not function:
        raise checks.invalid(name, tool, "a tool of type 'function' needs 'function' with at least a 'name'")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise checks.invalid(f"{name}['function']", function, "needs a 'name'")
    if function.get("parameters") is not None:
        function["parameters"] = checks.json_object(
            f"{name}['function']['parameters']", function["parameters"]
        )
    return function


def describe_calls(calls: Sequence[ToolCall]) -> str:
    """Describe calls with their arguments, cut to what a person reads."""
    some = [f"{_shown(call.name)}({_shown(call.arguments)})" for call in calls[:_MAX_DESCRIBED]]
    more = len(calls) - len(some)
    return (", ".join(some) or "unnamed") + (f" and {more} more" if more else "")


def name_calls(calls: Sequence[ToolCall]) -> str:
    """Name calls without their arguments, which do not belong into a log."""
    some = [f"{_shown(call.name)} ({_shown(call.id)})" for call in calls[:_MAX_DESCRIBED]]
    more = len(calls) - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "")


def _shown(text: str) -> str:
    return message_text(text, limit=_MAX_SHOWN)
