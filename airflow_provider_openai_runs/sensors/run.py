# SPDX-License-Identifier: Apache-2.0
"""Wait for a run that somebody else has created; never cancel it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.links import OpenAIRunLink
from airflow_provider_openai_runs.operators.named_run import NamedRun
from airflow_provider_openai_runs.operators.parse_checks import check_names, check_targets
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.budgets import NOT_FOUND_GRACE, NOT_SHOWN_YET, PERMANENT_FAILURE_BUDGET
from airflow_provider_openai_runs.runs.error_of_run import error_of_run, error_of_unknown_run
from airflow_provider_openai_runs.runs.errors import RunEndedError, RunUnreachableError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.polling import (
    Outcome,
    PollAgain,
    PollPolicy,
    WaitLimits,
)
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.wait import WaitResult

if TYPE_CHECKING:
    from airflow.sdk import Context


#: How often a run that has got there is read again whose read does not show it yet.
_READS_AGAIN = 2


class BaseRunSensor(NamedRun, BaseSensorOperator):
    """
    Wait until a run has one of the target statuses; the run's dict goes to XCom.

    ``poke_interval``, ``timeout``, ``mode``, ``soft_fail`` and ``never_fail`` are Airflow's own, which at the
    end of ``timeout`` skips a deferred sensor with ``never_fail`` and fails one that pokes. A run that has
    ended in another status fails the task at once; the run itself is never cancelled.

    :param ref: the run, as in the XCom ``ref`` of the task that created it.
    :param conn_id: of type ``openai``; unless given, the one in ``ref``, else ``openai_default``.
    :param target_statuses: for example ``("completed", "incomplete")``.
    :param deferrable: wait in the triggerer; Airflow's ``[operators] default_deferrable`` unless given.
    :param include_steps: read every page of the run's steps, too, when it has got there.
    :param include: what the API leaves out of that read unless it is asked for, by its own names.
    """

    operator_extra_links = (OpenAIRunLink(),)
    ui_color = "#e4ecf7"

    @airflow_errors()
    def __init__(
        self,
        *,
        ref: Mapping[str, Any] | None = None,
        conn_id: str | None = None,
        target_statuses: Sequence[str] = (RunStatus.COMPLETED.value,),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        include_steps: bool = False,
        include: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        check_names(type(self), kwargs)
        super().__init__(**kwargs)
        self.ref = ref
        self.conn_id = conn_id
        self.target_statuses = target_statuses
        self.deferrable = checks.flag("deferrable", deferrable)
        self.include_steps = include_steps
        self.include = include
        self._waiting: PollPolicy | None = None
        self._first_poke_at = 0.0
        self._last_status: str | None = None
        self._last_failure: str | None = None
        self._last_seen = ""
        check_targets(self)

    def execute(self, context: Context) -> Any:
        """Poll once; then wait in the triggerer, or poke as any sensor does."""
        if not self.deferrable:
            try:
                return super().execute(context)
            except (AirflowSensorTimeout, AirflowSkipException) as error:
                if error.__cause__ is not None:  # not the timeout, but what a poke has raised
                    raise
                raise type(error)(f"{error} {self._last_seen}") from None
        started_at = time.time()
        try:
            observed = self.poke(context)
        except AirflowException as error:
            # As in BaseSensorOperator.resume_execution, which sees every later end of a deferred sensor.
            if self.soft_fail or self.never_fail:
                way = "soft_fail" if self.soft_fail else "never_fail"
                raise AirflowSkipException(f"Skipped ({way}=True): {error}") from error
            raise
        if observed.is_done:
            return observed.xcom_value
        from airflow_provider_openai_runs.triggers import RunCompletionTrigger  # noqa: PLC0415

        attempt = self.execution_timeout
        trigger = RunCompletionTrigger(
            ref=self.named_run().to_json(),
            created_at=started_at,
            deadline=started_at + self.timeout,
            attempt_deadline=started_at + attempt.total_seconds() if attempt else None,
            poll_interval=self.poke_interval or None,
            cancel_on_kill=False,
            cancel_on_timeout=False,
            deferred_at=time.time(),
            target_statuses=self._targets(),
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=None)
        return None  # defer() does not return

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Finish after the wait in the triggerer."""
        with self.task_errors():
            result = WaitResult.from_json(event)
            if result.outcome in {Outcome.REACHED, Outcome.ENDED}:
                return self._finished(
                    context, result.ref, reached=result.outcome is Outcome.REACHED
                ).xcom_value
            if result.outcome is Outcome.UNREACHABLE:
                raise RunUnreachableError(
                    f"Nobody could say how {result.ref} is doing: {result.failure}. It was left alone."
                )
            limit = (
                f"timeout={self.timeout:g} s"
                if result.outcome is Outcome.WINDOW_OVER
                else f"execution_timeout={self.execution_timeout}"
            )
            raise AirflowSensorTimeout(
                f"{result.ref} did not get to {list(self._targets())} within {limit}. "
                f"{_seen(result.raw_status, result.failure)}"
            )

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll the run once."""
        with self.task_errors():
            ref = self.named_run()
            waiting = self._waiting_for(context)
            try:
                polled = self.hook_of(ref).run_flow(flows.single(wire_of(ref.kind).poll(ref)))
            except ApiRequestFailed as failed:
                if self._denied_for_too_long(failed.failure):
                    raise error_of_unknown_run(ref, failed.failure) from None
                self._last_failure = str(failed.failure)
                decision = waiting.on_error(failed.failure, now=time.time())
            else:
                self._last_status, self._last_failure = polled.raw_status, None
                decision = waiting.on_result(polled, now=time.time())
            for level, line in decision.notes:
                self.log.log(level, "%s: %s", ref, line)
            if isinstance(decision, PollAgain):
                self._last_seen = (
                    f"{ref.subject} did not get to {list(self._targets())}. "
                    f"{_seen(self._last_status, self._last_failure)}"
                )
                return PokeReturnValue(is_done=False)
            if decision.failure is not None:
                raise error_of_unknown_run(ref, decision.failure)
            return self._finished(context, ref, reached=decision.outcome is Outcome.REACHED)

    def _waiting_for(self, context: Context) -> PollPolicy:
        """Return the one wait of all pokes in this worker; after a reschedule there is a new one."""
        if self._waiting is None:
            now = time.time()
            first: Any = (
                cast("Any", context["ti"]).get_first_reschedule_date(context) if self.reschedule else None
            )
            self._first_poke_at = first.timestamp() if first else now
            limits = WaitLimits(
                created_at=now,
                not_found_grace_until=self._first_poke_at + NOT_FOUND_GRACE,
                targets=frozenset(self._targets()),
            )
            self._waiting = PollPolicy(limits, started_at=now)
        return self._waiting

    def _denied_for_too_long(self, failure: RequestFailure) -> bool:
        """Judge from the first poke: a rescheduled sensor does not remember the ones in between."""
        budget_is_over = time.time() - self._first_poke_at >= PERMANENT_FAILURE_BUDGET
        return self.reschedule and budget_is_over and not failure.is_transient

    def _finished(self, context: Context, ref: RunRef, *, reached: bool) -> PokeReturnValue:
        run = self._read(ref)
        for _ in range(_READS_AGAIN if reached else 0):
            is_behind = run.status.is_active and run.raw_status not in self._targets()
            if not (is_behind or run.is_empty or run.is_unread):
                break
            # Some servers show what a run wrote, or its end, to a poll first and to a read later.
            time.sleep(NOT_SHOWN_YET)
            run = self._read(ref)
        if reached:
            return PokeReturnValue(is_done=True, xcom_value=self.returned(context, run, text_limit=None))
        error = error_of_run(run, is_ours=False) or RunEndedError(
            f"{ref} ended as {run.raw_status}, which is none of {list(self._targets())}.", retryable=False
        )
        raise error

    def _read(self, ref: RunRef) -> Run:
        steps = checks.flag("include_steps", self.include_steps)
        return self.hook_of(ref).retrieve(ref, include_steps=steps, include=self.included())

    def _targets(self) -> tuple[str, ...]:
        statuses = checks.sequence("target_statuses", self.target_statuses)
        return tuple(checks.text("target_statuses", raw_status) for raw_status in statuses)


class ThreadRunSensor(BaseRunSensor):
    """
    Wait for a thread run; the remaining arguments are those of ``BaseRunSensor``.

    :param thread_id: its thread.
    :param run_id: its id, or thread and run as ``"thread_abc:run_xyz"``.
    """

    kind = RunKind.THREAD_RUN
    classes_of_other_kinds: ClassVar[Mapping[str, str]] = {RunKind.RESPONSE: "ResponseSensor"}
    template_fields: Sequence[str] = ("conn_id", "ref", "thread_id", "run_id", "target_statuses", "include")

    @airflow_errors()
    def __init__(self, *, thread_id: str | None = None, run_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thread_id = thread_id
        self.run_id = run_id
        RunRef.check_presence(ref=self.ref, thread_id=thread_id, run_id=run_id)


class ResponseSensor(BaseRunSensor):
    """
    Wait for a response; the remaining arguments are those of ``BaseRunSensor``.

    :param response_id: its id.
    """

    kind = RunKind.RESPONSE
    classes_of_other_kinds: ClassVar[Mapping[str, str]] = {RunKind.THREAD_RUN: "ThreadRunSensor"}
    template_fields: Sequence[str] = ("conn_id", "ref", "response_id", "target_statuses", "include")

    @airflow_errors()
    def __init__(self, *, response_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.response_id = response_id
        RunRef.check_presence(ref=self.ref, response_id=response_id)


def _seen(raw_status: str | None, failure: str | None) -> str:
    """Say how a run was seen last; the failure is one since then."""
    since = f"; polls failed since: {failure}" if failure else ""
    status = f"Its last status was {raw_status}" if raw_status else "Its status was never seen"
    return f"{status}{since}. It was left alone and may be running and billing."
