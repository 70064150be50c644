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
from airflow_provider_openai_runs.attempts.acquire import RunOwner
from airflow_provider_openai_runs.attempts.busy_thread import BusyThreadError, BusyWait
from airflow_provider_openai_runs.attempts.create import Owned
from airflow_provider_openai_runs.attempts.kill import RunKiller
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
        self._killer: RunKiller | None = None
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
        hook, killer = self._watched(operator.connection_of_run())
        with self._timed():
            owned = self._acquire(self._parts.owner(hook, killer), started_at)
            if self._parts.window is None:
                self._show(owned, hook, killer)
                return results.to_xcom(owned.run or hook.retrieve(owned.ref), log=self._log)
            return self._go_on(owned, self._waited(owned))

    def complete(self, event: Any) -> Any:
        """Finish after the wait in the triggerer, or answer the model's calls and wait again."""
        if isinstance(event, dict) and "chosen_options" in event:
            self._log.warning("An approval page of the past was answered; looking at the run again")
            return self.execute(started_at=time.time())
        result = waits.WaitResult.from_json(event)
        with self._timed():
            return self._go_on(self._owned_by(event), result)

    def complete_approval(self, event: Any, progress: dict[str, Any]) -> Any:
        """Answer the model's calls as a person decided, and wait again."""
        owned = self._owned_by(progress)
        with self._timed():
            again = self._answered(owned, approval=event)
            ended = WaitResult(ref=owned.ref, outcome=Outcome.NEEDS_ACTION, fate=Fate.ENDED)
            return self._go_on(again or owned, ended if again is None else self._waited(again))

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
        owned = Owned(
            ref=ref,
            created_at=time.time(),
            deadline=record.deadline if record else None,
            rounds=record.rounds if record else Rounds(),
        )
        return self._go_on(owned, WaitResult(ref=ref, outcome=outcome, fate=Fate.ENDED))

    def kill(self) -> None:
        """End the run."""
        if self._killer is not None:
            self._killer.kill()

    # -- before the wait ----------------------------------------------------------------------------------

    def _watched(self, conn_id: str) -> tuple[OpenAIRunsHook, RunKiller]:
        """Return a hook that a kill interrupts, one for each connection, and who watches for the kill."""
        if self._killer is None:
            kind = self._parts.request.kind
            self._killer = RunKiller(
                ti=self._ti,
                cancel=self._operator.cancel_on_kill,
                adoptable=self._records.is_kept or kind is RunKind.THREAD_RUN,
                log=self._log,
            )
            self._hook = None  # one that was only to read with
        if self._hook is None or self._hook.conn_id != conn_id:
            self._hook = OpenAIRunsHook(conn_id, sleep=self._killer.sleep)
            self._killer.arm(self._hook)
        return self._hook, self._killer

    @contextmanager
    def _timed(self) -> Iterator[None]:
        try:
            yield
        except AirflowTaskTimeout:
            if self._killer is not None:
                self._killer.timed_out = True
            raise

    def _acquire(self, owner: RunOwner, started_at: float) -> Owned:
        """Own a run, waiting where the thread is busy and the user wants it."""
        patience = owner.timeouts["create"] if owner.window is None else owner.window
        while True:
            try:
                return owner.acquire()
            except BusyThreadError as busy:
                until = started_at + patience
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

    def _go_on(self, owned: Owned, result: WaitResult) -> Any:
        """Answer the model's calls and wait, again and again, until there is a result."""
        while result.outcome is Outcome.NEEDS_ACTION and self._operator.answers_calls:
            again = self._answered(owned)
            if again is None:
                break
            owned, result = again, self._waited(again)
        finisher = self._parts.finisher(self._hook_of(owned.ref))
        return finisher.conclude(result, created=_ended(owned), rounds=owned.rounds)

    def _waited(self, owned: Owned) -> WaitResult:
        """Wait for the end of the run or for its next calls; in the triggerer, unless told otherwise."""
        hook, killer = self._watched(owned.ref.conn_id)
        self._show(owned, hook, killer)
        if (run := _ended(owned)) is not None:
            outcome = Outcome.NEEDS_ACTION if run.needs_action else Outcome.ENDED
            return WaitResult(ref=owned.ref, outcome=outcome, fate=Fate.ENDED, word=run.word)
        if owned.finished:
            return WaitResult(ref=owned.ref, outcome=Outcome.ENDED, fate=Fate.ENDED)
        limits = WaitLimits(
            created_at=owned.created_at,
            deadline=owned.deadline,
            attempt_deadline=self._attempt_deadline,
            poll_interval=self._parts.interval,
            not_found_grace_until=owned.created_at + NOT_FOUND_GRACE,
        )
        if self._operator.deferrable:
            self._defer(owned, limits, killer)
        flow = waits.wait(
            owned.ref,
            limits,
            cancel_on_timeout=self._operator.cancel_on_timeout,
            cancel_wait=self._parts.timeouts["delete"],
            note=self._log.info,
        )
        return hook.run_flow(flow)

    def _answered(self, owned: Owned, *, approval: Any = None) -> Owned | None:
        """Answer the calls the run waits for; None if nobody here can."""
        hook, killer = self._watched(owned.ref.conn_id)
        killer.take(owned.ref)
        answerer = self._parts.answerer(hook, killer)
        limits = self._parts.time_limits(owned, self._attempt_deadline)
        try:
            try:
                return answerer.answer(owned, limits)
            except ApprovalNeededError as needed:
                asking = self._parts.asking(needed, self._progress(owned))
                decisions = asking.decisions(approval) if approval else asking.ask()
                return answerer.answer(replace(owned, run=needed.run), limits, decisions=decisions)
        except UnansweredError as unanswered:
            finisher = self._parts.finisher(hook)
            raise finisher.give_up(unanswered.run, unanswered.error, owned.rounds) from unanswered

    def _show(self, owned: Owned, hook: OpenAIRunsHook, killer: RunKiller) -> None:
        """Make the run known: to a kill, to XCom, to the link and to whoever reads the log."""
        killer.take(owned.ref)
        killer.check()
        url = self._operator.run_url = hook.run_url(owned.ref)
        self._ti.xcom_push(key="ref", value=owned.ref.to_json())
        self._ti.xcom_push(key=OpenAIRunLink().xcom_key, value=url)
        verb = "Created" if owned.run is not None else "Going on with"
        until = f"waiting until {_utc(owned.deadline)}" if owned.deadline else "not waiting for it"
        self._log.info("%s %s, %s%s", verb, owned.ref, until, url and f": {url}")

    def _defer(self, owned: Owned, limits: WaitLimits, killer: RunKiller) -> None:
        operator = self._operator
        killer.check_before_defer()
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
            rounds=owned.rounds.to_json(),
            end=end_of(operator),
        )
        # No timeout here: Airflow's would kill the task without a word to the server.
        operator.defer(trigger=trigger, method_name="execute_complete", timeout=None)

    # -- from one worker to the next ----------------------------------------------------------------------

    def _progress(self, owned: Owned) -> dict[str, Any]:
        """Return what the next worker needs, under the names that a trigger's event has, too."""
        return {
            "ref": owned.ref.to_json(),
            "created_at": owned.created_at,
            "deadline": owned.deadline,
            "attempt_deadline": self._attempt_deadline,
            "rounds": owned.rounds.to_json(),
        }

    def _owned_by(self, progress: Mapping[str, Any]) -> Owned:
        self._attempt_deadline = progress.get("attempt_deadline")
        return Owned(
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


def _ended(owned: Owned) -> Run | None:
    """Return the run as its create answered, if it had ended by then, or waits for its calls."""
    run = owned.run
    return run if run is not None and (run.status.is_terminal or run.needs_action) else None


def _utc(seconds: float | None) -> str:
    return (
        "for ever" if seconds is None else pendulum.from_timestamp(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")
    )
