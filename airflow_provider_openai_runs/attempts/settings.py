# SPDX-License-Identifier: Apache-2.0
"""What was asked of a task: the operator's arguments, rendered and checked, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_provider_openai_runs.runs.ceiling import Ceiling, check_bounded
from airflow_provider_openai_runs.runs.policies import (
    OnActiveRun,
    OnApproval,
    OnIncomplete,
    OnLostCreate,
    OnToolCalls,
    OnUnendable,
    check_policies,
)
from airflow_provider_openai_runs.runs.polling import Outcome
from airflow_provider_openai_runs.runs.request import RunRequest, checked_timeouts
from airflow_provider_openai_runs.runs.response_request import check_can_be_answered
from airflow_provider_openai_runs.tool_calls.answering import Limit
from airflow_provider_openai_runs.tool_calls.approval import Approve
from airflow_provider_openai_runs.wire import Answer, wire_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSettings:
    """
    The checked arguments of a task that creates a run; those of ``BaseCreateOperator``, durations in seconds.

    :param request: what is asked for.
    :param conn_id: the connection to create the run with.
    :param completion_window: seconds to wait for the run; None is fire and forget.
    :param poll_interval: seconds between polls, where they are fixed.
    :param timeouts: whole budgets of create, read and delete.
    :param push_xcom: whether anything of the run may go to XCom.
    :param outputs: answers to calls that are given, by call id.
    :param text_in_xcom: bytes of a text that may be in XCom; None is no limit.
    :param ceiling: what may be spent from one clear to the next.
    :param provider_metadata: name Dag, task and Dag run in the metadata of runs.
    :param unsendable: why nothing can be created; what an earlier attempt has created is gone on with.
    """

    request: RunRequest
    conn_id: str
    completion_window: float | None = None
    poll_interval: float | None = None
    execution_timeout: timedelta | None = None
    timeouts: Mapping[str, float] = field(default_factory=lambda: checked_timeouts(None))
    deferrable: bool = False
    cancel_on_kill: bool = True
    cancel_on_timeout: bool = True
    on_incomplete: OnIncomplete = "fail"
    on_lost_create: OnLostCreate = "fail"
    max_resubmits: int = 1
    on_active_run: OnActiveRun = "fail"
    on_unendable: OnUnendable = "give_up"
    functions: Sequence[Callable[..., Any]] = ()
    outputs: Mapping[str, Answer] = field(default_factory=dict)
    max_rounds: int = 20
    max_tool_errors: int = 3
    on_tool_calls: OnToolCalls = "fail"
    approve: Approve = None
    approval_timeout: float | None = None
    approval_subject: str | None = None
    on_approval_timeout: OnApproval = "reject"
    on_second_approval: OnApproval = "reject"
    output_type: Any = None
    push_xcom: bool = True
    multiple_outputs: bool = False
    output_path: str | None = None
    text_in_xcom: int | None = None
    ceiling: Ceiling = field(default_factory=Ceiling)
    provider_metadata: bool = False
    unsendable: Exception | None = None

    def __post_init__(self) -> None:
        """
        Check the choices, and what they mean together.

        :raises RunRequestError: for a value that is no choice, and for calls that could not be answered.
        """
        check_policies(self)
        if self.request.body and self.ceiling.is_set:
            check_bounded(self.request.body, self.ceiling)
        # Without a body nothing is going to be asked for: the task resumes only to finish.
        answers_calls = self.request.body and (self.functions or self.approve)
        if answers_calls and not wire_of(self.request.kind).answers_in_place:
            answers = self.request.answers
            check_can_be_answered(
                store=self.request.body.get("store"),
                conversation=self.request.body.get("conversation") or (answers and answers.thread_id),
            )

    @property
    def resubmits(self) -> int:
        """How many creates that were lost may be sent again."""
        return self.max_resubmits if self.on_lost_create == "resubmit" else 0

    @property
    def withholds(self) -> bool:
        """Whether no word of prompt or answer may be in Airflow."""
        return self.text_in_xcom == 0

    @property
    def answers_calls(self) -> bool:
        """Whether somebody here may have an answer to the model's calls."""
        return bool(self.functions or self.approve or self.outputs)

    def limit_text(self, outcome: Outcome) -> str:
        """Return how the limit reads in an error that is behind a wait's outcome."""
        return {
            Outcome.WINDOW_OVER: f"completion_window={_number(self.completion_window)}",
            Outcome.EXECUTION_TIMEOUT: f"execution_timeout={self.execution_timeout}",
        }.get(outcome, "")

    def limits(self, *, deadline: float | None, attempt_deadline: float | None) -> list[Limit]:
        """Return until when the calls of a run may be answered."""
        ends = {Outcome.WINDOW_OVER: deadline, Outcome.EXECUTION_TIMEOUT: attempt_deadline}
        return [
            Limit(ends_at=end, text=self.limit_text(outcome))
            for outcome, end in ends.items()
            if end is not None
        ]


def _number(seconds: float | None) -> str:
    return "None" if seconds is None else f"{seconds:.15g}"
