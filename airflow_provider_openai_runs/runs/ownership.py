# SPDX-License-Identifier: Apache-2.0
"""
Which run belongs to this task instance: create one, adopt it, finish from it, replace it, or give up.

``decide`` is one pure function of what is known and of the time. Its caller writes the record that the
decision names, does the step, and decides again with what it observed, until the step is ``Own``,
``WaitForThread`` or ``GiveUp``. Two things must hold at every point, also when the process dies right there:
at most one paid run is alive, and no run is without a task that tracks it or a named fate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

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
    Step,
    WaitForThread,
)
from airflow_provider_openai_runs.runs.budgets import (
    CREATE_SECONDS,
    NOT_FOUND_GRACE,
    SEARCH_SECONDS,
)
from airflow_provider_openai_runs.runs.errors import (
    LostCreateError,
    RunCallError,
    RunConnectionError,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure, pause_before_retry
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.policies import OnLostCreate
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.status import RunStatus

# -- the decisions -----------------------------------------------------------------------------------------


def decide(situation: Situation, policy: OwnershipPolicy, *, now: float) -> Decision:
    """
    Return what comes next.

    :param now: Unix seconds.
    """
    record, observed = situation.record, situation.observed
    match observed:
        case NotCreated():
            return _after_a_failed_create(situation, observed, policy, now)
        case Identified():
            return _after_identifying(situation, observed, policy, now)
        case Ended():
            return _after_an_end(record, observed, policy, now)
        case Polled() | Searched() | None:
            return _from_the_record(situation, policy, now)
        case _:
            assert_never(observed)


def _from_the_record(situation: Situation, policy: OwnershipPolicy, now: float) -> Decision:
    record, observed = situation.record, situation.observed
    if record is None:
        return Decision(step=Create(), record=None)
    if isinstance(observed, Polled):
        return _after_a_poll(record, observed, policy, now)
    if record.generation != policy.generation:
        return _after_a_clear(record, observed, now)
    if record.run is None or isinstance(observed, Searched):
        # Without a store nobody knows that there was a create at all.
        on_lost_create = "resubmit" if situation.is_guess else policy.on_lost_create
        return _after_a_lost_create(record, observed, on_lost_create, policy, now)
    if policy.window is None:
        return _finish_from(record, record.run.ref)
    return Decision(step=PollRun(ref=record.run.ref), record=record)


# -- a clear -----------------------------------------------------------------------------------------------


def _after_a_clear(record: Record, observed: Observation | None, now: float) -> Decision:
    why = "the task was cleared"
    if record.run is not None:
        return _end(record, record.run.ref, why)
    found = _search(record, observed, now)
    if not isinstance(found, SearchResult):
        return Decision(step=found, record=record)
    if found.ref is not None:
        return _end(record, found.ref, why)
    because = (
        None
        if found.conclusive
        else f"{why}; whether its earlier create was accepted cannot be found out, so a run with metadata "
        f"token {record.token!r} may be running and billing"
    )
    return Decision(step=Create(because=because), record=record)


def _end(record: Record | None, ref: RunRef, because: str) -> Decision:
    visible_by = (record.visible_from if record else 0.0) + NOT_FOUND_GRACE
    return Decision(step=EndRun(ref=ref, because=because, visible_by=visible_by), record=record)


def _after_an_end(record: Record | None, ended: Ended, policy: OwnershipPolicy, now: float) -> Decision:
    result = ended.result
    if not result.has_ended:
        error = RunCallError(
            f"{ended.ref} of an earlier attempt could not be ended within timeouts['delete']="
            f"{policy.cancel_budget:g} s ({result.failure or result.raw_status or 'status unknown'}); it may "
            "be running and billing. Nothing new was created."
        )
        return Decision(step=GiveUp(error=error), record=record)
    own = record is not None and record.generation == policy.generation
    if record is not None and own and result.polled is not None:
        # Of a retry's own run the end counts: completed before the cancel came, it is paid for.
        return _after_a_poll(record, Polled(ref=ended.ref, result=result.polled), policy, now)
    return Decision(step=Create(), record=None)


# -- a lost create -----------------------------------------------------------------------------------------


def _search(record: Record, observed: Observation | None, now: float) -> SearchResult | SearchRun | GiveUp:
    """Return what the search brought, or the step that still stands in its place."""
    result = observed.result if isinstance(observed, Searched) else None
    if isinstance(result, SearchResult):
        return result
    if isinstance(result, RequestFailure):
        if result.kind is FailureKind.ACCESS_DENIED:
            error = RunConnectionError(
                f"The server refused the key ({result}) in the search for the run of an earlier attempt. "
                f"Nothing was created; a run with metadata token {record.token!r} may be running and "
                "billing. Fix the key, then clear the task."
            )
            return GiveUp(error=error)
        if now >= record.intent_at + SEARCH_SECONDS:
            return SearchResult(ref=None, conclusive=False)
    return SearchRun(intent=record, until=min(now, record.intent_at + CREATE_SECONDS) + SEARCH_SECONDS)


def _after_a_lost_create(
    record: Record,
    observed: Observation | None,
    on_lost_create: OnLostCreate,
    policy: OwnershipPolicy,
    now: float,
    *,
    why: str = "its answer never arrived",
) -> Decision:
    found = _search(record, observed, now)
    if not isinstance(found, SearchResult):
        return Decision(step=found, record=record)
    failure = observed.result if isinstance(observed, Searched) else None
    if isinstance(failure, RequestFailure) and failure.is_transient:
        error = RunCallError(
            f"Could not search for the run of an earlier attempt: {failure}. Nothing was created; a run with "
            f"metadata token {record.token!r} may be running and billing. A retry searches again."
        )
        return Decision(step=GiveUp(error=error), record=record)
    if found.ref is not None:
        return Decision(step=PollRun(ref=found.ref), record=record)
    if found.conclusive:
        because = "an earlier attempt ended before its create was accepted"
        return Decision(step=Create(because=because, thread_id=record.thread_id), record=record)
    if on_lost_create == "resubmit":
        if record.rounds.earlier:
            # It was the answer to the calls of a response, which still waits for one.
            return _adopt(record, record.rounds.earlier[-1], policy, now)
        because = "an earlier create was never answered (on_lost_create='resubmit')"
        return Decision(step=Create(because=because, thread_id=record.thread_id), record=record)
    return Decision(step=GiveUp(error=lost_create_error(record, why)), record=record)


def lost_create_error(record: Record, why: str = "its answer never arrived") -> LostCreateError:
    """Say what may be running and what to do about it."""
    return LostCreateError(
        f"A create was sent at Unix time {record.intent_at:.0f} and {why}; this server cannot tell whether "
        f"it was accepted. A run with metadata token {record.token!r} may be running and billing. It was "
        "not sent again (on_lost_create='fail'). Clear the task to start anew."
    )


# -- a recorded run ----------------------------------------------------------------------------------------


def _after_a_poll(record: Record, polled: Polled, policy: OwnershipPolicy, now: float) -> Decision:
    ref, result = polled.ref, polled.result
    if policy.window is None:
        return _finish_from(record, ref)
    if isinstance(result, RequestFailure):
        return _after_a_failed_poll(record, ref, result, policy, now)
    if result.status is RunStatus.CANCELLING:
        return _end(record, ref, "it is being cancelled")
    if result.status.is_active:
        if record.ended_by_us:
            return _end(record, ref, "an earlier attempt had ended it")
        return _adopt(record, ref, policy, now)
    accepted = result.status is RunStatus.INCOMPLETE and policy.on_incomplete == "accept"
    if result.status is not RunStatus.COMPLETED and not accepted:
        return Decision(step=Create(because=f"{ref} had ended as {result.raw_status}"), record=record)
    if record.refused:
        return Decision(step=Create(because=f"the answer of {ref} was refused"), record=record)
    if result.needs_action:
        # A response that waits for the answer to a call says completed, but has no result yet.
        return _adopt(record, ref, policy, now)
    return _finish_from(record, ref)


def _finish_from(record: Record, ref: RunRef) -> Decision:
    run = replace(record.back_at(ref), deadline=None)
    return Decision(step=Own(run=run, finished=True), record=record)


def _after_a_failed_poll(
    record: Record, ref: RunRef, failure: RequestFailure, policy: OwnershipPolicy, now: float
) -> Decision:
    if failure.kind is FailureKind.ACCESS_DENIED:
        error = RunConnectionError(
            f"Connection {ref.conn_id!r}: the server refused the key ({failure}). Nothing was created; "
            f"{ref} of an earlier attempt may still be running and billing. Fix the key, then clear the "
            "task."
        )
        return Decision(step=GiveUp(error=error), record=record)
    created_at = record.back_at(ref).created_at or record.intent_at
    if failure.kind is FailureKind.NOT_FOUND and now > created_at + NOT_FOUND_GRACE:
        return Decision(
            step=Create(because=f"{ref} of an earlier attempt is gone from the server"), record=record
        )
    if record.refused:
        return Decision(step=Create(because=f"the answer of {ref} was refused"), record=record)
    if record.ended_by_us:
        return _end(record, ref, "an earlier attempt had ended it")
    # Whatever else is wrong, the run may be alive and paid for: the wait goes on and says what it meets.
    return _adopt(record, ref, policy, now)


def _adopt(record: Record, ref: RunRef, policy: OwnershipPolicy, now: float) -> Decision:
    known = record.back_at(ref)
    deadline = known.deadline
    over_but_left_running = deadline is not None and deadline <= now and not policy.cancel_on_timeout
    if policy.window is not None and (deadline is None or over_but_left_running):
        # Found by its token, its deadline is not known; left running by us, it has a window of its own.
        deadline = now + policy.window
    run = replace(known, created_at=known.created_at or now, deadline=deadline)
    changed = record.changed_arguments(policy.fingerprint)
    return Decision(step=Own(run=run, changed=changed), record=record.with_run(run), write=True)


# -- a create that failed ----------------------------------------------------------------------------------


def _after_a_failed_create(
    situation: Situation, failed: NotCreated, policy: OwnershipPolicy, now: float
) -> Decision:
    failure, intent = failed.failure, failed.intent
    if failure.kind is FailureKind.OUTCOME_UNKNOWN:
        if now >= situation.gives_up_at:
            error = lost_create_error(intent, f"was not answered ({failure})")
            return Decision(step=GiveUp(error=error), record=intent)
        # Up to now the server may have accepted it; from now on it is searched for.
        intent = replace(intent, intent_at=now)
        warning = f"The create was not answered ({failure}); searching whether it was accepted"
        why = f"was not answered ({failure})"
        decision = _after_a_lost_create(intent, None, policy.on_lost_create, policy, now, why=why)
        return replace(decision, write=True, warning=warning)
    pause = pause_before_retry(failure, situation.refusals - 1)
    if failure.may_be_sent_again and now + pause < situation.gives_up_at:
        # Whoever dies in the pause has created nothing, and a retry must not take it for a lost create.
        step = Create(after=pause, thread_id=intent.thread_id, token=intent.token)
        return Decision(step=step, record=failed.before, write=True)
    if failed.active_run is not None:
        return Decision(step=IdentifyRun(ref=failed.active_run, refused=failed), record=intent)
    return _not_created(failed, policy, gives_up_at=situation.gives_up_at, now=now)


def _after_identifying(
    situation: Situation, identified: Identified, policy: OwnershipPolicy, now: float
) -> Decision:
    if identified.ours:
        return _adopt(identified.refused.intent, identified.ref, policy, now)
    return _not_created(identified.refused, policy, gives_up_at=situation.gives_up_at, now=now)


def _not_created(failed: NotCreated, policy: OwnershipPolicy, *, gives_up_at: float, now: float) -> Decision:
    active = failed.active_run
    is_busy = active is not None or failed.failure.conversation_locked
    step: Step = GiveUp(error=failed.error)
    if is_busy and policy.on_active_run == "wait":
        step = WaitForThread(ref=active, error=failed.error)
    elif is_busy and policy.on_active_run == "cancel" and active is not None and now < gives_up_at:
        # A locked conversation does not name the response that is at work in it.
        because = "it keeps the thread busy (on_active_run='cancel')"
        step = EndRun(ref=active, because=because, visible_by=NOT_FOUND_GRACE)
    return Decision(step=step, record=None, write=True)
