# SPDX-License-Identifier: Apache-2.0
"""What every operator that creates a run shares: own it, wait for it, finish or fail with its fate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

import pendulum
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator, conf, mask_secret

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.links import OpenAIRunLink
from airflow_provider_openai_runs.operators import results
from airflow_provider_openai_runs.operators.busy import BusyThreadError, BusyWait, OnActiveRun
from airflow_provider_openai_runs.operators.kill import RunKiller
from airflow_provider_openai_runs.operators.record import RunRecords
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.ending import OnIncomplete
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.ownership import OnLostCreate
from airflow_provider_openai_runs.runs.request import RunRequest, checked_timeouts
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.waiting import NOT_FOUND_GRACE, Outcome, WaitLimits

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
    from airflow_provider_openai_runs.operators.finish import RunFinisher
    from airflow_provider_openai_runs.operators.owner import Owned, RunOwner

#: The method that Airflow names when a trigger died or timed out.
_TRIGGER_DIED = "__fail__"
_NO_STORE = (
    "This Airflow has no task state store (3.3+): a retry finds a thread run by its token, but starts a "
    "response "
    "anew, and a deferred task that is marked or cleared leaves its run going"
)


class BaseCreateOperator(BaseOperator):
    """
    Create a run once, and wait for it.

    :param conn_id: a connection of type ``openai``.
    :param completion_window: seconds (or a timedelta) to wait for the run, from its creation; retries do not
        move the end. None creates the run and does not wait.
    :param poll_interval: seconds between looks; None lets it grow with the run's age, from 1 to 30 s.
    :param deferrable: wait in the triggerer; Airflow's ``[operators] default_deferrable`` unless given.
    :param cancel_on_kill: cancel the run when the task is killed, marked or cleared.
    :param cancel_on_timeout: cancel the run when ``completion_window`` or ``execution_timeout`` is over.
    :param on_incomplete: ``"fail"``, or ``"accept"`` the partial answer of a run that reached a ceiling.
    :param on_lost_create: what to do when nobody can say whether a create was accepted: ``"fail"``, or
        ``"resubmit"`` at the risk of paying twice.
    :param on_active_run: when another run is active on the thread, or the conversation is locked: ``"fail"``,
        ``"wait"`` for its end (without a worker if deferrable, for ``completion_window`` from the task's
        start), or ``"cancel"`` it first.
    :param timeouts: whole budgets in seconds, ``{"create": 600, "read": 300, "delete": 300}``.
    """

    operator_extra_links = (OpenAIRunLink(),)

    def __init__(
        self,
        *,
        conn_id: str = "openai_default",
        completion_window: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        on_incomplete: OnIncomplete = "fail",
        on_lost_create: OnLostCreate = "fail",
        on_active_run: OnActiveRun = "fail",
        timeouts: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.completion_window = completion_window
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.on_incomplete = on_incomplete
        self.on_lost_create = on_lost_create
        self.on_active_run = on_active_run
        self.timeouts = timeouts
        self.run_url = ""
        self._killer: RunKiller | None = None

    def build_request(self) -> RunRequest:
        """Check the arguments of this attempt and return what to ask for."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Create the run, or go on with the one of an earlier attempt, and wait for it."""
        return self._execute(context, time.time())

    def execute_after_active_run(
        self, context: Context, event: Any = None, waiting_since: float | None = None
    ) -> Any:
        """Try again, now that the thread may be free; the event does not matter, the server knows."""
        del event
        return self._execute(context, waiting_since or time.time())

    def _execute(self, context: Context, started_at: float) -> Any:
        with airflow_errors():
            request, window = self.build_request(), self._checked_window()
            for warning in request.warnings:
                self.log.warning(warning)
            records = self._records(context)
            if not records.is_kept:
                self.log.warning(_NO_STORE)
            adoptable = records.is_kept or request.kind is RunKind.THREAD_RUN
            self._killer = RunKiller(
                ti=context["ti"], cancel=self.cancel_on_kill, adoptable=adoptable, log=self.log
            )
            hook = self._hook(self.conn_id)
            self._killer.arm(hook)
            try:
                owned = self._acquire(self._owner(context, hook, request, records, window), started_at)
                return self._wait_for(owned, hook, context, started_at)
            except AirflowTaskTimeout:
                self._killer.timed_out = True
                raise

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Finish after the wait in the triggerer: read the run, push it, or fail with its fate."""
        from airflow_provider_openai_runs.hooks.waits import WaitResult  # noqa: PLC0415 # brings the SDK

        with airflow_errors():
            result = WaitResult.from_json(event)
            hook = self._hook(result.ref.conn_id)
            self.run_url = hook.run_url(result.ref)
            return self._finisher(hook, context).conclude(result)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; when the trigger died, look at the run first: it may have completed, or need an end."""
        if next_method == _TRIGGER_DIED and (ref := self._recorded_ref(context)) is not None:
            with airflow_errors():
                hook = self._hook(ref.conn_id)
                finisher = self._finisher(hook, context)
                ti: Any = context["ti"]
                if finisher.after_the_triggers_death(
                    ref, is_last_try=ti.try_number > ti.max_tries, cancel=self.cancel_on_kill
                ):
                    return finisher.finish(ref)
        return super().resume_execution(next_method, next_kwargs, context)

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        # Airflow stores the rendered fields right after this, also those of a mapped task.
        super()._do_render_template_fields(*args, **kwargs)
        for secret in results.secrets_of(getattr(self, "tools", None)):
            mask_secret(secret)

    def on_kill(self) -> None:
        """End the run of a task that is killed while it is in a worker."""
        if self._killer is not None:
            self._killer.kill()

    # -- before the wait ----------------------------------------------------------------------------------

    def _checked_window(self) -> float | None:
        checks.choice("on_incomplete", self.on_incomplete, get_args(OnIncomplete))
        checks.choice("on_lost_create", self.on_lost_create, get_args(OnLostCreate))
        checks.choice("on_active_run", self.on_active_run, get_args(OnActiveRun))
        self._interval()
        value = self.completion_window
        return None if value is None else checks.completion_window(value)

    def _interval(self) -> float | None:
        return None if self.poll_interval is None else checks.seconds("poll_interval", self.poll_interval)

    def _hook(self, conn_id: str) -> OpenAIRunsHook:
        from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook  # noqa: PLC0415

        sleep = {"sleep": self._killer.sleep} if self._killer else {}
        return OpenAIRunsHook(conn_id, **sleep)

    def _records(self, context: Context) -> RunRecords:
        return RunRecords(context.get("task_state_store"), log=self.log)

    def _owner(
        self,
        context: Context,
        hook: OpenAIRunsHook,
        request: RunRequest,
        records: RunRecords,
        window: float | None,
    ) -> RunOwner:
        from airflow_provider_openai_runs.operators.owner import RunOwner  # noqa: PLC0415 # brings the SDK

        ti: Any = context["ti"]
        began = getattr(context.get("dag_run"), "start_date", None)
        return RunOwner(
            hook=hook,
            request=request,
            records=records,
            identity=(ti.dag_id, ti.run_id, ti.task_id, ti.map_index),
            cycle=ti.max_tries,
            retries_without_record=not records.is_kept and ti.try_number > 1,
            run_began_at=began.timestamp() if began else 0.0,
            window=window,
            timeouts=checked_timeouts(self.timeouts),
            cancel_on_timeout=self.cancel_on_timeout,
            on_lost_create=self.on_lost_create,
            on_active_run=self.on_active_run,
            log=self.log,
        )

    def _acquire(self, owner: RunOwner, started_at: float) -> Owned:
        """Own a run, waiting where the thread is busy and the user wants it."""
        patience = owner.timeouts["create"] if owner.window is None else owner.window
        while True:
            try:
                return owner.acquire()
            except BusyThreadError as busy:
                wait = BusyWait(
                    busy=busy, until=started_at + patience, poll_interval=self._interval(), log=self.log
                )
            wait.check()
            if self.deferrable:
                kwargs = {"waiting_since": started_at}
                self.defer(trigger=wait.trigger(), method_name="execute_after_active_run", kwargs=kwargs)
            wait.in_worker(owner.hook)

    # -- the wait -----------------------------------------------------------------------------------------

    def _wait_for(self, owned: Owned, hook: OpenAIRunsHook, context: Context, started_at: float) -> Any:
        from airflow_provider_openai_runs.hooks import waits  # noqa: PLC0415 # brings the SDK

        self._show(owned, hook, context)
        if self.completion_window is None:
            run = owned.run or hook.retrieve(owned.ref)
            return results.to_xcom(run, log=self.log)
        has_ended = owned.run is not None and (owned.run.status.is_terminal or owned.run.needs_action)
        if owned.finished or has_ended:
            return self._finisher(hook, context).finish(owned.ref, created=owned.run)
        limits = WaitLimits(
            created_at=owned.created_at,
            deadline=owned.deadline,
            attempt_deadline=started_at + self.execution_timeout.total_seconds()
            if self.execution_timeout
            else None,
            poll_interval=self._interval(),
            not_found_grace_until=owned.created_at + NOT_FOUND_GRACE,
        )
        if self.deferrable:
            self._defer(owned, limits)
        flow = waits.wait(
            owned.ref,
            limits,
            cancel_on_timeout=self.cancel_on_timeout,
            cancel_wait=checked_timeouts(self.timeouts)["delete"],
            note=self.log.info,
        )
        return self._finisher(hook, context).conclude(hook.run_flow(flow))

    def _show(self, owned: Owned, hook: OpenAIRunsHook, context: Context) -> None:
        """Make the run known: to a kill, to XCom, to the link and to whoever reads the log."""
        ti: Any = context["ti"]
        if self._killer is not None:
            self._killer.ref = owned.ref
            self._killer.check()
        self.run_url = hook.run_url(owned.ref)
        ti.xcom_push(key="ref", value=owned.ref.to_json())
        ti.xcom_push(key=OpenAIRunLink().xcom_key, value=self.run_url)
        verb = "Created" if owned.run is not None else "Going on with"
        until = f"waiting until {_utc(owned.deadline)}" if owned.deadline else "not waiting for it"
        self.log.info("%s %s, %s%s", verb, owned.ref, until, self.run_url and f": {self.run_url}")

    def _defer(self, owned: Owned, limits: WaitLimits) -> None:
        from airflow_provider_openai_runs.triggers import RunCompletionTrigger  # noqa: PLC0415 # triggers only

        self.log.info(
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
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_timeout=self.cancel_on_timeout,
            deferred_at=time.time(),
        )
        # No timeout here: Airflow's would kill the task without a word to the server.
        self.defer(trigger=trigger, method_name="execute_complete", timeout=None)

    # -- after the wait -----------------------------------------------------------------------------------

    def _finisher(self, hook: OpenAIRunsHook, context: Context) -> RunFinisher:
        from airflow_provider_openai_runs.operators.finish import RunFinisher  # noqa: PLC0415 # brings the SDK

        return RunFinisher(
            hook=hook,
            context=context,
            records=self._records(context),
            on_incomplete=self.on_incomplete,
            limits={
                Outcome.WINDOW_OVER: f"completion_window={self.completion_window}",
                Outcome.EXECUTION_TIMEOUT: f"execution_timeout={self.execution_timeout}",
            },
            timeouts=checked_timeouts(self.timeouts),
            multiple_outputs=self.multiple_outputs,
            log=self.log,
        )

    def _recorded_ref(self, context: Context) -> RunRef | None:
        """Return the run of this attempt, from the record or, below Airflow 3.3, from XCom."""
        record = self._records(context).load()
        if record is not None and record.ref is not None:
            return record.ref
        ti: Any = context["ti"]
        pushed = ti.xcom_pull(task_ids=ti.task_id, key="ref", map_indexes=ti.map_index)
        return RunRef.from_json(pushed) if pushed else None


def _utc(seconds: float | None) -> str:
    return (
        "for ever" if seconds is None else pendulum.from_timestamp(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")
    )
