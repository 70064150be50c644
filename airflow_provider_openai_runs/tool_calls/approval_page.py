# SPDX-License-Identifier: Apache-2.0
"""
Asks a person about the calls of a run on Airflow's own human-in-the-loop page (Airflow 3.3+).

Airflow keeps one page for a task instance in a Dag run, through retries and clears. To write it again wipes
the answer; 3.4 then shows the new text, 3.3 goes on showing the first one. A worker cannot read the page (the
supervisor refuses it). So a note in the task state store says which calls the page shows, and whether it was
answered.

A page stands for exactly the raw calls on it: their hashes are its id. What is decided about it is decided
about them and no other call, whatever id a server gives to that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.runs.model import RunRef, ToolCall
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.tools import describe_calls
from airflow_provider_openai_runs.tool_calls import approval_text
from airflow_provider_openai_runs.tool_calls.approval import ApprovalDecision, digest
from airflow_provider_openai_runs.tool_calls.approval_form import changed, entered
from airflow_provider_openai_runs.tool_calls.approval_masks import has_mask
from airflow_provider_openai_runs.tool_calls.approval_note import ApprovalNote
from airflow_provider_openai_runs.tool_calls.approval_shown import ShownCall

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

APPROVE = "Approve"
REJECT = "Reject"
#: What no page has as its id.
_UNKNOWN = "unknown"


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
    :param round_number: which one of the run it is.
    :param store: ``context["task_state_store"]``.
    :param words: what the model has written beside its calls.
    :param subject: a template of the page's title; see ``approval_text.subject``.
    """

    #: How long to wait for the scheduler to close a page of the past.
    CLOSING_TIMEOUT = timedelta(seconds=1)

    def __init__(
        self,
        *,
        ti: Any,
        ref: RunRef,
        calls: Sequence[ToolCall],
        round_number: int,
        store: Any,
        log: Logger,
        words: str | None = None,
        subject: str | None = None,
    ) -> None:
        self._ti = ti
        self._ref = ref
        self._calls = list(calls)
        self._shown = [ShownCall.of(call) for call in self._calls]
        self._store = store
        self._log = log
        self._words = words
        self._subject = subject
        self._digests = tuple(map(digest, self._calls))
        self._id = _hash([ref.id, str(round_number), *self._digests])
        #: By this an older version knows the page: by the ids of its calls only.
        self._older_id = _hash([ref.id, *(call.id for call in self._calls)])[:16]

    @staticmethod
    def can_be_shown() -> bool:
        """Whether there is an Airflow to show it: ``dag.test()`` would wait for ever."""
        from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

        comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
        return type(comms).__name__ != "InProcessSupervisorComms"

    def show(self, *, deadline: float | None = None, afterwards: str = "") -> OtherPage | None:
        """
        Write the page, so that it waits for an answer. One that shows these calls already is opened again.

        Returns the other page if this task instance has shown other calls.

        :param deadline: Unix seconds until which a person may decide.
        :param afterwards: what happens then, for the person.
        """
        note = ApprovalNote.load(self._store)
        if note is not None and note.page != self._id and note.answered and not _is_refreshed():
            return OtherPage(is_open=False)
        # Also a page of the past is opened: a pause on an answered one ends at once, and Airflow 3.3 may take
        # the exit of the worker that paused for the end of the task (apache/airflow#67287).
        is_ours = self._write(deadline=deadline, afterwards=afterwards)
        shown = self._id if is_ours else _UNKNOWN
        calls = self._digests if is_ours else note.calls if note else ()
        ApprovalNote(page=shown, answered=False, calls=calls).save(self._store)
        if not is_ours:
            return OtherPage(is_open=True)
        self._log.info("Asking a person about %d calls of %s", len(self._calls), self._ref)
        return None

    def decisions(self, event: Mapping[str, Any]) -> dict[ToolCall, ApprovalDecision] | OtherPage:
        """
        Return what was decided about each call; or the other page that this is the answer to.

        Where nothing proves that the page has shown exactly these calls, it is another one.

        :param event: what Airflow resumes the task with, also when the time is over.
        """
        note = ApprovalNote.load(self._store)
        if note is not None:
            try:
                replace(note, answered=True).save(self._store)
            except Exception as error:  # noqa: BLE001 # it only spares Airflow a needless read later
                self._log.warning("Could not note that the approval page was answered: %s", error)
        if note is None or not self._is_about_these(note):
            return OtherPage(is_open=False)
        if self.is_timeout(event):
            return dict.fromkeys(self._calls, ApprovalDecision(approved=False, timed_out=True))
        given = entered(event)
        if unknown := sorted(set(given) - self._fields()):
            why = f"The call was not made: the approval has a field {unknown[0]!r}, and its page has none."
            return dict.fromkeys(self._calls, ApprovalDecision(approved=False, reason=message_text(why)))
        is_approved = list(event.get("chosen_options") or []) == [APPROVE]
        found = {
            shown.call: self._decision(shown, given, place, is_approved=is_approved)
            for place, shown in enumerate(self._shown, 1)
        }
        self._say(found, event)
        return found

    @staticmethod
    def is_timeout(event: Mapping[str, Any]) -> bool:
        """Whether nobody answered, and Airflow resumes the task because the time is over."""
        return (
            bool(event.get("timedout"))
            or event.get("error_type") == "timeout"
            # The answer that the scheduler gave, met again: a person's has a name.
            or ("chosen_options" in event and event.get("responded_by_user", "") is None)
        )

    def _is_about_these(self, note: ApprovalNote) -> bool:
        return note.page == self._id or (note.page == self._older_id and not note.answered)

    def _say(self, found: Mapping[ToolCall, ApprovalDecision], event: Mapping[str, Any]) -> None:
        """Leave in the log who has decided what."""
        user = event.get("responded_by_user")
        who = message_text(user.get("name") or user.get("id")) if isinstance(user, Mapping) else "somebody"
        approved = [call for call, decision in found.items() if decision.approved]
        self._log.info(
            "%s approved %d of %d calls of %s: %s",
            who,
            len(approved),
            len(found),
            self._ref,
            describe_calls(approved) if approved else "none",
        )

    def _write(self, *, deadline: float | None, afterwards: str) -> bool:
        """Write the page; return whether it is ours that stands there."""
        from airflow.sdk.execution_time.comms import CreateHITLDetailPayload  # noqa: PLC0415
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # noqa: PLC0415

        body = approval_text.body(
            ti=self._ti,
            ref=self._ref,
            calls=self._shown,
            page=self._id,
            words=self._words,
            deadline=deadline,
            afterwards=afterwards,
        )
        subject = approval_text.subject(self._subject, ti=self._ti, calls=self._shown, deadline=deadline)
        stored = SUPERVISOR_COMMS.send(
            msg=CreateHITLDetailPayload(
                ti_id=self._ti.id,
                options=[APPROVE, REJECT],
                subject=subject,
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
        for place, shown in enumerate(self._shown, 1):
            name = f"{place}. {approval_text.one_line(shown.call.name)}"
            if len(self._calls) > 1:
                params[f"approve_{place}"] = Param(True, type="boolean", title=f"{name}: approve")
            if shown.editable is not None:
                params[f"arguments_{place}"] = Param(
                    shown.editable, type="object", title=f"{name}: arguments"
                )
        params["comment"] = Param(
            "", type=["string", "null"], title="Comment", description="Goes to the model with a rejection"
        )
        return {name: param.serialize() for name, param in params.items()}

    def _fields(self) -> set[str]:
        """Return what may be entered; also the switch of a single call, whose page has none."""
        places = range(1, len(self._calls) + 1)
        return {"comment"}.union(*({f"approve_{place}", f"arguments_{place}"} for place in places))

    @staticmethod
    def _decision(
        shown: ShownCall, given: Mapping[str, Any], place: int, *, is_approved: bool
    ) -> ApprovalDecision:
        comment = given.get("comment")
        comment = comment.strip() or None if isinstance(comment, str) else None
        if not is_approved or given.get(f"approve_{place}", True) is not True:
            return ApprovalDecision(approved=False, comment=comment)
        name = f"arguments_{place}"
        if name not in given:
            return ApprovalDecision(approved=True, comment=comment)
        if shown.editable is None:
            return ApprovalDecision(approved=False, comment="the arguments of this call cannot be changed")
        if not isinstance(given[name], dict):
            return ApprovalDecision(
                approved=False, comment="the arguments entered in their place are no JSON object"
            )
        arguments = changed(given[name], shown.editable, shown.arguments)
        if shown.masked != shown.arguments and has_mask(arguments, shown.arguments):
            return ApprovalDecision(
                approved=False,
                comment="the arguments entered in their place hold *** where a secret was",
            )
        return ApprovalDecision(approved=True, comment=comment, arguments=arguments)


def _is_refreshed() -> bool:
    """
    Tell whether a further page takes the place of the one before (Airflow 3.4+).

    It only spares an older Airflow a page of the past: whose page stands there, its answer to the write says.
    """
    from airflow.sdk import __version__  # noqa: PLC0415

    major, minor = __version__.split(".")[:2]
    return (int(major), int(minor)) >= (1, 4)


def _hash(parts: Sequence[str]) -> str:
    written = json.dumps(list(parts))
    return hashlib.sha256(written.encode("utf-8", "replace")).hexdigest()
