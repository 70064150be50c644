# SPDX-License-Identifier: Apache-2.0
"""One attempt of a task in a worker: acquire a run, wait for it or hand the wait over, finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs import results, tracing
from airflow_provider_openai_runs.attempts.busy_thread import acquire_when_free
from airflow_provider_openai_runs.attempts.create import Acquired
from airflow_provider_openai_runs.attempts.hooks import AttemptHooks
from airflow_provider_openai_runs.attempts.kill import KillHandler
from airflow_provider_openai_runs.attempts.last_requests import LastRequests
from airflow_provider_openai_runs.attempts.page import push_page
from airflow_provider_openai_runs.attempts.parts import AttemptParts
from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.attempts.settings import CreateSettings
from airflow_provider_openai_runs.attempts.steps import (
    AttemptStep,
    AwaitApproval,
    Defer,
    DeferForThread,
    Finished,
)
from airflow_provider_openai_runs.attempts.tool_call_round import ToolCallRound
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.end_of_attempt import Cause, has_retry_left
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.fate import Fate
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.polling import Outcome, WaitLimits
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.times import utc
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.wire import wire_of
from airflow_provider_openai_runs.wire.wait import WaitResult, wait

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

_NO_STORE = (
    "This Airflow has no task state store (3.3+): a retry finds a thread run by its token, but starts a "
    "response anew, and a deferred task that is marked or cleared leaves its run going"
)


class Attempt:
    """
    What one attempt does.

    :param settings: what was asked of the task.
    :param context: Airflow's.
    :param show_page: called with the run, and the address of the page that shows it, which may be empty.
    :param page_key: the XCom in which the page is stored as long as the task has not ended.
    """

    def __init__(
        self,
        settings: CreateSettings,
        context: Any,
        *,
        log: Logger,
        show_page: Callable[[RunRef, str], None],
        page_key: str,
    ) -> None:
        self._settings = settings
        self._ti: Any = context["ti"]
        self._log = log
        self._show_page = show_page
        self._page_key = page_key
        self._store = RecordStore(context.get("task_state_store"), log=log)
        self._kill_handler = KillHandler(
            requests=LastRequests(ti=self._ti, store=self._store, withholds=settings.withholds),
            cancels={
                Cause.KILLED: ("cancel_on_kill", settings.cancel_on_kill),
                Cause.FAILED: ("cancel_on_kill", settings.cancel_on_kill),
                Cause.TIMED_OUT: ("cancel_on_timeout", settings.cancel_on_timeout),
            },
            log=log,
        )
        self._hooks = AttemptHooks(self._kill_handler, withholds=settings.withholds)
        self._parts = AttemptParts(
            settings, context, store=self._store, prices_of=self._hooks.prices_of, log=log
        )
        #: Unix seconds at which execution_timeout is over.
        self._attempt_deadline: float | None = None

    # -- what Airflow calls -------------------------------------------------------------------------------

    def execute(self, *, started_at: float) -> AttemptStep:
        """
        Create the run, or go on with the one of an earlier attempt, and wait for it.

        :param started_at: Unix seconds from which execution_timeout counts.
        """
        settings = self._settings
        for warning in settings.request.warnings:
            self._log.warning(warning)
        if not self._store.is_kept:
            self._log.warning(_NO_STORE)
        if settings.execution_timeout:
            self._attempt_deadline = started_at + settings.execution_timeout.total_seconds()
        self._watch_recorded()
        hook = self._hooks.watched(settings.conn_id)
        try:
            acquirer = self._parts.acquirer(hook, self._kill_handler)
            acquired = acquire_when_free(
                acquirer, hook=hook, settings=settings, started_at=started_at, log=self._log
            )
        except OpenAIRunError:
            self._kill_handler.settle()  # the error says what became of it
            raise
        if isinstance(acquired, DeferForThread):
            return acquired
        if settings.completion_window is None:
            hook, ref = self._show(acquired), acquired.run.ref
            # From now on it is known to whoever asked for it.
            self._kill_handler.settle(ref, f"{Fate.LEFT_RUNNING.sentence()} (completion_window=None)")
            run = acquired.created or hook.retrieve(ref)
            run = self._parts.ledger.shown(self._parts.ledger.settle(run))
            return Finished(result=results.to_xcom(run, log=self._log, text_limit=settings.text_in_xcom))
        return self._go_on(acquired, self._wait(acquired))

    def complete(self, event: Any) -> AttemptStep:
        """Finish after the wait in the triggerer, or answer the model's calls and wait again."""
        if isinstance(event, dict) and "chosen_options" in event:
            self._log.warning("An approval page of the past was answered; polling the run again")
            return self.execute(started_at=time.time())
        try:
            result, acquired = WaitResult.from_json(event), self._resumed(event)
            wire_of(result.ref.kind)
        except (OpenAIRunError, ValueError, TypeError) as error:
            if self._recorded_run(self._store.current()) is None:
                raise
            text = "The event of the trigger cannot be read: %s. The run on record is polled again"
            self._log.warning(text, message_text(error))
            return self.execute(started_at=time.time())
        return self._go_on(acquired, result)

    def complete_approval(self, event: Any, stored: Mapping[str, Any]) -> AttemptStep:
        """Answer the model's calls as a person decided, and wait again."""
        acquired = self._resumed(stored)
        again = self._answer(acquired, approval=event)
        if isinstance(again, AwaitApproval):
            return again
        if again is None:
            return self._go_on(acquired, _ended_as(acquired, Outcome.ENDED))
        return self._go_on(again, self._wait(again))

    def after_the_triggers_death(self) -> AttemptStep | None:
        """Return how a run goes on that has ended all the same; None where it has not."""
        record = self._store.current()
        run = self._recorded_run(record)
        if run is None:
            return None
        self._kill_handler.watch(run.ref)
        finisher = self._parts.finisher(self._hook_of(run.ref), run)
        outcome = finisher.after_the_triggers_death(is_last_try=not has_retry_left(self._ti))
        self._kill_handler.settle()
        if outcome is None:
            return None
        acquired = Acquired(run=replace(run, created_at=time.time()))
        return self._go_on(acquired, _ended_as(acquired, outcome))

    def kill(self) -> None:
        """End the run, unless another attempt goes on with it."""
        self._kill_handler.kill()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """
        Watch over the run of an attempt before, while a user's code runs that says what to ask for.

        :raises OpenAIRunError: once the task is killed.
        """
        with self.guard():
            if (ref := self._watch_recorded()) is not None:
                with suppress(OpenAIRunError):  # it has time until it is needed
                    self._hooks.watched(ref.conn_id)
            yield
            self._kill_handler.raise_if_killed()

    def guard(self) -> AbstractContextManager[None]:
        """Make sure that nothing ends the attempt without a word about its run."""
        return self._kill_handler.guard()

    # -- before the wait ----------------------------------------------------------------------------------

    def _watch_recorded(self) -> RunRef | None:
        """Watch over the run on record, if it may be alive: nobody else ends it after a mark."""
        if (record := self._store.current()) is None:
            return None
        self._hooks.earlier = record.ref.subject if record.ref else "The run of an earlier attempt"
        if record.ref is None or record.ended:
            return None
        self._kill_handler.watch(record.ref)
        return record.ref

    def _hook_of(self, ref: RunRef) -> OpenAIRunsHook:
        """Return a hook to read a run with, and make the run's page known."""
        hook = self._hooks.of(ref)
        self._show_page(ref, hook.run_url(ref))
        return hook

    def _show(self, acquired: Acquired) -> OpenAIRunsHook:
        """Make the run known: to a kill, to XCom, to the link and to whoever reads the log."""
        run = acquired.run
        self._kill_handler.watch(run.ref)
        hook = self._hooks.watched(run.ref.conn_id)
        self._kill_handler.raise_if_killed()
        url = hook.run_url(run.ref)
        self._show_page(run.ref, url)
        # Without a store, the next worker finds the run by its ref in XCom, and nowhere else.
        if self._settings.push_xcom or not self._store.is_kept:
            self._ti.xcom_push(key="ref", value=run.ref.to_json())
        if self._settings.push_xcom:
            push_page(self._ti, key=self._page_key, url=url, log=self._log)
        verb = "Created" if acquired.created is not None else "Going on with"
        until = f"waiting until {utc(run.deadline)}" if run.deadline else "not waiting for it"
        self._log.info("%s %s, %s%s", verb, run.ref, until, url and f": {url}")
        return hook

    # -- the wait -----------------------------------------------------------------------------------------

    def _go_on(self, acquired: Acquired, result: WaitResult | Defer) -> AttemptStep:
        """Answer the model's calls and wait, again and again, until there is a result."""
        found_late = -1  # the round whose calls only the whole run showed, read with its request
        while not isinstance(result, Defer):
            if result.outcome is Outcome.NEEDS_ACTION and self._settings.answers_calls:
                again = self._answer(acquired)
                if isinstance(again, AwaitApproval):
                    return again
                if again is not None:
                    acquired, result = again, self._wait(again)
                    continue
            may_answer = result.outcome is Outcome.ENDED and acquired.run.rounds.answered > found_late
            found = self._conclude(acquired, result, may_answer=may_answer and self._settings.answers_calls)
            if found is not None:
                return Finished(result=found)
            found_late = acquired.run.rounds.answered
            result = _ended_as(acquired, Outcome.NEEDS_ACTION)
        return result

    def _conclude(self, acquired: Acquired, result: WaitResult, *, may_answer: bool) -> dict[str, Any] | None:
        """Return the result, or fail; a run that waits for an answer is watched until it has been ended."""
        run, is_pending = acquired.run, result.outcome is Outcome.NEEDS_ACTION
        if is_pending:
            self._kill_handler.watch(run.ref)
        else:
            self._kill_handler.settle(run.ref, result.fate.sentence(raw_status=result.raw_status))
        try:
            found = self._parts.finisher(self._hook_of(run.ref), run).conclude(
                result, created=acquired.ended, may_answer=may_answer
            )
        except OpenAIRunError:
            self._kill_handler.settle()  # the error says what became of it
            raise
        if is_pending:
            self._kill_handler.settle()
        return found

    def _wait(self, acquired: Acquired) -> WaitResult | Defer:
        """Wait for the end of the run or for its next calls; in the triggerer if ``deferrable``."""
        hook, run = self._show(acquired), acquired.run
        if (ended := acquired.ended) is not None:
            outcome = Outcome.NEEDS_ACTION if ended.needs_action else Outcome.ENDED
            return replace(_ended_as(acquired, outcome), raw_status=ended.raw_status)
        if acquired.finished:
            return _ended_as(acquired, Outcome.ENDED)
        run = replace(run, attempt_deadline=self._attempt_deadline)
        if self._settings.deferrable:
            self._kill_handler.raise_if_ended()
            self._log.info(
                "The triggerer waits from here (is there one? airflow jobs check --job-type TriggererJob), "
                "until %s at the latest",
                utc(run.deadline),
            )
            ledger = self._parts.ledger
            return Defer(run=run, besides=ledger.totals_without(run.ref), tariff=ledger.tariff_after(run.ref))
        flow = wait(
            run.ref,
            WaitLimits.of(run, poll_interval=self._settings.poll_interval),
            cancel_on_timeout=self._settings.cancel_on_timeout,
            cancel_wait=self._settings.timeouts["delete"],
            note=self._log.log,
        )
        with tracing.waiting(run.ref) as span:
            result = hook.run_flow(flow)
            span.over(result.outcome, result.raw_status)
        return result

    def _answer(self, acquired: Acquired, *, approval: Any = None) -> Acquired | AwaitApproval | None:
        """Answer the calls that the run waits for; None if nobody here can."""
        self._kill_handler.watch(acquired.run.ref)
        hook = self._hooks.watched(acquired.run.ref.conn_id)
        calls = ToolCallRound(
            hook=hook,
            settings=self._settings,
            parts=self._parts,
            kill_handler=self._kill_handler,
            attempt_deadline=self._attempt_deadline,
            log=self._log,
        )
        return calls.answer(acquired, approval=approval)

    # -- from one worker to the next ----------------------------------------------------------------------

    def _resumed(self, stored: Mapping[str, Any]) -> Acquired:
        """Return what an earlier worker has handed over."""
        run = TrackedRun.from_json(stored)
        self._hooks.earlier = run.ref.subject
        self._show_page(run.ref, "")
        self._attempt_deadline = run.attempt_deadline
        return Acquired(run=replace(run, created_at=run.created_at or time.time()))

    def _recorded_run(self, record: Record | None) -> TrackedRun | None:
        """Return the run of this attempt, from the record or, below Airflow 3.3, from XCom."""
        if record is not None and record.run is not None:
            return record.run
        ti = self._ti
        pushed = ti.xcom_pull(task_ids=ti.task_id, key="ref", map_indexes=ti.map_index)
        if not pushed:
            return None
        ref = RunRef.from_json(pushed)
        return record.back_at(ref) if record is not None else TrackedRun(ref=ref)


def _ended_as(acquired: Acquired, outcome: Outcome) -> WaitResult:
    return WaitResult(ref=acquired.run.ref, outcome=outcome, fate=Fate.ENDED)
