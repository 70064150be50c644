# SPDX-License-Identifier: Apache-2.0
"""One attempt of a task in a worker: own a run, wait for it or hand the wait over, finish."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, get_args

import pendulum
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_openai_runs.hooks import waits
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.links import OpenAIRunLink
from airflow_provider_openai_runs.operators import results
from airflow_provider_openai_runs.operators.busy import BusyThreadError, BusyWait
from airflow_provider_openai_runs.operators.creating import Owned, RunCreator
from airflow_provider_openai_runs.operators.finish import RunFinisher
from airflow_provider_openai_runs.operators.kill import RunKiller
from airflow_provider_openai_runs.operators.owner import RunOwner
from airflow_provider_openai_runs.operators.record import RunRecords
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.policies import OnActiveRun, OnIncomplete, OnLostCreate
from airflow_provider_openai_runs.runs.request import RunRequest, checked_timeouts
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.waiting import NOT_FOUND_GRACE, Outcome, WaitLimits
from airflow_provider_openai_runs.triggers import RunCompletionTrigger

if TYPE_CHECKING:
    from airflow_provider_openai_runs.operators.base import BaseCreateOperator

_NO_STORE = (
    "This Airflow has no task state store (3.3+): a retry finds a thread run by its token, but starts a "
    "response anew, and a deferred task that is marked or cleared leaves its run going"
)


class Attempt:
    """
    What one attempt does with the arguments of its operator.

    :param operator: with its templates rendered.
    :param context: Airflow's.
    """

    def __init__(self, operator: BaseCreateOperator, context: Any) -> None:
        self._operator = operator
        self._context = context
        self._ti: Any = context["ti"]
        self._log = operator.log
        self._records = RunRecords(context.get("task_state_store"), log=operator.log)
        self._killer: RunKiller | None = None

    def execute(self, *, started_at: float) -> Any:
        """
        Create the run, or go on with the one of an earlier attempt, and wait for it.

        :param started_at: Unix seconds from which execution_timeout counts.
        """
        operator = self._operator
        request, window = operator.build_request(), self._checked_window()
        for warning in request.warnings:
            self._log.warning(warning)
        if not self._records.is_kept:
            self._log.warning(_NO_STORE)
        self._killer = RunKiller(
            ti=self._ti,
            cancel=operator.cancel_on_kill,
            adoptable=self._records.is_kept or request.kind is RunKind.THREAD_RUN,
            log=self._log,
        )
        hook = OpenAIRunsHook(operator.conn_id, sleep=self._killer.sleep)
        self._killer.arm(hook)
        try:
            owned = self._acquire(self._owner(hook, request, window), started_at)
            return self._wait_for(owned, hook, started_at)
        except AirflowTaskTimeout:
            self._killer.timed_out = True
            raise

    def complete(self, event: Any) -> Any:
        """Finish after the wait in the triggerer."""
        result = waits.WaitResult.from_json(event)
        return self._finisher(self._hook_of(result.ref)).conclude(result)

    def after_the_triggers_death(self) -> Any:
        """Return the result of a run that has ended all the same; None where there is none."""
        ref = self._recorded_ref()
        if ref is None:
            return None
        finisher = self._finisher(self._hook_of(ref))
        is_last_try = self._ti.try_number > self._ti.max_tries
        cancel = self._operator.cancel_on_kill
        if finisher.after_the_triggers_death(ref, is_last_try=is_last_try, cancel=cancel):
            return finisher.finish(ref)
        return None

    def kill(self) -> None:
        """End the run."""
        if self._killer is not None:
            self._killer.kill()

    # -- before the wait ----------------------------------------------------------------------------------

    def _checked_window(self) -> float | None:
        operator = self._operator
        checks.choice("on_incomplete", operator.on_incomplete, get_args(OnIncomplete))
        checks.choice("on_lost_create", operator.on_lost_create, get_args(OnLostCreate))
        checks.choice("on_active_run", operator.on_active_run, get_args(OnActiveRun))
        self._interval()
        window = operator.completion_window
        return None if window is None else checks.completion_window(window)

    def _interval(self) -> float | None:
        interval = self._operator.poll_interval
        return None if interval is None else checks.seconds("poll_interval", interval)

    def _owner(self, hook: OpenAIRunsHook, request: RunRequest, window: float | None) -> RunOwner:
        operator, ti = self._operator, self._ti
        began = getattr(self._context.get("dag_run"), "start_date", None)
        creator = RunCreator(
            hook=hook,
            request=request,
            records=self._records,
            identity=(ti.dag_id, ti.run_id, ti.task_id, ti.map_index),
            cycle=ti.max_tries,
            window=window,
            timeouts=checked_timeouts(operator.timeouts),
            log=self._log,
        )
        return RunOwner(
            creator=creator,
            retries_without_record=not self._records.is_kept and ti.try_number > 1,
            run_began_at=began.timestamp() if began else 0.0,
            cancel_on_timeout=operator.cancel_on_timeout,
            on_lost_create=operator.on_lost_create,
            on_active_run=operator.on_active_run,
        )

    def _acquire(self, owner: RunOwner, started_at: float) -> Owned:
        """Own a run, waiting where the thread is busy and the user wants it."""
        patience = owner.timeouts["create"] if owner.window is None else owner.window
        while True:
            try:
                return owner.acquire()
            except BusyThreadError as busy:
                until = started_at + patience
                wait = BusyWait(busy=busy, until=until, poll_interval=self._interval(), log=self._log)
            wait.check()
            if self._operator.deferrable:
                self._operator.defer(
                    trigger=wait.trigger(),
                    method_name="execute_after_active_run",
                    kwargs={"waiting_since": started_at},
                )
            wait.in_worker(owner.hook)

    # -- the wait -----------------------------------------------------------------------------------------

    def _wait_for(self, owned: Owned, hook: OpenAIRunsHook, started_at: float) -> Any:
        operator = self._operator
        self._show(owned, hook)
        if operator.completion_window is None:
            run = owned.run or hook.retrieve(owned.ref)
            return results.to_xcom(run, log=self._log)
        has_ended = owned.run is not None and (owned.run.status.is_terminal or owned.run.needs_action)
        if owned.finished or has_ended:
            return self._finisher(hook).finish(owned.ref, created=owned.run)
        limits = WaitLimits(
            created_at=owned.created_at,
            deadline=owned.deadline,
            attempt_deadline=started_at + operator.execution_timeout.total_seconds()
            if operator.execution_timeout
            else None,
            poll_interval=self._interval(),
            not_found_grace_until=owned.created_at + NOT_FOUND_GRACE,
        )
        if operator.deferrable:
            self._defer(owned, limits)
        flow = waits.wait(
            owned.ref,
            limits,
            cancel_on_timeout=operator.cancel_on_timeout,
            cancel_wait=checked_timeouts(operator.timeouts)["delete"],
            note=self._log.info,
        )
        return self._finisher(hook).conclude(hook.run_flow(flow))

    def _show(self, owned: Owned, hook: OpenAIRunsHook) -> None:
        """Make the run known: to a kill, to XCom, to the link and to whoever reads the log."""
        if self._killer is not None:
            self._killer.ref = owned.ref
            self._killer.check()
        url = self._operator.run_url = hook.run_url(owned.ref)
        self._ti.xcom_push(key="ref", value=owned.ref.to_json())
        self._ti.xcom_push(key=OpenAIRunLink().xcom_key, value=url)
        verb = "Created" if owned.run is not None else "Going on with"
        until = f"waiting until {_utc(owned.deadline)}" if owned.deadline else "not waiting for it"
        self._log.info("%s %s, %s%s", verb, owned.ref, until, url and f": {url}")

    def _defer(self, owned: Owned, limits: WaitLimits) -> None:
        operator = self._operator
        if self._killer is not None:
            self._killer.check_before_defer()
        self._log.info(
            "The triggerer waits from here. A task that is still deferred long after %s has no triggerer: "
            "check with 'airflow jobs check --job-type TriggererJob'",
            _utc(owned.deadline),
        )
        trigger = RunCompletionTrigger(
            ref=owned.ref.to_json(),
            created_at=limits.created_at,
            deadline=limits.deadline,
            attempt_deadline=limits.attempt_deadline,
            poll_interval=limits.poll_interval,
            cancel_on_kill=operator.cancel_on_kill,
            cancel_on_timeout=operator.cancel_on_timeout,
            deferred_at=time.time(),
        )
        # No timeout here: Airflow's would kill the task without a word to the server.
        operator.defer(trigger=trigger, method_name="execute_complete", timeout=None)

    # -- after the wait -----------------------------------------------------------------------------------

    def _hook_of(self, ref: RunRef) -> OpenAIRunsHook:
        hook = OpenAIRunsHook(ref.conn_id)
        self._operator.run_url = hook.run_url(ref)
        return hook

    def _finisher(self, hook: OpenAIRunsHook) -> RunFinisher:
        operator = self._operator
        return RunFinisher(
            hook=hook,
            context=self._context,
            records=self._records,
            on_incomplete=operator.on_incomplete,
            limits={
                Outcome.WINDOW_OVER: f"completion_window={operator.completion_window}",
                Outcome.EXECUTION_TIMEOUT: f"execution_timeout={operator.execution_timeout}",
            },
            timeouts=checked_timeouts(operator.timeouts),
            multiple_outputs=operator.multiple_outputs,
            log=self._log,
        )

    def _recorded_ref(self) -> RunRef | None:
        """Return the run of this attempt, from the record or, below Airflow 3.3, from XCom."""
        record = self._records.load()
        if record is not None and record.ref is not None:
            return record.ref
        ti = self._ti
        pushed = ti.xcom_pull(task_ids=ti.task_id, key="ref", map_indexes=ti.map_index)
        return RunRef.from_json(pushed) if pushed else None


def _utc(seconds: float | None) -> str:
    return (
        "for ever" if seconds is None else pendulum.from_timestamp(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")
    )
