# SPDX-License-Identifier: Apache-2.0
"""Does what ``runs/ownership.py`` decides: finds, adopts, ends and creates the run of a task instance."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from airflow_provider_openai_runs.hooks import flows
from airflow_provider_openai_runs.operators.busy import BusyThreadError
from airflow_provider_openai_runs.operators.record import NoLongerOwnerError, RunRecords
from airflow_provider_openai_runs.runs import ownership
from airflow_provider_openai_runs.runs.checks import TOKEN_KEY
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError
from airflow_provider_openai_runs.runs.model import Look, Run, RunRef
from airflow_provider_openai_runs.runs.ownership import (
    Adopt,
    Create,
    FinishFrom,
    GiveUp,
    LookAt,
    Replace,
    SearchFor,
    SearchResult,
)
from airflow_provider_openai_runs.runs.policies import OnActiveRun, OnLostCreate
from airflow_provider_openai_runs.runs.record import Record, new_token, token_prefix
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.trouble import Trouble, TroubleKind
from airflow_provider_openai_runs.runs.waiting import NOT_FOUND_GRACE
from airflow_provider_openai_runs.wire import wire_of
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS
from airflow_provider_openai_runs.wire.troubled import CallFailed

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

#: Seconds for a look at a recorded run; in trouble the run counts as active, and the wait goes on looking.
_LOOK_BUDGET = 30.0
_SEARCH_PAUSE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """
    The run that belongs to this task instance. Times are Unix seconds.

    :param run: as its create call answered; None when it is one of an earlier attempt.
    :param finished: it has done its work already, and only has to be read.
    """

    ref: RunRef
    created_at: float
    deadline: float | None
    run: Run | None = None
    finished: bool = False


@dataclass(kw_only=True)
class RunOwner:
    """
    Finds or creates the run of one task instance.

    :param identity: Dag id, Dag run id, task id, map index.
    :param cycle: ``max_tries``, which a clear changes and a retry does not.
    :param retries_without_record: this is a retry, and there is no store to know the run from.
    :param window: seconds to wait for the run; None is fire and forget.
    :param was_killed: asked after each step: nothing may be created or kept any more.
    """

    hook: OpenAIRunsHook
    request: RunRequest
    records: RunRecords
    identity: tuple[object, ...]
    cycle: int
    retries_without_record: bool
    run_began_at: float
    window: float | None
    timeouts: dict[str, float]
    cancel_on_timeout: bool
    on_lost_create: OnLostCreate
    on_active_run: OnActiveRun
    log: Logger
    clock: Callable[[], float] = time.time

    def acquire(self) -> Owned:
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

    def _acquire(self) -> Owned:
        record = self.records.load()
        guess = None if record else self._unrecorded()
        record = record or guess
        seen: ownership.Seen | None = None
        gives_up_at = self.clock() + self.timeouts["create"]
        while True:
            move = ownership.decide(
                record,
                cycle=self.cycle,
                seen=seen,
                now=self.clock(),
                waits=self.window is not None,
                # Without a store nobody knows that there was a create at all.
                on_lost_create="resubmit" if record is guess else self.on_lost_create,
            )
            seen = None
            match move:
                case Create():
                    made = self._create(move, record, gives_up_at)
                    if isinstance(made, Owned):
                        return made
                    record = made
                case LookAt():
                    record = self._with_ref(record, move.ref)
                    seen = self._look(move.ref)
                case SearchFor():
                    seen = self._search(move, record)
                case Replace():
                    seen = self._end(move, record)
                    # Of a retry's own run the end counts: completed before the cancel came, it is paid for.
                    record = record if seen and record and record.cycle == self.cycle else None
                case Adopt():
                    return self._adopt(self._with_ref(record, move.ref), move.ref)
                case FinishFrom():
                    return self._finished(move.ref)
                case GiveUp():
                    raise move.error
                case _:
                    assert_never(move)

    # -- create -------------------------------------------------------------------------------------------

    def _create(self, move: Create, record: Record | None, gives_up_at: float) -> Owned | Record | None:
        """Create a run; if its answer was lost, return the intent to decide about; None is to try again."""
        if move.because:
            self.log.warning("A new run is created: %s", move.because)
        request = self._on_its_thread(record)
        intent = Record(
            cycle=self.cycle,
            token=new_token((*self.identity, self.cycle), random_part=secrets.token_hex(8)),
            intent_at=self.clock(),
            thread_id=request.thread_id,
            fingerprint=self.request.fingerprint(),
        )

        def write_intent() -> None:
            # Anew before each send: a lost answer is searched for from the last time on.
            nonlocal intent
            intent = replace(intent, intent_at=self.clock())
            self.records.save(intent, is_intent=True)

        flow = flows.create(request, token=intent.token, conn_id=self.hook.conn_id)
        budget = max(1.0, gives_up_at - self.clock())
        try:
            run = self.hook.run_flow(flows.patiently(flow, budget=budget, before_paying=write_intent))
        except CallFailed as failed:
            return self._not_created(intent, failed, gives_up_at)
        return self._created(intent, run)

    def _on_its_thread(self, record: Record | None) -> RunRequest:
        """Create the thread first, so that it is on record before a run on it is paid for."""
        if self.request.thread is None:
            return self.request
        if record is not None and record.ref is None and record.thread_id and record.cycle == self.cycle:
            return replace(self.request, thread_id=record.thread_id)
        try:
            flow = flows.single(THREADS.create_thread(self.request.thread))
            thread_id = self.hook.run_flow(flows.patiently(flow, budget=self.timeouts["create"]))
        except CallFailed as failed:
            raise self._error(failed, "create a thread") from failed
        return replace(self.request, thread_id=thread_id)

    def _created(self, intent: Record, run: Run) -> Owned:
        now = self.clock()
        deadline = None if self.window is None else now + self.window
        try:
            self.records.save(intent.with_run(run.ref, created_at=now, deadline=deadline))
        except NoLongerOwnerError as error:
            fate = self._cancel(run.ref)
            raise RunCallError(
                f"This attempt is no longer the task's: a later one has taken over. {run.ref}, which it "
                f"had just created, was {fate}."
            ) from error
        return Owned(ref=run.ref, created_at=now, deadline=deadline, run=run)

    def _not_created(self, intent: Record, failed: CallFailed, gives_up_at: float) -> Owned | Record | None:
        trouble = failed.trouble
        if trouble.kind is TroubleKind.NO_ANSWER:
            self.log.warning("The create was not answered (%s); looking whether it was accepted", trouble)
            if self.clock() < gives_up_at:
                # Up to now the server may have accepted it; from now on it is searched for.
                intent = replace(intent, intent_at=self.clock())
                self.records.save(intent)
                return intent
            raise ownership.lost_create_error(intent, f"was not answered ({trouble})") from failed
        active = self._active_run(intent, trouble)
        if active is not None and (owned := self._adopt_active(intent, active)):
            return owned
        self.records.drop()
        error = self._error(failed, f"create a {self.request.kind.noun}")
        if not (trouble.active_run_id or trouble.conversation_locked) or self.on_active_run == "fail":
            raise error from failed
        if self.on_active_run == "wait":
            raise BusyThreadError(error, active) from failed
        if active is None or self.clock() >= gives_up_at:
            # A locked conversation does not name the response that is at work in it.
            raise error from failed
        self._end(Replace(ref=active, because="it keeps the thread busy (on_active_run='cancel')"), None)
        return None

    def _active_run(self, intent: Record, trouble: Trouble) -> RunRef | None:
        if trouble.active_run_id is None:
            return None
        return RunRef(
            kind=RunKind.THREAD_RUN,
            id=trouble.active_run_id,
            thread_id=intent.thread_id,
            conn_id=self.hook.conn_id,
        )

    def _adopt_active(self, intent: Record, ref: RunRef) -> Owned | None:
        """Adopt the run that keeps the thread busy if this very task had created it."""
        try:
            run = self.hook.run_flow(
                flows.patiently(flows.single(wire_of(ref.kind).retrieve(ref)), budget=_LOOK_BUDGET)
            )
        except CallFailed:
            return None
        prefix = token_prefix((*self.identity, self.cycle))
        if not run.metadata.get(TOKEN_KEY, "").startswith(prefix):
            return None
        return self._adopt(intent, ref)

    # -- an earlier run -----------------------------------------------------------------------------------

    def _unrecorded(self) -> Record | None:
        """Return what a retry knows without a store: the part of the token that is no accident."""
        if not self.retries_without_record or self.request.kind is not RunKind.THREAD_RUN:
            return None
        prefix = token_prefix((*self.identity, self.cycle))
        return Record(
            cycle=self.cycle, token=prefix, intent_at=self.run_began_at, thread_id=self.request.thread_id
        )

    def _with_ref(self, record: Record | None, ref: RunRef) -> Record | None:
        return record if record is None or record.ref else replace(record, ref=ref)

    def _look(self, ref: RunRef) -> ownership.Seen:
        try:
            return self._hook_of(ref).run_flow(
                flows.patiently(flows.single(wire_of(ref.kind).look(ref)), budget=_LOOK_BUDGET)
            )
        except CallFailed as failed:
            return failed.trouble

    def _search(self, move: SearchFor, record: Record | None) -> SearchResult | Trouble:
        """Search until the run turns up, or surely should have."""
        since = record.intent_at if record else 0.0
        thread_id = record.thread_id if record else None
        while True:
            flow = wire_of(self.request.kind).search(
                thread_id=thread_id, token=move.token, since=since, conn_id=self.hook.conn_id
            )
            try:
                found = self.hook.run_flow(flows.patiently(flow, budget=_LOOK_BUDGET))
            except CallFailed as failed:
                return failed.trouble
            if found.ref is not None or not found.conclusive or self.clock() >= move.until:
                return found
            self.hook.sleep(_SEARCH_PAUSE)

    def _adopt(self, record: Record | None, ref: RunRef) -> Owned:
        now = self.clock()
        if record is None:
            record = Record(cycle=self.cycle, token="", intent_at=now)
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
        return Owned(ref=ref, created_at=created_at, deadline=deadline)

    def _finished(self, ref: RunRef) -> Owned:
        self.log.info("%s of an earlier attempt has done the work; nothing is paid again", ref)
        return Owned(ref=ref, created_at=self.clock(), deadline=None, finished=True)

    def _end(self, move: Replace, record: Record | None) -> Look | None:
        """End a run, and make sure that it has ended, before another one is paid for."""
        self.log.info("Ending %s first: %s", move.ref, move.because)
        budget = self.timeouts["delete"]
        created_at = (record.created_at or record.intent_at) if record else 0.0
        flow = flows.cancel(move.ref, wait=budget, visible_by=created_at + NOT_FOUND_GRACE)
        ended = self._hook_of(move.ref).run_flow(flows.patiently(flow, budget=budget))
        if not ended.has_ended:
            raise RunCallError(
                f"{move.ref} of an earlier attempt could not be ended within timeouts['delete']={budget:g} "
                f"s ({ended.trouble or ended.look}); it may be running and billing. Nothing new was "
                "created."
            )
        self.log.info("%s is %s", move.ref, ended.look.word if ended.look else "gone")
        return ended.look

    def _cancel(self, ref: RunRef) -> str:
        ended = self.hook.run_flow(flows.patiently(flows.cancel(ref, wait=3), budget=3))
        return "cancelled" if ended.has_ended else "not cancelled and may be running and billing"

    def _hook_of(self, ref: RunRef) -> OpenAIRunsHook:
        return self.hook if ref.conn_id == self.hook.conn_id else self.hook.for_connection(ref.conn_id)

    def _error(self, failed: CallFailed, doing: str) -> OpenAIRunError:
        return self.hook.error_of(failed, doing=doing, kind=self.request.kind)
