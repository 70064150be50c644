# SPDX-License-Identifier: Apache-2.0
"""Puts calls before a person, or decides about them where nobody can or did."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow_provider_openai_runs.runs.budgets import APPROVAL_NOTICE
from airflow_provider_openai_runs.runs.errors import ToolCallsPendingError
from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.runs.policies import OnApproval
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.tool_calls.answering import GivesUp, NeedsApproval
from airflow_provider_openai_runs.tool_calls.approval import ApprovalDecision
from airflow_provider_openai_runs.tool_calls.approval_page import ApprovalPage, OtherPage


@dataclass(frozen=True, slots=True)
class AwaitPerson:
    """Pause the task until a person has decided: no worker and no trigger waits meanwhile (Airflow 3.3+)."""

    timeout: timedelta | None


@dataclass(kw_only=True)
class ApprovalRequest:
    """
    One question to a person: whether these calls may be made.

    :param timeout: seconds to wait for an answer at most; None leaves it to the other limits.
    """

    page: ApprovalPage
    needed: NeedsApproval
    timeout: float | None
    on_timeout: OnApproval
    on_second: OnApproval
    clock: Callable[[], float] = time.time

    def ask(self) -> AwaitPerson | dict[ToolCall, ApprovalDecision] | GivesUp:
        """Show the page and wait for a person; where nobody can be asked, reject the calls or give up."""
        if not self.page.can_be_shown():
            return self._gives_up(
                f"waits for calls that need a person's approval ({self._names()}), and dag.test() has no "
                "page for it and would wait for ever. Run the Dag in Airflow, or test it with approve=None."
            )
        now = self.clock()
        ends = [] if self.needed.until is None else [self.needed.until - APPROVAL_NOTICE - now]
        if self.timeout is not None:
            ends.append(self.timeout)
        seconds = max(1.0, min(ends)) if ends else None
        other = self.page.show(
            deadline=None if seconds is None else now + seconds,
            afterwards="then the task fails" if self.on_timeout == "fail" else "then no call is made",
        )
        if other is not None:
            return AwaitPerson(self.page.CLOSING_TIMEOUT) if other.is_open else self._nobody_can(other)
        return AwaitPerson(None if seconds is None else timedelta(seconds=seconds))

    def decisions(self, event: Mapping[str, Any]) -> dict[ToolCall, ApprovalDecision] | GivesUp:
        """
        Return what was decided about each call.

        :param event: what Airflow resumed the task with.
        """
        decided = self.page.decisions(event)
        if isinstance(decided, OtherPage):
            return self._nobody_can(decided)
        if self.page.is_timeout(event) and self.on_timeout == "fail":
            return self._gives_up(
                f"waits for calls that need a person's approval ({self._names()}), and nobody decided in "
                "time (approval_timeout, completion_window or the run's own end)."
            )
        return decided

    def _nobody_can(self, other: OtherPage) -> dict[ToolCall, ApprovalDecision] | GivesUp:
        if self.on_second == "fail":
            return self._gives_up(
                f"waits for an approval. {other}. Use on_tool_calls='return' with Airflow's ApprovalOperator "
                "and SubmitToolOutputsOperator where a person is to approve more than one round."
            )
        why = "The call was not made: it needs a person's approval, and nobody can be asked a second time."
        return dict.fromkeys(self.needed.calls, ApprovalDecision(approved=False, reason=why))

    def _names(self) -> str:
        return message_text(", ".join(call.name for call in self.needed.calls))

    def _gives_up(self, what: str) -> GivesUp:
        run = self.needed.run
        return GivesUp(run=run, error=ToolCallsPendingError(f"{run.ref.subject} {what}"))
