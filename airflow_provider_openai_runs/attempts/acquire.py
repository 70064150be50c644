# SPDX-License-Identifier: Apache-2.0
"""Does what ``runs/ownership.py`` decides: finds, adopts, ends and creates the run of a task instance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, assert_never

from airflow_provider_openai_runs.attempts.create import Acquired, RunCreator
from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.attempts.runs_api import RunsApi
from airflow_provider_openai_runs.runs.acquisition import (
    Create,
    Decision,
    Ended,
    EndRun,
    GiveUp,
    Identified,
    IdentifyRun,
    NotCreated,
    Observation,
    Own,
    OwnershipPolicy,
    Polled,
    PollRun,
    Searched,
    SearchResult,
    SearchRun,
    Situation,
    WaitForThread,
)
from airflow_provider_openai_runs.runs.budgets import (
    ADOPT_BUDGET,
    END_PAUSE,
    GONE_SECONDS,
    NOT_SHOWN_YET,
    SEARCH_PAUSE,
)
from airflow_provider_openai_runs.runs.checks import TOKEN_KEY
from airflow_provider_openai_runs.runs.errors import RunCallError, RunConnectionError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.ownership import decide
from airflow_provider_openai_runs.runs.record import NoLongerOwnerError, Record

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


@dataclass(kw_only=True)
class RunAcquirer:
    """
    Finds or creates the run of one task instance.

    :param policy: what ``decide`` goes by.
    :param guess: what a retry knows without a store.
    """

    api: RunsApi
    store: RecordStore
    creator: RunCreator
    policy: OwnershipPolicy
    log: Logger
    guess: Record | None = None
    clock: Callable[[], float] = time.time
    _closes: RunRef | None = None

    def acquire(self) -> Acquired | WaitForThread:
        """
        Return the run that belongs to this task instance, or what has to end before there can be one.

        :raises OpenAIRunError: if there is none and none may be created.
        """
        try:
            return self._acquire()
        except NoLongerOwnerError as error:
            raise RunCallError(
                "This attempt is no longer the task's: a later one has taken over. Nothing was created, and "
                "a run of the later one was left to it."
            ) from error

    def _acquire(self) -> Acquired | WaitForThread:
        record = self.store.current()
        if record is not None and not record.intent_at:
            # Of a damaged record. The run may be so fresh that its server does not show it yet.
            record = replace(record, intent_at=self.clock())
        situation = Situation(
            record=record or self.guess,
            is_guess=record is None and self.guess is not None,
            gives_up_at=self.clock() + self.policy.create_budget,
        )
        while True:
            decision = decide(situation, self.policy, now=self.clock())
            self._write(decision)
            done = self._do(decision, situation)
            if isinstance(done, Acquired | WaitForThread):
                return done
            refused = isinstance(done, NotCreated)
            situation = replace(
                situation,
                record=self._seen_here(decision.record, done),
                is_guess=situation.is_guess and decision.record is situation.record,
                observed=done,
                refusals=situation.refusals + 1 if refused else situation.refusals,
            )

    def _write(self, decision: Decision) -> None:
        if decision.warning:
            self.log.warning(decision.warning)
        if decision.write:
            self.store.save(decision.record)

    def _do(self, decision: Decision, situation: Situation) -> Acquired | WaitForThread | Observation:
        step = decision.step
        match step:
            case Create():
                return self._create(step, decision.record, situation.gives_up_at)
            case PollRun():
                return self._poll(step, decision.record)
            case SearchRun():
                return self._search(step)
            case EndRun():
                return self._end(step, decision.record)
            case IdentifyRun():
                return Identified(ref=step.ref, ours=self._is_ours(step), refused=step.refused)
            case Own():
                return self._own(step)
            case WaitForThread():
                return step
            case GiveUp():
                raise step.error
            case _:
                assert_never(step)

    def _create(self, step: Create, record: Record | None, gives_up_at: float) -> Acquired | NotCreated:
        if step.because:
            self.log.warning("A new run is created: %s", step.because)
        # One whose calls this task is to answer goes on waiting for them.
        closes = step.closes if step.closes != self.creator.request.answers else None
        closing = self._close(closes) if (closes := closes or self._closes) is not None else ()
        # Read again before a further create: a lost one may have brought them.
        self._closes = closes if closing else None
        self.api.sleep(step.after)
        return self.creator.create(step, before=record, gives_up_at=gives_up_at, closing=closing)

    def _poll(self, step: PollRun, record: Record | None) -> Polled:
        """
        Poll the run, again while a server that has accepted it may not show it yet.

        :raises RunConnectionError: if it is unknown to another server, or account, than where it was created.
        """
        said, ends = False, max(step.visible_by, self.clock() + GONE_SECONDS)
        while True:
            result = self.api.poll(step.ref)
            is_unknown = isinstance(result, RequestFailure) and result.kind is FailureKind.NOT_FOUND
            if not is_unknown or self.clock() >= ends:
                break
            if not said:
                self.log.info("%s: unknown to its server, which may not show it yet", step.ref)
                said = True
            self.api.sleep(NOT_SHOWN_YET)
        is_gone = isinstance(result, RequestFailure) and result.says_gone
        if is_gone and (elsewhere := self._elsewhere(record, step.ref.conn_id)):
            raise RunConnectionError(
                f"Connection {step.ref.conn_id!r}: {elsewhere}. {step.ref.subject} of an earlier attempt is "
                f"unknown there ({result}), and may be running and billing. Nothing was created. Edit the "
                "connection back, and a retry goes on with the run; or clear the task to begin anew.",
                retryable=True,
            )
        return Polled(ref=step.ref, result=result)

    def _search(self, step: SearchRun) -> Searched:
        """Search until the run is found, or would certainly be in the list."""
        while True:
            found = self._believed(self.api.search(step.intent), step.intent)
            is_over = isinstance(found, RequestFailure) or found.ref is not None or not found.conclusive
            if is_over or self.clock() >= step.until:
                self._note(step.intent.token, found)
                if isinstance(found, RequestFailure):
                    self.api.sleep(SEARCH_PAUSE)  # it may be asked for again
                return Searched(result=found)
            self.api.sleep(SEARCH_PAUSE)

    def _believed(
        self, found: SearchResult | RequestFailure, intent: Record
    ) -> SearchResult | RequestFailure:
        """Take a list for no proof that was not asked where the create was sent."""
        if isinstance(found, RequestFailure) or found.ref is not None or not found.conclusive:
            return found
        conn_id = intent.conn_id or self.api.conn_id
        now, then = self.api.account(conn_id), intent.account
        is_there = now is not None and then is not None and now.address == then.address
        if is_there and intent.thread_id is not None:  # a thread is known to its own account only
            return found
        elsewhere = self._elsewhere(intent, conn_id)
        if elsewhere is not None:
            self.log.warning("The create of an earlier attempt cannot be searched for: %s", elsewhere)
        return replace(found, conclusive=elsewhere is None)

    def _seen_here(self, record: Record | None, done: Observation) -> Record | None:
        """Note that the connection leads to the recorded run, though its key may have been rotated."""
        if record is None or record.account is None or not isinstance(done, Polled):
            return record
        if isinstance(done.result, RequestFailure):
            return record
        return replace(record, account=self.api.account(done.ref.conn_id) or record.account)

    def _elsewhere(self, record: Record | None, conn_id: str) -> RequestFailure | None:
        """
        Return a failure that proves nothing where a connection leads elsewhere than the create was sent.

        It keeps its name when it is edited, and another server or account knows no such run.
        """
        if record is None or record.account is None or (now := self.api.account(conn_id)) is None:
            return None
        moved = now.differs_from(record.account)
        return RequestFailure(kind=FailureKind.ACCESS_DENIED, text=moved) if moved else None

    def _note(self, token: str, found: SearchResult | RequestFailure) -> None:
        """Tell the account which run a lost create has started, or that it has started none."""
        if isinstance(found, SearchResult):
            if found.ref is not None:
                self.creator.ledger.name(token, found.ref)
            elif found.conclusive:
                self.creator.ledger.release(token)

    def _end(self, step: EndRun, record: Record | None) -> Ended:
        """
        End a run, and make sure that it has ended, before another one is paid for.

        Whatever the server says, it has the whole time for it: a run that cannot be cancelled may still end.
        """
        self.log.info("Ending %s first: %s", step.ref, step.because)
        began = self.clock()
        ends = began + self.policy.cancel_budget
        while True:
            wait = max(0.0, ends - self.clock())
            result = self.api.cancel(step.ref, wait=wait, visible_by=step.visible_by)
            left = ends - self.clock()
            if result.has_ended or left <= 0:
                break
            self.api.sleep(min(END_PAUSE, left))
        if result.is_gone and not step.others and (elsewhere := self._elsewhere(record, step.ref.conn_id)):
            result = replace(result, is_gone=False, failure=elsewhere)
        if result.has_ended:
            self.log.info("%s is %s", step.ref, result.raw_status or "gone")
        return Ended(ref=step.ref, result=result, seconds=self.clock() - began, others=step.others)

    def _close(self, ref: RunRef) -> tuple[Mapping[str, Any], ...]:
        """
        Answer the calls that a response leaves behind, so that the next one in its conversation works.

        :return: what the next one has to bring along, where the server takes it in no other way.
        """
        closed = self.api.close(ref)
        if not isinstance(closed, RequestFailure):
            if closed is not None:
                self.log.info("The calls of %s were answered with an error in conversation %s", ref, closed)
            return ()
        unanswered = self.api.unanswered(ref)
        unanswered = () if isinstance(unanswered, RequestFailure) else unanswered
        then = "; the next create does" if unanswered else ""
        self.log.warning("Could not answer the calls that %s leaves open: %s%s", ref, closed, then)
        return unanswered

    def _is_ours(self, step: IdentifyRun) -> bool:
        run = self.api.retrieve(step.ref, budget=ADOPT_BUDGET)
        return isinstance(run, Run) and run.metadata.get(TOKEN_KEY, "").startswith(self.policy.token_prefix)

    def _own(self, step: Own) -> Acquired:
        if step.finished:
            self.log.info("%s of an earlier attempt has done the work; nothing is paid again", step.run.ref)
        else:
            self.log.info("Adopted %s of an earlier attempt; nothing is paid again", step.run.ref)
        if step.changed:
            self.log.warning(
                "%s goes on with the earlier values of %s", step.run.ref, ", ".join(step.changed)
            )
        return Acquired(run=step.run, finished=step.finished)
