# SPDX-License-Identifier: Apache-2.0
"""
Which calls in the output of a response wait for somebody outside.

Not one that the same output answers, and not one that the server made itself: hosted shells, its searches.
What was *offered* stands in the request or in the reply's ``tools``. Where neither says anything, a call
without an output is pending unless a message follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.call_items import action_of, arguments_of, brings_its_result, has_any

#: The call of an MCP tool that waits for somebody's word rather than for an output.
APPROVAL = "mcp_approval_request"
#: Output items that mean: a response that calls itself completed waits for somebody outside; and the types of
#: the tools by which each of them is offered.
_OFFERED_BY: Mapping[str, frozenset[str]] = {
    "function_call": frozenset({"function"}),
    "custom_tool_call": frozenset({"custom"}),
    "computer_call": frozenset({"computer", "computer_use", "computer_use_preview", "computer-preview"}),
    "local_shell_call": frozenset({"local_shell"}),
    "shell_call": frozenset({"shell"}),
    "apply_patch_call": frozenset({"apply_patch"}),
    "tool_search_call": frozenset({"tool_search"}),
    # Only a person can make this one, so it is pending whoever offered the server.
    APPROVAL: frozenset({"mcp"}),
}
_NAMED = frozenset({"function_call", "custom_tool_call"})
#: Calls that servers make themselves, too; any other one that nobody offered still waits for somebody.
_SERVERS_MAKE = frozenset({"custom_tool_call", "shell_call", "tool_search_call"})
#: Where a shell may run that is not the server's.
_OUR_SHELL = frozenset({"local", ""})
#: Under these names the results of calls name their call, whatever type of item a server makes of them.
_NAME_THEIR_CALL = ("call_id", "tool_call_id", "tool_use_id", "function_call_id")
#: Types of items that name a call and are no result of it: the call itself, in the words of several APIs.
_NO_RESULT = re.compile(r"reasoning|(\w*_)?call|tool_use|\w*(request|arguments)")
_A_RESULT = re.compile(r"result|output|response")
#: Where an item of another type has it.
_SAID = ("output", "result", "error", "content", "text")


def pending_calls(
    data: Mapping[str, Any],
    offered: Iterable[Mapping[str, Any]] | None = None,
    *,
    if_unknown: bool = False,
) -> tuple[ToolCall, ...]:
    """
    Read the calls that wait for an answer; one that a server writes twice is one.

    :param data: the response.
    :param offered: the tools of the request, where it is known.
    :param if_unknown: whether a call counts that waits only if it was offered, where nobody says what was.
    """
    tools = _tools_of(data, offered)
    counts_all = if_unknown and tools.are_unknown
    calls = (
        _call(kind, item) for kind, item, is_pending in _open_calls(data, tools) if is_pending or counts_all
    )
    return tuple(dict.fromkeys(calls))


def may_wait(data: Mapping[str, Any]) -> bool:
    """Whether one who knows the request might find a call pending that ``pending_calls`` alone does not."""
    return any(not is_pending for _, _, is_pending in _open_calls(data, _tools_of(data, None)))


def is_open_in(items: Iterable[dict[str, Any]], call: ToolCall, *, is_all: bool) -> bool:
    """
    Whether nobody has answered a call in its conversation.

    :param items: of the conversation, newest first; some servers use the id of a call again later.
    :param is_all: whether it has no others. An older call has been answered: an open one lets nothing in.
    """
    for item in items:
        if call.id in _answered([item]):
            return False
        if call.id in _ids_of(item):
            return True
    return is_all


def _tools_of(data: Mapping[str, Any], offered: Iterable[Mapping[str, Any]] | None) -> _Tools:
    return _Tools([*(offered or ()), *reading.objects_of(data.get("tools"))])


def _open_calls(data: Mapping[str, Any], tools: _Tools) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Give type and item of each call that neither has an answer nor says that the server made it."""
    items = reading.items_of(data.get("output"))
    kinds = [reading.identifier(item.get("type")) for item in items]
    if _OFFERED_BY.keys().isdisjoint(kinds):
        return
    answered = set(_answered(items))
    last_message = max((place for place, item in enumerate(items) if _is_message(item)), default=-1)
    for place, (kind, item) in enumerate(zip(kinds, items, strict=True)):
        if kind not in _OFFERED_BY or _made_by_server(kind, item) or answered & _ids_of(item):
            continue
        is_offered = kind == APPROVAL or tools.offer(kind, item)
        # A function that nobody offered, and nothing follows, is a model's mistake; the answer says so.
        may_be_ours = is_offered is None or kind not in _SERVERS_MAKE
        yield kind, item, bool(is_offered or (may_be_ours and place > last_message))


class _Tools:
    """The tools that are known to have been offered, those within others (``namespace``) among them."""

    def __init__(self, tools: Iterable[Mapping[str, Any]]) -> None:
        self._types: set[str] = set()
        self._names: set[tuple[str, str]] = set()
        self._take(tools, depth=0)

    def _take(self, tools: Iterable[Mapping[str, Any]], depth: int) -> None:
        for tool in tools:
            kind = reading.identifier(tool.get("type"))
            if kind == "shell" and _environment(tool) not in _OUR_SHELL:
                kind = "shell of the server"
            self._types.add(kind)
            function = reading.object_of(tool.get(kind)) if kind in {"function", "custom"} else {}
            self._names.add((kind, reading.identifier(tool.get("name") or function.get("name"))))
            if depth < 3:  # noqa: PLR2004 # namespaces of namespaces are not known
                self._take(reading.objects_of(tool.get("tools")), depth + 1)

    @property
    def are_unknown(self) -> bool:
        """Whether nobody says what was offered."""
        return not self._types

    def offer(self, kind: str, item: Mapping[str, Any]) -> bool | None:
        """Whether the tool that is called was offered; None if nobody says what was."""
        if self.are_unknown:
            return None
        types = _OFFERED_BY[kind]
        if kind not in _NAMED:
            return bool(types & self._types)
        name = reading.identifier(item.get("name"))
        return any((of_type, name) in self._names for of_type in types)


def _made_by_server(kind: str, item: Mapping[str, Any]) -> bool:
    """Whether the item itself says that it ran at the server."""
    if brings_its_result(item):
        return True
    if kind == "shell_call":
        return _environment(item) not in _OUR_SHELL
    return kind == "tool_search_call" and item.get("execution") != "client"


def _environment(tool: Mapping[str, Any]) -> str:
    return reading.identifier(reading.object_of(tool.get("environment")).get("type"))


def _ids_of(item: Mapping[str, Any]) -> set[str]:
    return {reading.identifier(item.get(name)) for name in ("call_id", "id")} - {""}


def _answered(items: list[dict[str, Any]]) -> Iterator[str]:
    """Read the ids of calls whose answer stands in the same output, whatever type of output that is."""
    for item in items:
        yield reading.identifier(item.get("approval_request_id"))
        kind = reading.identifier(item.get("type"))
        if kind.endswith("_output"):
            yield reading.identifier(item.get("call_id")) or reading.identifier(item.get("id"))
        elif not _NO_RESULT.fullmatch(kind) and (_A_RESULT.search(kind) or has_any(item, _SAID)):
            yield from (reading.identifier(item.get(name)) for name in _NAME_THEIR_CALL)
        elif kind in _OFFERED_BY and brings_its_result(item):
            yield from _ids_of(item)


def _is_message(item: Mapping[str, Any]) -> bool:
    """Whether it is a message of the model; some servers also write those that it was asked with."""
    return item.get("type", "message") == "message" and item.get("role") in (None, "assistant")


def _call(kind: str, item: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        id=reading.identifier(item.get("call_id")) or reading.identifier(item.get("id")),
        name=reading.identifier(item.get("name")) or kind,
        arguments=_arguments(kind, item),
        type="function" if kind == "function_call" else kind,
        server=(reading.identifier(item.get("server_label")) or None) if kind == APPROVAL else None,
    )


def _arguments(kind: str, item: Mapping[str, Any]) -> str:
    """Return the arguments; those of a custom tool are free text, and other calls have an action instead."""
    if kind in {"function_call", APPROVAL}:
        return arguments_of(item.get("arguments"))
    if "arguments" in item or "input" in item:
        return reading.json_text(item.get("arguments", item.get("input")))
    return action_of(item)
