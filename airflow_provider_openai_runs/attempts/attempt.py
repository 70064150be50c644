# SPDX-License-Identifier: Apache-2.0
"""One attempt of a task in a worker: own a run, wait for it or hand the wait over, finish."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_openai_runs import results
from airflow_provider_openai_runs.attempts.acquire import RunAcquirer
from airflow_provider_openai_runs.attempts.busy_thread import BusyThreadError, BusyWait
from airflow_provider_openai_runs.attempts.create import TrackedRun
from airflow_provider_openai_runs.attempts.kill import KillHandler
from airflow_provider_openai_runs.attempts.parts import Parts
from airflow_provider_openai_runs.attempts.record_store import RunRecords
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.links import OpenAIRunLink
from airflow_provider_openai_runs.operators.end_from_trigger import end_of
from airflow_provider_openai_runs.runs.error_of_run import Fate
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.polling import NOT_FOUND_GRACE, Outcome, WaitLimits
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.tool_calls.answering import ApprovalNeededError, UnansweredError
from airflow_provider_openai_runs.triggers import RunCompletionTrigger
from airflow_provider_openai_runs.wire import wait as waits
from airflow_provider_openai_runs.wire.wait import WaitResult

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
        self._parts = Parts(operator, context, self._records)
        self._kill_handler: KillHandler | None = None
        self._hook: OpenAIRunsHook | None = None
        #: Unix seconds at which execution_timeout is over.
        self._attempt_deadline: float | None = None

    def execute(self, *, started_at: float) -> Any:
        """
        Create the run, or go on with the one of an earlier attempt, and wait for it.

        :param started_at: Unix seconds from which execution_timeout counts.
        """
        operator, request = self._operator, self._parts.request
        _ = self._parts.window, self._parts.interval  # checked before anything is sent
        for warning in request.warnings:
            self._log.warning(warning)
        if not self._records.is_kept:
            self._log.warning(_NO_STORE)
        if operator.execution_timeout:
            self._attempt_deadline = started_at + operator.execution_timeout.total_seconds()
        hook, kill_handler = self._watched(operator.connection_of_run())
        with self._timed():
            tracked = self._acquire(self._parts.owner(hook, kill_handler), started_at)
            if self._parts.window is None:
                self._show(tracked, hook, kill_handler)
                return results.to_xcom(tracked.run or hook.retrieve(tracked.ref), log=self._log)
            return self._go_on(tracked, self._waited(tracked))

    def complete(self, event: Any) -> Any:
        """Finish after the wait in the triggerer, or answer the model's calls and wait again."""
        if isinstance(event, dict) and "chosen_options" in event:
            self._log.warning("An approval page of the past was answered; looking at the run again")
            return self.execute(started_at=time.time())
        result = waits.WaitResult.from_json(event)
        with self._timed():
            return self._go_on(self._tracked_in(event), result)

    def complete_approval(self, event: Any, progress: dict[str, Any]) -> Any:
        """Answer the model's calls as a person decided, and wait again."""
        tracked = self._tracked_in(progress)
        with self._timed():
            again = self._answered(tracked, approval=event)
            ended = WaitResult(ref=tracked.ref, outcome=Outcome.NEEDS_ACTION, fate=Fate.ENDED)
            return self._go_on(again or tracked, ended if again is None else self._waited(again))

    def after_the_triggers_death(self) -> Any:
        """Return the result of a run that has ended all the same; None where there is none."""
        record = self._records.load()
        ref = self._recorded_ref(record)
        if ref is None:
            return None
        finisher = self._parts.finisher(self._hook_of(ref))
        is_last_try = self._ti.try_number > self._ti.max_tries
        outcome = finisher.after_the_triggers_death(
            ref, is_last_try=is_last_try, cancel=self._operator.cancel_on_kill
        )
        if outcome is None:
            return None
        tracked = TrackedRun(
            ref=ref,
            created_at=time.time(),
            deadline=record.deadline if record else None,
            rounds=record.rounds if record else Rounds(),
        )
        return self._go_on(tracked, WaitResult(ref=ref, outcome=outcome, fate=Fate.ENDED))

    def kill(self) -> None:
        """End the run."""
        if self._kill_handler is not None:
            self._kill_handler.kill()

    # -- before the wait ----------------------------------------------------------------------------------

    def _watched(self, conn_id: str) -> tuple[OpenAIRunsHook, KillHandler]:
        """Return a hook that a kill interrupts, one for each connection, and who watches for the kill."""
        if self._kill_handler is None:
            kind = self._parts.request.kind
            self._kill_handler = KillHandler(
                ti=self._ti,
                cancel=self._operator.cancel_on_kill,
                adoptable=self._records.is_kept or kind is RunKind.THREAD_RUN,
                log=self._log,
            )
            self._hook = None  # one that was only to read with
        if self._hook is None or self._hook.conn_id != conn_id:
            self._hook = OpenAIRunsHook(conn_id, sleep=self._kill_handler.sleep)
            self._kill_handler.arm(self._hook)
        return self._hook, self._kill_handler

    @contextmanager
    def _timed(self) -> Iterator[None]:
        try:
            yield
        except AirflowTaskTimeout:
            if self._kill_handler is not None:
                self._kill_handler.timed_out = True
            raise

    def _acquire(self, owner: RunAcquirer, started_at: float) -> TrackedRun:
        """Own a run, waiting where the thread is busy and the user wants it."""
        budget = owner.timeouts["create"] if owner.window is None else owner.window
        while True:
            try:
                return owner.acquire()
            except BusyThreadError as busy:
                until = started_at + budget
                wait = BusyWait(busy=busy, until=until, poll_interval=self._parts.interval, log=self._log)
            wait.check()
            if self._operator.deferrable:
                self._operator.defer(
                    trigger=wait.trigger(),
                    method_name="execute_after_active_run",
                    kwargs={"waiting_since": started_at},
                )
            wait.in_worker(owner.hook)

    # -- the wait -----------------------------------------------------------------------------------------

    def _go_on(self, tracked: TrackedRun, result: WaitResult) -> Any:
        """Answer the model's calls and wait, again and again, until there is a result."""
        while result.outcome is Outcome.NEEDS_ACTION and self._operator.answers_calls:
            again = self._answered(tracked)
            if again is None:
                break
            tracked, result = again, self._waited(again)
        finisher = self._parts.finisher(self._hook_of(tracked.ref))
        return finisher.conclude(result, created=_ended(tracked), rounds=tracked.rounds)

    def _waited(self, tracked: TrackedRun) -> WaitResult:
        """Wait for the end of the run or for its next calls; in the triggerer, unless told otherwise."""
        hook, kill_handler = self._watched(tracked.ref.conn_id)
        self._show(tracked, hook, kill_handler)
        if (run := _ended(tracked)) is not None:
            outcome = Outcome.NEEDS_ACTION if run.needs_action else Outcome.ENDED
            return WaitResult(ref=tracked.ref, outcome=outcome, fate=Fate.ENDED, raw_status=run.raw_status)
        if tracked.finished:
            return WaitResult(ref=tracked.ref, outcome=Outcome.ENDED, fate=Fate.ENDED)
        limits = WaitLimits(
            created_at=tracked.created_at,
            deadline=tracked.deadline,
            attempt_deadline=self._attempt_deadline,
            poll_interval=self._parts.interval,
            not_found_grace_until=tracked.created_at + NOT_FOUND_GRACE,
        )
        if self._operator.deferrable:
            self._defer(tracked, limits, kill_handler)
        flow = waits.wait(
            tracked.ref,
            limits,
            cancel_on_timeout=self._operator.cancel_on_timeout,
            cancel_wait=self._parts.timeouts["delete"],
            note=self._log.info,
        )
        return hook.run_flow(flow)

    def _answered(self, tracked: TrackedRun, *, approval: Any = None) -> TrackedRun | None:
        """Answer the calls the run waits for; None if nobody here can."""
        hook, kill_handler = self._watched(tracked.ref.conn_id)
        kill_handler.take(tracked.ref)
        answerer = self._parts.answerer(hook, kill_handler)
        limits = self._parts.time_limits(tracked, self._attempt_deadline)
        try:
            try:
                return answerer.answer(tracked, limits)
            except ApprovalNeededError as needed:
                approval_request = self._parts.approval_request(needed, self._progress(tracked))
                decisions = approval_request.decisions(approval) if approval else approval_request.ask()
                return answerer.answer(replace(tracked, run=needed.run), limits, decisions=decisions)
        except UnansweredError as unanswered:
            finisher = self._parts.finisher(hook)
            raise finisher.give_up(unanswered.run, unanswered.error, tracked.rounds) from unanswered

    def _show(self, tracked: TrackedRun, hook: OpenAIRunsHook, kill_handler: KillHandler) -> None:
        """Make the run known: to a kill, to XCom, to the link and to whoever reads the log."""
        kill_handler.take(tracked.ref)
        kill_handler.check()
        url = self._operator.run_url = hook.run_url(tracked.ref)
        self._ti.xcom_push(key="ref", value=tracked.ref.to_json())
        self._ti.xcom_push(key=OpenAIRunLink().xcom_key, value=url)
        verb = "Created" if tracked.run is not None else "Going on with"
        until = f"waiting until {_utc(tracked.deadline)}" if tracked.deadline else "not waiting for it"
        self._log.info("%s %s, %s%s", verb, tracked.ref, until, url and f": {url}")

    def _defer(self, tracked: TrackedRun, limits: WaitLimits, kill_handler: KillHandler) -> None:
        operator = self._operator
        kill_handler.check_before_defer()
        self._log.info(
            "The triggerer waits from here. A task that is still deferred long after %s has no triggerer: "
            "check with 'airflow jobs check --job-type TriggererJob'",
            _utc(tracked.deadline),
        )
        trigger = RunCompletionTrigger(
            ref=tracked.ref.to_json(),
            created_at=limits.created_at,
            deadline=limits.deadline,
            attempt_deadline=limits.attempt_deadline,
            poll_interval=limits.poll_interval,
            cancel_on_kill=operator.cancel_on_kill,
            cancel_on_timeout=operator.cancel_on_timeout,
            deferred_at=time.time(),
            rounds=tracked.rounds.to_json(),
            end=end_of(operator),
        )
        # No timeout here: Airflow's would kill the task without a word to the server.
        operator.defer(trigger=trigger, method_name="execute_complete", timeout=None)

    # -- from one worker to the next ----------------------------------------------------------------------

    def _progress(self, tracked: TrackedRun) -> dict[str, Any]:
        """Return what the next worker needs, under the names that a trigger's event has, too."""
        return {
            "ref": tracked.ref.to_json(),
            "created_at": tracked.created_at,
            "deadline": tracked.deadline,
            "attempt_deadline": self._attempt_deadline,
            "rounds": tracked.rounds.to_json(),
        }

    def _tracked_in(self, progress: Mapping[str, Any]) -> TrackedRun:
        self._attempt_deadline = progress.get("attempt_deadline")
        return TrackedRun(
            ref=RunRef.from_json(progress.get("ref")),
            created_at=progress.get("created_at") or time.time(),
            deadline=progress.get("deadline"),
            rounds=Rounds.from_json(progress.get("rounds")),
        )

    def _hook_of(self, ref: RunRef) -> OpenAIRunsHook:
        """Return a hook to read a run with that has ended, and make the link known."""
        if self._hook is None or self._hook.conn_id != ref.conn_id:
            self._hook = OpenAIRunsHook(ref.conn_id)
        self._operator.run_url = self._hook.run_url(ref)
        return self._hook

    def _recorded_ref(self, record: Record | None) -> RunRef | None:
        """Return the run of this attempt, from the record or, below Airflow 3.3, from XCom."""
        if record is not None and record.ref is not None:
            return record.ref
        ti = self._ti
        pushed = ti.xcom_pull(task_ids=ti.task_id, key="ref", map_indexes=ti.map_index)
        return RunRef.from_json(pushed) if pushed else None


def _ended(tracked: TrackedRun) -> Run | None:
    """Return the run as its create answered, if it had ended by then, or waits for its calls."""
    run = tracked.run
    return run if run is not None and (run.status.is_terminal or run.needs_action) else None


def _utc(seconds: float | None) -> str:
    return (
        "for ever" if seconds is None else pendulum.from_timestamp(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")
    )
