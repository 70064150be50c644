# SPDX-License-Identifier: Apache-2.0
"""Which calls a person has to approve, and what the person decided."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.tool_calls.approval_form import arguments_of, is_exact

#: Types of calls, as the API names them.
FUNCTION = "function"
MCP_APPROVAL = "mcp_approval_request"

Approve = bool | Sequence[str] | Callable[..., bool] | None


def digest(call: ToolCall) -> str:
    """Return a hash of exactly the raw call: its id, name, arguments, type and server."""
    raw = json.dumps([call.id, call.name, call.arguments, call.type, call.server], ensure_ascii=False)
    return hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()


def calls_to_approve(
    calls: Sequence[ToolCall], approve: Approve, *, asked: Collection[str] = ()
) -> list[ToolCall]:
    """
    Return the calls that a person is to see, in their order.

    A callable is not asked about arguments that are no JSON object, or that programs read differently: a
    person sees them at once. So do those about which it returns nothing. What it raises is raised.

    :param asked: the digests of calls that were put before a person already. They stay with that person, even
        where a callable, or an edited Dag, would ask nobody now: the person may have said no.
    """

    def is_needed(call: ToolCall) -> bool:
        if digest(call) in asked:
            return True
        if approve is None or isinstance(approve, bool):
            return bool(approve)
        if not callable(approve):
            return call.name in approve
        arguments = arguments_of(call)
        if arguments is None or not is_exact(call.arguments):
            return True
        answer = approve(call.name, arguments)
        return answer is None or bool(answer)

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
