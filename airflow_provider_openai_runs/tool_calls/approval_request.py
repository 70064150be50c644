# SPDX-License-Identifier: Apache-2.0
"""Puts calls before a person, or decides about them where nobody can or did."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from airflow_provider_openai_runs.runs.errors import ToolCallsPendingError
from airflow_provider_openai_runs.runs.policies import OnApproval
from airflow_provider_openai_runs.tool_calls.answering import ApprovalNeededError, UnansweredError
from airflow_provider_openai_runs.tool_calls.approval_page import ApprovalPage, Decision, SecondApprovalError

#: The scheduler looks every 15 s whether the time of a page is over; then the answer still has to be sent.
_TO_NOTICE = 20.0


@dataclass(kw_only=True)
class ApprovalRequest:
    """
    One question to a person: whether these calls may be made.

    :param progress: what the worker needs that goes on once there is an answer.
    :param timeout: seconds to wait for it at most; None leaves it to the other limits.
    """

    page: ApprovalPage
    needed: ApprovalNeededError
    progress: Mapping[str, Any]
    timeout: float | None
    on_timeout: OnApproval
    on_second: OnApproval
    clock: Callable[[], float] = time.time

    def ask(self) -> dict[str, Decision]:
        """
        Pause the task until a person has decided: no worker and no trigger is held (Airflow 3.3+).

        Returns only where nobody can be asked, which is a rejection.

        :raises UnansweredError: if that is to fail the task.
        """
        try:
            self.page.show()
        except SecondApprovalError as second:
            if second.is_open:
                self._pause(self.page.CLOSING_TIMEOUT)
            return self._nobody_can(second)
        ends = [] if self.needed.until is None else [self.needed.until - _TO_NOTICE - self.clock()]
        if self.timeout is not None:
            ends.append(self.timeout)
        return self._pause(timedelta(seconds=max(1.0, min(ends))) if ends else None)

    def decisions(self, event: Mapping[str, Any]) -> dict[str, Decision]:
        """
        Return what was decided.

        :param event: what Airflow resumed the task with.
        :raises UnansweredError: if nobody decided, and that is to fail the task.
        """
        try:
            decided = self.page.decisions(event)
        except SecondApprovalError as second:
            return self._nobody_can(second)
        if self.page.is_timeout(event) and self.on_timeout == "fail":
            names = ", ".join(call.name for call in self.needed.calls)
            raise UnansweredError(
                self.needed.run,
                ToolCallsPendingError(
                    f"{self.needed.run.ref.subject} waits for calls that need a person's approval ({names}), "
                    "and nobody decided in time (approval_timeout, completion_window or the run's own end)."
                ),
            )
        return decided

    def _nobody_can(self, second: SecondApprovalError) -> dict[str, Decision]:
        way = (
            "Use on_tool_calls='return' with Airflow's ApprovalOperator and SubmitToolOutputsOperator where "
            "a person is to approve more than one round."
        )
        if self.on_second == "fail":
            what = f"{self.needed.run.ref.subject} waits for an approval"
            error = ToolCallsPendingError(f"{what}. {second}. {way}")
            raise UnansweredError(self.needed.run, error) from second
        why = "The call was not made: it needs a person's approval, and nobody can be asked a second time."
        return {call.id: Decision(approved=False, reason=why) for call in self.needed.calls}

    def _pause(self, timeout: timedelta | None) -> NoReturn:
        from airflow.sdk.exceptions import (  # type: ignore[attr-defined, unused-ignore]  # noqa: PLC0415
            TaskAwaitingInput,
        )

        raise TaskAwaitingInput(
            method_name="execute_after_approval",
            kwargs={"progress": dict(self.progress)},
            timeout=timeout,
        )
