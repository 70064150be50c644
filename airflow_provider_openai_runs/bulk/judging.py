# SPDX-License-Identifier: Apache-2.0
"""What a run of a bulk task is worth once it has ended: by the same rules as a task of one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_openai_runs import results
from airflow_provider_openai_runs.bulk.commands import StopReason, Verdict
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.parts import Outcome
from airflow_provider_openai_runs.runs.error_of_run import error_of_answer, error_of_run
from airflow_provider_openai_runs.runs.errors import RunCancelledError, RunOutputError
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.policies import OnIncomplete
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.typed.output import OutputType, OutputTypeFault

#: Why active runs are cancelled, as their items say it.
_ENDED_FOR: dict[StopReason | None, str] = {
    StopReason.WINDOW_OVER: "completion_window is over",
    StopReason.TOO_MANY_FAILED: "more items than max_failed have failed",
    StopReason.KILLED: "it was killed, marked or cleared",
    StopReason.TIMED_OUT: "execution_timeout is over",
    StopReason.FAILED: "its last attempt has failed",
}


CANCELLED_BY_TASK = "was cancelled by this task"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJudge:
    """
    Says what a run that ended is worth: a ``Judge`` of ``commands.py``.

    :param output_type: as the operator has it; None where any text is an answer.
    :param is_retry: whether an earlier attempt may have created the run, and cancelled it.
    :param stopped: says why this attempt cancels what is active; None as long as it does not.
    """

    on_incomplete: OnIncomplete = "fail"
    output_type: Any = None
    is_retry: bool = False
    stopped: Callable[[], StopReason | None] = lambda: None
    _type: OutputType | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """
        Read the type once.

        :raises RunRequestError: if it is none.
        """
        if self.output_type is not None:
            object.__setattr__(self, "_type", OutputType(self.output_type))

    def __call__(self, row: int, custom_id: str | None, run: Run) -> Verdict:
        """Return the result of a run, or why it is no success; its dict is there in both cases."""
        error = error_of_run(run, on_incomplete=self.on_incomplete, is_adopted=self.is_retry)
        output: dict[str, Any] = {}
        if error is None and self._type is not None:
            try:
                output["output"] = self._type.parse_answer(run)
            except ValueError as unfit:
                error = error_of_answer(run, str(unfit))
            except OutputTypeFault as fault:
                text = f"output_type itself failed over the answer of {run.ref}: {fault}."
                error = RunOutputError(f"{text} It is not bought again.", retryable=False)
        if run.status is RunStatus.CANCELLED and (stopped := self.stopped()) in _ENDED_FOR:
            error = RunCancelledError(f"{run.ref.subject} {CANCELLED_BY_TASK}: {_ENDED_FOR[stopped]}.")
        outcome = Outcome(
            row=row,
            custom_id=custom_id,
            state=ItemState.SUCCEEDED if error is None else ItemState.FAILED,
            result={**results.whole(run), **output},
            error=None if error is None else str(error),
        )
        return Verdict(outcome=outcome, retryable=error is not None and error.retryable)
