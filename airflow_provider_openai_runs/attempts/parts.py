# SPDX-License-Identifier: Apache-2.0
"""Makes the parts of an attempt from the arguments of its operator, which it checks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_openai_runs.attempts.acquire import RunAcquirer
from airflow_provider_openai_runs.attempts.answers import AnswerSender
from airflow_provider_openai_runs.attempts.create import RunCreator, TrackedRun
from airflow_provider_openai_runs.attempts.finish import RunFinisher
from airflow_provider_openai_runs.runs import checks, policies
from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.runs.polling import Outcome
from airflow_provider_openai_runs.runs.request import RunRequest, checked_timeouts
from airflow_provider_openai_runs.tool_calls.answering import ApprovalNeededError, Limit, ToolCallAnswerer
from airflow_provider_openai_runs.tool_calls.approval_page import ApprovalPage, calls_to_approve
from airflow_provider_openai_runs.tool_calls.approval_request import ApprovalRequest
from airflow_provider_openai_runs.tool_calls.function_caller import FunctionCaller
from airflow_provider_openai_runs.typed.output import OutputType

if TYPE_CHECKING:
    from airflow_provider_openai_runs.attempts.kill import KillHandler
    from airflow_provider_openai_runs.attempts.record_store import RunRecords
    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
    from airflow_provider_openai_runs.operators.base import BaseCreateOperator

_CHOICES = {
    "on_incomplete": policies.OnIncomplete,
    "on_lost_create": policies.OnLostCreate,
    "on_active_run": policies.OnActiveRun,
    "on_tool_calls": policies.OnToolCalls,
    "on_approval_timeout": policies.OnApproval,
    "on_second_approval": policies.OnApproval,
}


class Parts:
    """
    The parts that one attempt works with.

    :param operator: with its templates rendered.
    :param context: Airflow's.
    """

    def __init__(self, operator: BaseCreateOperator, context: Any, records: RunRecords) -> None:
        self._operator = operator
        self._context = context
        self._ti: Any = context["ti"]
        self._records = records
        #: For all rounds, so that what is bound to a thread lasts as long as the attempt does in its worker.
        self._functions: FunctionCaller | None = None

    @cached_property
    def request(self) -> RunRequest:
        """What is asked for, checked."""
        for name, choices in _CHOICES.items():
            checks.choice(name, getattr(self._operator, name), get_args(choices))
        return self._operator.build_request()

    @cached_property
    def window(self) -> float | None:
        """Seconds to wait for the run; None is fire and forget."""
        window = self._operator.completion_window
        return None if window is None else checks.completion_window(window)

    @cached_property
    def interval(self) -> float | None:
        """Seconds between looks, where they are fixed."""
        interval = self._operator.poll_interval
        return None if interval is None else checks.seconds("poll_interval", interval)

    @cached_property
    def timeouts(self) -> dict[str, float]:
        """The budgets of create, read and delete, in seconds."""
        return checked_timeouts(self._operator.timeouts)

    @property
    def limits(self) -> dict[Outcome, str]:
        """How the limits of the task read in an error."""
        return {
            Outcome.WINDOW_OVER: f"completion_window={self._operator.completion_window}",
            Outcome.EXECUTION_TIMEOUT: f"execution_timeout={self._operator.execution_timeout}",
        }

    def creator(self, hook: OpenAIRunsHook, kill_handler: KillHandler) -> RunCreator:
        """Return what creates runs."""
        ti = self._ti
        return RunCreator(
            hook=hook,
            request=self.request,
            records=self._records,
            identity=(ti.dag_id, ti.run_id, ti.task_id, ti.map_index),
            generation=ti.max_tries,
            window=self.window,
            timeouts=self.timeouts,
            log=self._operator.log,
            on_created=kill_handler.take,
        )

    def owner(self, hook: OpenAIRunsHook, kill_handler: KillHandler) -> RunAcquirer:
        """Return what finds the run of an earlier attempt."""
        operator = self._operator
        began = getattr(self._context.get("dag_run"), "start_date", None)
        return RunAcquirer(
            creator=self.creator(hook, kill_handler),
            retries_without_record=not self._records.is_kept and self._ti.try_number > 1,
            run_began_at=began.timestamp() if began else 0.0,
            cancel_on_timeout=operator.cancel_on_timeout,
            on_lost_create=operator.on_lost_create,
            on_active_run=operator.on_active_run,
        )

    def finisher(self, hook: OpenAIRunsHook) -> RunFinisher:
        """Return what ends the attempt."""
        operator = self._operator
        return RunFinisher(
            hook=hook,
            context=self._context,
            records=self._records,
            on_incomplete=operator.on_incomplete,
            on_tool_calls=operator.on_tool_calls,
            output_type=None if operator.output_type is None else OutputType(operator.output_type),
            taken_over=operator.taken_over(),
            cancel_on_timeout=operator.cancel_on_timeout,
            limits=self.limits,
            timeouts=self.timeouts,
            multiple_outputs=operator.multiple_outputs,
            log=operator.log,
        )

    def time_limits(self, tracked: TrackedRun, attempt_deadline: float | None) -> list[Limit]:
        """Return until when the calls of a run may be answered."""
        ends = {Outcome.WINDOW_OVER: tracked.deadline, Outcome.EXECUTION_TIMEOUT: attempt_deadline}
        return [
            Limit(ends_at=end, text=self.limits[outcome]) for outcome, end in ends.items() if end is not None
        ]

    def approval_request(self, needed: ApprovalNeededError, progress: dict[str, Any]) -> ApprovalRequest:
        """Return what puts the calls before a person."""
        operator, store = self._operator, self._context["task_state_store"]
        ref, calls = needed.run.ref, needed.calls
        return ApprovalRequest(
            page=ApprovalPage(ti=self._ti, ref=ref, calls=calls, store=store, log=operator.log),
            needed=needed,
            progress=progress,
            timeout=operator.approval_timeout,
            on_timeout=operator.on_approval_timeout,
            on_second=operator.on_second_approval,
        )

    def answerer(self, hook: OpenAIRunsHook, kill_handler: KillHandler) -> ToolCallAnswerer:
        """Return what answers the calls of a run."""
        operator = self._operator
        if operator.functions and self._functions is None:
            self._functions = FunctionCaller(
                operator.functions, context=self._context, log=operator.log, check=kill_handler.check
            )

        def needing(calls: Sequence[ToolCall]) -> list[ToolCall]:
            return calls_to_approve(calls, operator.approve)

        return ToolCallAnswerer(
            hook=hook,
            sender=AnswerSender(
                hook=hook, creator=self.creator(hook, kill_handler), on_lost_create=operator.on_lost_create
            ),
            functions=self._functions,
            outputs=operator.given_outputs(),
            calls_to_approve=needing,
            max_rounds=operator.max_rounds,
            max_tool_errors=operator.max_tool_errors,
            read_budget=self.timeouts["read"],
            log=operator.log,
        )
