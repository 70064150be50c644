# SPDX-License-Identifier: Apache-2.0
"""Does what ``runs/ownership.py`` decides: finds, adopts, ends and creates the run of a task instance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from airflow_provider_openai_runs.attempts.busy_thread import BusyThreadError
from airflow_provider_openai_runs.attempts.create import NotCreatedError, RunCreator, TrackedRun
from airflow_provider_openai_runs.attempts.record_store import NoLongerOwnerError
from airflow_provider_openai_runs.runs import ownership
from airflow_provider_openai_runs.runs.checks import TOKEN_KEY
from airflow_provider_openai_runs.runs.errors import RunCallError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, RunRef
from airflow_provider_openai_runs.runs.ownership import (
    Adopt,
    Create,
    FinishFrom,
    GiveUp,
    PollRun,
    Replace,
    SearchResult,
    SearchRun,
)
from airflow_provider_openai_runs.runs.policies import OnActiveRun, OnLostCreate
from airflow_provider_openai_runs.runs.polling import NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.record import Record, token_prefix
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

#: Seconds for a look at a recorded run; in trouble the run counts as active, and the wait goes on looking.
_POLL_BUDGET = 30.0
_SEARCH_PAUSE = 5.0


@dataclass(kw_only=True)
class RunAcquirer:
    """
    Finds or creates the run of one task instance.

    :param retries_without_record: this is a retry, and there is no store to know the run from.
    :param run_began_at: when the Dag run began, in Unix seconds.
    """

    creator: RunCreator
    retries_without_record: bool
    run_began_at: float
    cancel_on_timeout: bool
    on_lost_create: OnLostCreate
    on_active_run: OnActiveRun

    def __post_init__(self) -> None:
        self.hook = self.creator.hook
        self.request = self.creator.request
        self.records = self.creator.records
        self.timeouts = self.creator.timeouts
        self.window = self.creator.window
        self.log = self.creator.log
        self.clock = self.creator.clock
        self.generation = self.creator.generation
        self._token_prefix = token_prefix((*self.creator.identity, self.generation))

    def acquire(self) -> TrackedRun:
        """
        Return the run that belongs to this task instance.

        :raises OpenAIRunError: if there is none and none may be created.
        """
        try:
            return self._acquire()
        except NoLongerOwnerError as error:
            raise RunCallError(
                "This attempt is no longer the task's: a later one has taken over. Nothing was created, and "
                "a run of the later one was left to it."
            ) from error

    def _acquire(self) -> TrackedRun:
        record = self.records.load()
        guess = None if record else self._unrecorded()
        record = record or guess
        observed: ownership.Observation | None = None
        gives_up_at = self.clock() + self.timeouts["create"]
        while True:
            move = ownership.decide(
                record,
                generation=self.generation,
                observed=observed,
                now=self.clock(),
                waits=self.window is not None,
                # Without a store nobody knows that there was a create at all.
                on_lost_create="resubmit" if record is guess else self.on_lost_create,
            )
            observed = None
            match move:
                case Create():
                    made = self._create(move, record, gives_up_at)
                    if isinstance(made, TrackedRun):
                        return made
                    record = made
                case PollRun():
                    record = record and record.back_at(move.ref)
                    observed = self._poll(move.ref)
                case SearchRun():
                    observed = self._search(move, record)
                case Replace():
                    observed = self._end(move, record)
                    # Of a retry's own run the end counts: completed before the cancel came, it is paid for.
                    record = record if observed and record and record.generation == self.generation else None
                case Adopt():
                    return self._adopt(record and record.back_at(move.ref), move.ref)
                case FinishFrom():
                    return self._finished(record, move.ref)
                case GiveUp():
                    raise move.error
                case _:
                    assert_never(move)

    # -- create -------------------------------------------------------------------------------------------

    def _create(self, move: Create, record: Record | None, gives_up_at: float) -> TrackedRun | Record | None:
        """Create a run; if its answer was lost, return the intent to decide about; None is to try again."""
        if move.because:
            self.log.warning("A new run is created: %s", move.because)
        try:
            return self.creator.create(record, gives_up_at=gives_up_at)
        except NotCreatedError as error:
            return self._not_created(error.intent, error.failed, gives_up_at)

    def _not_created(
        self, intent: Record, failed: ApiRequestFailed, gives_up_at: float
    ) -> TrackedRun | Record | None:
        failure = failed.failure
        if failure.kind is FailureKind.OUTCOME_UNKNOWN:
            self.log.warning("The create was not answered (%s); looking whether it was accepted", failure)
            if self.clock() < gives_up_at:
                # Up to now the server may have accepted it; from now on it is searched for.
                intent = replace(intent, intent_at=self.clock())
                self.records.save(intent)
                return intent
            raise ownership.lost_create_error(intent, f"was not answered ({failure})") from failed
        active = self._active_run(intent, failure)
        if active is not None and (tracked := self._adopt_active(intent, active)):
            return tracked
        self.records.drop()
        error = self.creator.error_of(failed, f"create a {self.request.kind.noun}")
        if not (failure.active_run_id or failure.conversation_locked) or self.on_active_run == "fail":
            raise error from failed
        if self.on_active_run == "wait":
            raise BusyThreadError(error, active) from failed
        if active is None or self.clock() >= gives_up_at:
            # A locked conversation does not name the response that is at work in it.
            raise error from failed
        self._end(Replace(ref=active, because="it keeps the thread busy (on_active_run='cancel')"), None)
        return None

    def _active_run(self, intent: Record, failure: RequestFailure) -> RunRef | None:
        if failure.active_run_id is None:
            return None
        return RunRef(
            kind=RunKind.THREAD_RUN,
            id=failure.active_run_id,
            thread_id=intent.thread_id,
            conn_id=self.hook.conn_id,
        )

    def _adopt_active(self, intent: Record, ref: RunRef) -> TrackedRun | None:
        """Adopt the run that keeps the thread busy if this very task had created it."""
        try:
            run = self.hook.run_flow(
                flows.with_retries(flows.single(wire_of(ref.kind).retrieve(ref)), budget=_POLL_BUDGET)
            )
        except ApiRequestFailed:
            return None
        if not run.metadata.get(TOKEN_KEY, "").startswith(self._token_prefix):
            return None
        return self._adopt(intent, ref)

    # -- an earlier run -----------------------------------------------------------------------------------

    def _unrecorded(self) -> Record | None:
        """Return what a retry knows without a store: the part of the token that is no accident."""
        if not self.retries_without_record or self.request.kind is not RunKind.THREAD_RUN:
            return None
        return Record(
            generation=self.generation,
            token=self._token_prefix,
            intent_at=self.run_began_at,
            thread_id=self.request.thread_id,
            # Of another task: it may have been answered by the attempt before.
            ref=self.request.answers,
        )

    def _poll(self, ref: RunRef) -> ownership.Observation:
        try:
            return self._hook_of(ref).run_flow(
                flows.with_retries(flows.single(wire_of(ref.kind).poll(ref)), budget=_POLL_BUDGET)
            )
        except ApiRequestFailed as failed:
            return failed.failure

    def _search(self, move: SearchRun, record: Record | None) -> SearchResult | RequestFailure:
        """Search until the run turns up, or surely should have."""
        since = record.intent_at if record else 0.0
        thread_id = record.thread_id if record else None
        while True:
            flow = wire_of(self.request.kind).search(
                thread_id=thread_id, token=move.token, since=since, conn_id=self.hook.conn_id
            )
            try:
                found = self.hook.run_flow(flows.with_retries(flow, budget=_POLL_BUDGET))
            except ApiRequestFailed as failed:
                return failed.failure
            if found.ref is not None or not found.conclusive or self.clock() >= move.until:
                return found
            self.hook.sleep(_SEARCH_PAUSE)

    def _adopt(self, record: Record | None, ref: RunRef) -> TrackedRun:
        now = self.clock()
        if record is None:
            record = Record(generation=self.generation, token="", intent_at=now)
        created_at = record.created_at or now
        deadline = record.deadline
        if self.window is not None and (deadline is None or (deadline <= now and not self.cancel_on_timeout)):
            # Found by its token, its deadline is not known; left running by us, it has a window of its own.
            deadline = now + self.window
        changed = record.changed_arguments(self.request.fingerprint()) if record.fingerprint else []
        self.log.info("Adopted %s of an earlier attempt; nothing is paid again", ref)
        if changed:
            self.log.warning("%s goes on with the earlier values of %s", ref, ", ".join(changed))
        self.records.save(record.with_run(ref, created_at=created_at, deadline=deadline))
        return TrackedRun(ref=ref, created_at=created_at, deadline=deadline, rounds=record.rounds)

    def _finished(self, record: Record | None, ref: RunRef) -> TrackedRun:
        self.log.info("%s of an earlier attempt has done the work; nothing is paid again", ref)
        rounds = record.rounds if record else Rounds()
        return TrackedRun(ref=ref, created_at=self.clock(), deadline=None, finished=True, rounds=rounds)

    def _end(self, move: Replace, record: Record | None) -> PollResult | None:
        """End a run, and make sure that it has ended, before another one is paid for."""
        self.log.info("Ending %s first: %s", move.ref, move.because)
        budget = self.timeouts["delete"]
        created_at = (record.created_at or record.intent_at) if record else 0.0
        flow = flows.cancel(move.ref, wait=budget, visible_by=created_at + NOT_FOUND_GRACE)
        ended = self._hook_of(move.ref).run_flow(flows.with_retries(flow, budget=budget))
        if not ended.has_ended:
            raise RunCallError(
                f"{move.ref} of an earlier attempt could not be ended within timeouts['delete']={budget:g} "
                f"s ({ended.failure or ended.polled}); it may be running and billing. Nothing new was "
                "created."
            )
        self.log.info("%s is %s", move.ref, ended.polled.raw_status if ended.polled else "gone")
        return ended.polled

    def _hook_of(self, ref: RunRef) -> OpenAIRunsHook:
        return self.hook if ref.conn_id == self.hook.conn_id else self.hook.for_connection(ref.conn_id)
