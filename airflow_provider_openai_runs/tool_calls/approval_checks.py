# SPDX-License-Identifier: Apache-2.0
"""Checks of ``approve`` when the Dag is parsed, and again with rendered arguments: a typo asks nobody."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.tools import names_of

#: The type of a tool that brings the calls of an MCP server.
_MCP = "mcp"
#: Tools whose calls are named, or never wait for an approval.
_OWN_TOOLS = frozenset(
    {"function", "file_search", "retrieval", "code_interpreter", "web_search", "image_generation"}
)


def check_approval(approve: object) -> None:
    """
    Check ``approve`` when the Dag is parsed.

    :param approve: True, a list of function names, or a callable ``(name, arguments) -> bool``; False and
        None ask nobody.
    :raises RunRequestError: for anything else, and on an Airflow without the page (below 3.3).
    """
    if approve is None or approve is False:
        return
    if callable(approve):
        _check_callable(approve)
    elif approve is not True:
        names = checks.sequence("approve", approve)
        if not names:
            raise checks.invalid("approve", approve, "names no call, so nobody would be asked; leave it out")
        for name in names:
            checks.text("each name in approve", name)
    try:
        from airflow.sdk.exceptions import TaskAwaitingInput  # noqa: F401, PLC0415
    except ImportError:
        raise RunRequestError(
            "approve= needs Airflow 3.3 or newer, whose tasks can wait for a person. On this Airflow use "
            "on_tool_calls='return', Airflow's ApprovalOperator and SubmitToolOutputsOperator as three "
            "tasks. Nothing was sent."
        ) from None


def _check_callable(approve: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(approve):
        raise checks.invalid("approve", approve, "is asynchronous, and its answer would not be awaited")
    of = "two arguments, the name of the call and a dict of its arguments"
    checks.called_with("approve", approve, "name", {}, of=of)


def check_approved_calls(
    approve: object, *, functions: Iterable[Callable[..., Any]], tools: object, prompt: object, more: object
) -> None:
    """
    Check that ``approve`` can name a call at all.

    :param approve: as ``check_approval`` has accepted it.
    :param tools: the run's; a template may bring any.
    :param prompt: a prompt template of the API, which may bring tools, too.
    :param more: ``extra_body``.
    :raises RunRequestError: naming what is unknown, and what there is.
    """
    if approve is None or approve is False:
        return
    extra = more if isinstance(more, Mapping) else {}
    given = [found for found in (tools, extra.get("tools")) if found is not None]
    is_open = prompt is not None or "prompt" in extra or (more is not None and extra is not more)
    known = {getattr(function, "__name__", "") for function in functions}.union(*map(names_of, given))
    if not known and not is_open and not any(given):
        raise RunRequestError(
            f"{checks.shown('approve', approve)}: there is no call to approve; give functions=[...], or "
            "tools with those of an MCP server. Nothing was sent."
        )
    wanted = None if approve is True or callable(approve) else checks.sequence("approve", approve)
    for tool in (tool for tools_given in given for tool in _mappings(tools_given)):
        _check_asks(tool, approve, wanted)
    if wanted is None or is_open:
        return
    for tools_given in given:
        names = _callable_names(tools_given)
        if names is None:
            return
        known |= names
    if unknown := sorted(set(wanted) - known):
        raise checks.invalid(
            "approve",
            wanted,
            f"there is no function {unknown[0]!r}, so that nobody would be asked about it; there are: "
            f"{', '.join(sorted(known)) or 'none'}",
        )


def _check_asks(tool: Mapping[str, Any], approve: object, wanted: Collection[str] | None) -> None:
    """Refuse an MCP server that asks nobody about calls that ``approve`` wants a person for."""
    if tool.get("type") != _MCP or (approve is not True and not wanted):
        return
    require = tool.get("require_approval")
    never = require.get("never") if isinstance(require, Mapping) else require == "never"
    if not never:
        return
    # Of a server that asks about nothing, each of its tools; which they are, allowed_tools may say.
    allowed = never if isinstance(never, Mapping) else tool.get("allowed_tools")
    names = _tool_names(allowed) if isinstance(allowed, Mapping) else _texts(allowed)
    if approve is True:
        about = "every call"
    elif found := sorted(set(wanted or ()) & (names or set())):
        about = f"the calls of {found[0]!r}"
    else:
        return
    raise checks.invalid(
        "approve",
        approve,
        f"wants a person for {about}, and require_approval of the MCP server {tool.get('server_label')!r} "
        "lets them be made without asking; leave require_approval out, or name what is to be approved",
    )


def _callable_names(tools: object) -> set[str] | None:
    """
    Return what tools may call and a person may be asked about.

    None where only the run will show that: of an MCP server without ``allowed_tools``, or of a template.
    """
    if not isinstance(tools, (list, tuple)) or len(_mappings(tools)) < len(tools):
        return None
    found = names_of(tools)
    for tool in _mappings(tools):
        if tool.get("type") in _OWN_TOOLS or (
            tool.get("type") == _MCP and tool.get("require_approval") == "never"
        ):
            continue
        allowed = tool.get("allowed_tools") if tool.get("type") == _MCP else None
        names = _tool_names(allowed) if isinstance(allowed, Mapping) else _texts(allowed)
        if names is None:
            return None
        found |= names
    return found


def _tool_names(choice: Mapping[str, Any]) -> set[str] | None:
    return _texts(choice.get("tool_names"))


def _texts(names: object) -> set[str] | None:
    """Return a list of plain names as a set; None for anything else, such as a template."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return None
    return None if any("{{" in name for name in names) else set(names)


def _mappings(tools: object) -> list[Mapping[str, Any]]:
    return [tool for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, (list, tuple)) else []
