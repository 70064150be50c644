# SPDX-License-Identifier: Apache-2.0
"""Which calls a person has to approve, and what the person decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.runs.tools import names_of
from airflow_provider_openai_runs.tool_calls.approval_form import arguments_of

#: Types of calls, as the API names them.
FUNCTION = "function"
MCP_APPROVAL = "mcp_approval_request"

#: Tools whose calls are named, or never wait for an approval.
_OWN_TOOLS = frozenset(
    {"function", "file_search", "retrieval", "code_interpreter", "web_search", "image_generation"}
)

Approve = bool | Sequence[str] | Callable[..., bool] | None


def check_approval(approve: object) -> None:
    """
    Check ``approve`` when the Dag is parsed.

    :param approve: True, a list of function names, or a callable ``(name, arguments) -> bool``; False and
        None ask nobody.
    :raises RunRequestError: for anything else, and on an Airflow without the page (below 3.3).
    """
    if approve is None or approve is False:
        return
    if approve is not True and not callable(approve):
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


def check_approved_calls(
    approve: object, *, functions: Iterable[Callable[..., Any]], tools: object, prompt: object, more: object
) -> None:
    """
    Check, when the Dag is parsed, that ``approve`` can name a call at all: a typo would ask nobody.

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
    if approve is True or callable(approve) or is_open or any(map(_may_bring_calls, given)):
        return
    names = checks.sequence("approve", approve)
    if unknown := sorted(set(names) - known):
        raise checks.invalid(
            "approve",
            names,
            f"there is no function {unknown[0]!r}, so that nobody would be asked about it; there are: "
            f"{', '.join(sorted(known)) or 'none'}",
        )


def _may_bring_calls(tools: object) -> bool:
    """Whether calls may come that only the run will show: of an MCP server, or of a template's tools."""
    if not isinstance(tools, (list, tuple)):
        return True
    return any(not isinstance(tool, Mapping) or tool.get("type") not in _OWN_TOOLS for tool in tools)


def calls_to_approve(calls: Sequence[ToolCall], approve: Approve) -> list[ToolCall]:
    """
    Return the calls that a person is to see, in their order.

    A callable is not asked about arguments that are no JSON object: a person sees them at once. What it
    raises is raised.
    """
    if approve is None or isinstance(approve, bool):
        return list(calls) if approve else []
    if not callable(approve):
        return [call for call in calls if call.name in approve]

    def is_needed(call: ToolCall) -> bool:
        arguments = arguments_of(call)
        return arguments is None or bool(approve(call.name, arguments))

    return [call for call in calls if is_needed(call)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDecision:
    """What a person decided about one call."""

    approved: bool
    comment: str | None = None
    #: What a person put in place of the model's arguments; None: as they were.
    arguments: dict[str, Any] | None = None
    #: Whether nobody decided, and Airflow rejected at the end of the time.
    timed_out: bool = False
    #: Why the call was rejected without a person's decision; sent as it is.
    reason: str | None = None

    def rejection(self) -> str:
        """Return the text that goes to the model as the answer to a rejected call."""
        if self.reason is not None:
            return self.reason
        if self.timed_out:
            return "The call was not made: it needs a person's approval, and nobody decided in time."
        said = f" The person says: {self.comment}" if self.comment else ""
        return f"The call was not made: a person rejected it.{said}"
