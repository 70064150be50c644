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
    OwnershipPolicy,
    Polled,
    Searched,
    SearchResult,
    Situation,
    Step,
    WaitForThread,
)
from airflow_provider_openai_runs.runs.adoption import adopt, create, end, finish_from, is_own, poll
from airflow_provider_openai_runs.runs.budgets import NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.error_of_run import may_be_a_success
from airflow_provider_openai_runs.runs.errors import RunCallError, RunConnectionError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure, pause_before_retry
from airflow_provider_openai_runs.runs.lost_create import after_a_lost_create, runs_of, search
from airflow_provider_openai_runs.runs.model import RunRef
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
        return create(None, policy)
    if isinstance(observed, Polled):
        return _after_a_poll(record, observed, policy, now)
    if not is_own(record, policy):
        return _after_a_clear(record, observed, policy, now)
    if record.run is None or isinstance(observed, Searched):
        return after_a_lost_create(
            record,
            observed,
            policy,
            now,
            gives_up_at=situation.gives_up_at,
            is_guess=situation.is_guess,
        )
    ref = record.run.ref
    if policy.window is None and not record.ended_by_us:
        return finish_from(record, ref)
    if record.ended and record.refused:
        return create(record, policy, f"the answer of {ref} was refused")
    if record.ended and record.ended_by_us:
        return create(record, policy, f"an earlier attempt had ended {ref}")
    return poll(record, ref, now)


# -- a clear -----------------------------------------------------------------------------------------------


def _after_a_clear(
    record: Record, observed: Observation | None, policy: OwnershipPolicy, now: float
) -> Decision:
    why = "the task was cleared"
    if record.ended:
        return create(record, policy)
    if record.run is not None:
        return end(record, record.run.ref, why, now)
    found = search(record, observed, now)
    if not isinstance(found, SearchResult):
        return Decision(step=found, record=record)
    if found.ref is not None:
        return end(record, found.ref, why, now)
    because = None
    if record.unreadable:
        because = (
            f"{why}; its record cannot be read, so its run may be running and billing: {record.unreadable}"
        )
    elif not found.conclusive:
        unknown = "whether its earlier create was accepted cannot be found out"
        because = f"{why}; {unknown}, so {runs_of(record)} may be running and billing"
    # A create that was to answer calls may have answered none of them.
    waits = record.rounds.earlier[-1] if record.rounds.earlier else None
    return create(record, policy, because, closes=waits)


def _after_an_end(record: Record | None, ended: Ended, policy: OwnershipPolicy, now: float) -> Decision:
    result = ended.result
    is_ours = is_own(record, policy) and not ended.others
    if not result.has_ended:
        reason = result.failure or f"status {result.raw_status or 'unknown'}"
        tried = f"could not be ended in {ended.seconds:.0f} s ({reason}); it may be running and billing"
        is_cleared = record is not None and not is_own(record, policy) and not ended.others
        if is_cleared and policy.on_unendable == "give_up":
            because = (
                f"{ended.ref} {tried}. It is given up, since the task was cleared (on_unendable='give_up')"
            )
            return create(None, policy, because)
        error = RunCallError(f"{ended.ref.subject} {tried}. Nothing new was created.")
        return Decision(step=GiveUp(error=error), record=record)
    if ended.others and record is not None and record.run is None:
        # As it was before the refused create: one that was lost, and still counts.
        return create(replace(record, lost=(*record.lost, record.token)), policy)
    if record is not None and is_ours and result.polled is not None:
        # Of a retry's own run the end counts: completed before the cancel came, it is paid for.
        return _after_a_poll(record, Polled(ref=ended.ref, result=result.polled), policy, now)
    waits = ended.ref if result.polled is not None and result.polled.needs_action else None
    return create(record if is_own(record, policy) else None, policy, closes=waits)


# -- a recorded run ----------------------------------------------------------------------------------------


def _after_a_poll(record: Record, polled: Polled, policy: OwnershipPolicy, now: float) -> Decision:
    ref, result = polled.ref, polled.result
    if policy.window is None and not record.ended_by_us:
        return finish_from(record, ref)
    if isinstance(result, RequestFailure):
        return _after_a_failed_poll(record, ref, result, policy, now)
    if result.status is RunStatus.CANCELLING:
        return end(record, ref, "it is being cancelled", now)
    if result.status.is_active:
        if record.ended_by_us:
            return end(record, ref, "an earlier attempt had ended it", now)
        return adopt(record, ref, policy, now)
    waits = ref if result.needs_action else None
    if not may_be_a_success(result.status, on_incomplete=policy.on_incomplete):
        return create(record, policy, f"{ref} had ended as {result.raw_status}", closes=waits)
    if record.refused:
        return create(record, policy, f"the answer of {ref} was refused", closes=waits)
    if result.needs_action:
        # A response that waits for the answer to a call says completed, but has no result yet.
        return adopt(record, ref, policy, now)
    return finish_from(record, ref)


def _after_a_failed_poll(
    record: Record, ref: RunRef, failure: RequestFailure, policy: OwnershipPolicy, now: float
) -> Decision:
    if failure.kind is FailureKind.ACCESS_DENIED:
        what = "the server refused the key" if failure.http_status else "it cannot be used"
        error = RunConnectionError(
            f"Connection {ref.conn_id!r}: {what} ({failure}). Nothing was created; "
            f"{ref} of an earlier attempt may still be running and billing. Fix the connection, then clear "
            "the task."
        )
        return Decision(step=GiveUp(error=error), record=record)
    if failure.says_gone:
        return create(record, policy, f"{ref} of an earlier attempt is gone from the server")
    if record.refused:
        return create(record, policy, f"the answer of {ref} was refused", closes=ref)
    if record.ended_by_us:
        return end(record, ref, "an earlier attempt had ended it", now)
    # Whatever else is wrong, the run may be alive and paid for: the wait goes on and says what it meets.
    return adopt(record, ref, policy, now)


# -- a create that failed ----------------------------------------------------------------------------------


def _after_a_failed_create(
    situation: Situation, failed: NotCreated, policy: OwnershipPolicy, now: float
) -> Decision:
    failure, intent = failed.failure, failed.intent
    if failure.kind is FailureKind.OUTCOME_UNKNOWN:
        # Up to now the server may have accepted it; from now on it is searched for.
        intent = replace(intent, intent_at=now, failure=str(failure))
        warning = f"The create was not answered ({failure}); searching whether it was accepted"
        decision = after_a_lost_create(intent, None, policy, now, gives_up_at=situation.gives_up_at)
        return replace(decision, write=True, warning=warning)
    pause = pause_before_retry(failure, situation.refusals - 1)
    if failure.may_be_sent_again and now + pause < situation.gives_up_at:
        # Whoever dies in the pause has created nothing, and a retry must not take it for a lost create.
        step = Create(after=pause, thread_id=intent.thread_id, token=intent.token, lost=intent.lost)
        warning = f"The create was not accepted ({failure}); it is sent again in {pause:.0f} s"
        return Decision(step=step, record=failed.before, write=True, warning=warning)
    if failed.active_run is not None:
        return Decision(step=IdentifyRun(ref=failed.active_run, refused=failed), record=intent)
    return _not_created(failed, policy, gives_up_at=situation.gives_up_at, now=now)


def _after_identifying(
    situation: Situation, identified: Identified, policy: OwnershipPolicy, now: float
) -> Decision:
    if identified.ours:
        return adopt(identified.refused.intent, identified.ref, policy, now)
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
        step = EndRun(ref=active, because=because, visible_by=NOT_FOUND_GRACE, others=True)
    # A run or a lost create of before is not forgotten: it may go on, or be a success by an edited policy.
    return Decision(step=step, record=failed.before, write=True)
