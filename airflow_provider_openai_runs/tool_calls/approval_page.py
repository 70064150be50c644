# SPDX-License-Identifier: Apache-2.0
"""
Asks a person about the calls of a run on Airflow's own human-in-the-loop page (Airflow 3.3+).

Airflow keeps one page for a task instance in a Dag run, through retries and clears. To write it again wipes
the answer but leaves the first text, and a worker cannot read it (3.3's supervisor refuses the read). So a
note in the task state store says which calls the page shows, and whether it was answered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import redact

from airflow_provider_openai_runs.runs.model import RunRef, ToolCall, plain
from airflow_provider_openai_runs.tool_calls import approval_text
from airflow_provider_openai_runs.tool_calls.approval import MCP_APPROVAL, ApprovalDecision
from airflow_provider_openai_runs.tool_calls.approval_form import arguments_of, changed, entered

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

APPROVE = "Approve"
REJECT = "Reject"
_NOTE = "openai_run_approval"
_UNKNOWN = "unknown"
#: Longer arguments are shown, cut, but cannot be edited.
_MAX_EDITABLE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherPage:
    """
    The task instance has shown a page about other calls, which Airflow would show again in place of ours.

    :param is_open: that page was never answered (the task was cleared while a person decided). A person could
        still answer it, which would wake the task with the answer to a question of the past. To close it,
        wait for ``ApprovalPage.CLOSING_TIMEOUT``: the scheduler rejects the page in the person's place.
    """

    is_open: bool

    def __str__(self) -> str:
        return (
            "Airflow keeps one approval page for a task instance in a Dag run, and this one has shown other "
            "calls on it before (another round, or the run of an attempt before a clear)"
        )


class ApprovalPage:
    """
    The page about the calls of one round.

    :param ti: Airflow's task instance.
    :param ref: the run whose model asks.
    :param calls: all that the page is to show, in order.
    :param store: ``context["task_state_store"]``.
    """

    #: How long to wait for the scheduler to close a page of the past.
    CLOSING_TIMEOUT = timedelta(seconds=1)

    def __init__(self, *, ti: Any, ref: RunRef, calls: Sequence[ToolCall], store: Any, log: Logger) -> None:
        self._ti = ti
        self._ref = ref
        self._calls = list(calls)
        self._store = store
        self._log = log
        key = json.dumps([ref.id, *(call.id for call in self._calls)])
        self._id = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:16]

    def show(self) -> OtherPage | None:
        """
        Write the page, so that it waits for an answer. One that shows these calls already is opened again.

        Returns the other page if this task instance has shown other calls.
        """
        note = self._note()
        page = note.get("page", self._id)
        if page != self._id and note.get("answered"):
            return OtherPage(is_open=False)
        # Also a page of the past is opened: a pause on an answered one ends at once, and Airflow 3.3 may take
        # the exit of the worker that paused for the end of the task (apache/airflow#67287).
        if not self._write():
            self._keep(page=page if page != self._id else _UNKNOWN, answered=False)
            return OtherPage(is_open=True)
        self._keep(answered=False)
        self._log.info("Asking a person about %d calls of %s", len(self._calls), self._ref)
        return None

    def decisions(self, event: Mapping[str, Any]) -> dict[str, ApprovalDecision] | OtherPage:
        """
        Return what was decided, by the ids of the calls; or the other page that this is the answer to.

        :param event: what Airflow resumes the task with, also when the time is over.
        """
        note = self._note()
        page = note.get("page", self._id)
        try:
            self._keep(page=page, answered=True)
        except Exception as error:  # noqa: BLE001 # it only spares Airflow a needless read later
            self._log.warning("Could not note that the approval page was answered: %s", error)
        if page != self._id:
            return OtherPage(is_open=False)
        if self.is_timeout(event):
            return {call.id: ApprovalDecision(approved=False, timed_out=True) for call in self._calls}
        given = entered(event)
        is_approved = list(event.get("chosen_options") or []) == [APPROVE]
        return {
            call.id: self._decision(call, given, place, is_approved=is_approved)
            for place, call in enumerate(self._calls, 1)
        }

    @staticmethod
    def is_timeout(event: Mapping[str, Any]) -> bool:
        """Whether nobody answered, and Airflow resumes the task because the time is over."""
        return (
            bool(event.get("timedout"))
            or event.get("error_type") == "timeout"
            # The answer that the scheduler gave, met again: a person's has a name.
            or ("chosen_options" in event and event.get("responded_by_user", "") is None)
        )

    def _write(self) -> bool:
        """Write the page; return whether it is ours that stands there."""
        from airflow.sdk.execution_time.comms import CreateHITLDetailPayload  # noqa: PLC0415
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # noqa: PLC0415

        body = approval_text.body(
            ti=self._ti,
            ref=self._ref,
            sections=[(call, self._shown(call), self._is_editable(call)) for call in self._calls],
            page=self._id,
        )
        stored = SUPERVISOR_COMMS.send(
            msg=CreateHITLDetailPayload(
                ti_id=self._ti.id,
                options=[APPROVE, REJECT],
                subject=approval_text.subject(self._ref, len(self._calls)),
                body=body,
                # With it the scheduler answers a page whose time is over, and none is left open.
                defaults=[REJECT],
                multiple=False,
                params=self._params(),
                assigned_users=[],
            )
        )
        return approval_text.is_page(getattr(stored, "body", None), self._id)

    def _params(self) -> dict[str, Any]:
        from airflow.sdk import Param  # noqa: PLC0415

        params = {}
        for place, call in enumerate(self._calls, 1):
            name = f"{place}. {approval_text.one_line(call.name)}"
            if len(self._calls) > 1:
                params[f"approve_{place}"] = Param(True, type="boolean", title=f"{name}: approve")
            if self._is_editable(call):
                params[f"arguments_{place}"] = Param(
                    self._shown(call), type="object", title=f"{name}: arguments"
                )
        params["comment"] = Param(
            "", type=["string", "null"], title="Comment", description="Goes to the model with a rejection"
        )
        return {name: param.serialize() for name, param in params.items()}

    def _shown(self, call: ToolCall) -> Any:
        """Return the arguments as a person sees them, secrets masked; the text if they are no JSON object."""
        arguments = arguments_of(call)
        return redact(plain(call.arguments if arguments is None else arguments))

    @staticmethod
    def _is_editable(call: ToolCall) -> bool:
        is_short = len(call.arguments) <= _MAX_EDITABLE
        return call.type != MCP_APPROVAL and is_short and arguments_of(call) is not None

    def _decision(
        self, call: ToolCall, given: Mapping[str, Any], place: int, *, is_approved: bool
    ) -> ApprovalDecision:
        comment = given.get("comment")
        comment = comment.strip() or None if isinstance(comment, str) else None
        if not is_approved or given.get(f"approve_{place}", True) is not True:
            return ApprovalDecision(approved=False, comment=comment)
        name = f"arguments_{place}"
        if name not in given or not self._is_editable(call):
            return ApprovalDecision(approved=True, comment=comment)
        if not isinstance(given[name], dict):
            return ApprovalDecision(
                approved=False, comment="the arguments entered in their place are no JSON object"
            )
        arguments = changed(given[name], self._shown(call), arguments_of(call))
        return ApprovalDecision(approved=True, comment=comment, arguments=arguments)

    def _note(self) -> dict[str, Any]:
        found = self._store.get(_NOTE)
        return found if isinstance(found, dict) else {}

    def _keep(self, *, answered: bool, page: str | None = None) -> None:
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # noqa: PLC0415 # 3.3+

        self._store.set(_NOTE, {"page": page or self._id, "answered": answered}, retention=NEVER_EXPIRE)
