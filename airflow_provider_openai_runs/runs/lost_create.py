# SPDX-License-Identifier: Apache-2.0
"""
A create was sent, and nobody knows whether the server has accepted it.

First the run is searched for. Where that proves nothing, the create is sent again as often as the user has
allowed, and no more: each one that is lost may be running and billing.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_openai_runs.runs.acquisition import (
    Create,
    Decision,
    GiveUp,
    Observation,
    OwnershipPolicy,
    Searched,
    SearchResult,
    SearchRun,
)
from airflow_provider_openai_runs.runs.adoption import adopt, poll
from airflow_provider_openai_runs.runs.budgets import (
    LONGEST_RESUBMIT_PAUSE,
    RESUBMIT_PAUSE,
    SEARCH_SECONDS,
)
from airflow_provider_openai_runs.runs.errors import LostCreateError, RunCallError, RunConnectionError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.times import visible_by

#: Of many lost creates, this many are named.
_NAMED = 5


def search(record: Record, observed: Observation | None, now: float) -> SearchResult | SearchRun | GiveUp:
    """Return what the search brought, or the step that still stands in its place."""
    result = observed.result if isinstance(observed, Searched) else None
    if not record.token:
        return SearchResult(ref=None, conclusive=False)
    if isinstance(result, SearchResult):
        return result
    if isinstance(result, RequestFailure):
        if result.kind is FailureKind.ACCESS_DENIED:
            error = RunConnectionError(
                f"The server refused the key ({result}) in the search for the run of an earlier attempt. "
                f"Nothing was created; {runs_of(record)} may be running and billing. Fix the key, then clear "
                "the task."
            )
            return GiveUp(error=error)
        if now >= record.intent_at + SEARCH_SECONDS:
            return SearchResult(ref=None, conclusive=False)
    return SearchRun(intent=record, until=visible_by(record.intent_at, now=now, within=SEARCH_SECONDS))


def after_a_lost_create(
    record: Record,
    observed: Observation | None,
    policy: OwnershipPolicy,
    now: float,
    *,
    gives_up_at: float,
    is_guess: bool = False,
) -> Decision:
    """
    Search, then adopt what was found, create what is not there for certain, else do as the user allows.

    :param gives_up_at: Unix seconds; nothing is created after it.
    :param is_guess: there is no store, so that nobody knows whether there was a create at all.
    """
    found = search(record, observed, now)
    if not isinstance(found, SearchResult):
        return Decision(step=found, record=record)
    failure = observed.result if isinstance(observed, Searched) else None
    if isinstance(failure, RequestFailure) and failure.is_transient:
        error = RunCallError(
            f"Could not search for the run of an earlier attempt: {failure}. Nothing was created; "
            f"{runs_of(record)} may be running and billing. A retry searches again."
        )
        return Decision(step=GiveUp(error=error), record=record)
    if found.ref is not None:
        return poll(record, found.ref, now)
    if record.unreadable:
        return _unreadable(record, policy)
    if found.conclusive and now >= gives_up_at:
        why = f"was not answered ({record.failure})" if record.failure else "was interrupted"
        error = RunCallError(f"A create {why}, and was not accepted: nothing runs. A retry sends it again.")
        return Decision(step=GiveUp(error=error), record=record)
    if found.conclusive:
        because = "an earlier attempt ended before its create was accepted"
        step = Create(because=because, thread_id=record.thread_id, lost=record.lost)
        return Decision(step=step, record=record)
    if not is_guess and not may_be_sent_again(record, policy.resubmits):
        return Decision(step=GiveUp(error=lost_create_error(record, policy.resubmits)), record=record)
    if is_guess:
        because = "whether an earlier attempt has created one is not known without a task state store"
        return Decision(step=Create(because=because, thread_id=record.thread_id), record=record)
    return _sent_again(record, policy, now, gives_up_at)


def _sent_again(record: Record, policy: OwnershipPolicy, now: float, gives_up_at: float) -> Decision:
    lost = (*record.lost, record.token)
    if record.rounds.earlier:
        # It was the answer to the calls of a response, which still waits for one.
        return adopt(replace(record, lost=lost), record.rounds.earlier[-1], policy, now)
    pause = pause_before_resubmit(record)
    if now + pause >= gives_up_at:
        error = lost_create_error(record, policy.resubmits, retryable=True)
        return Decision(step=GiveUp(error=error), record=record)
    because = (
        f"an earlier create was never answered; {runs_of(record)} may be running and billing "
        f"(on_lost_create='resubmit', {len(lost)} of max_resubmits={policy.resubmits})"
    )
    step = Create(because=because, after=pause, thread_id=record.thread_id, lost=lost)
    return Decision(step=step, record=record)


def may_be_sent_again(record: Record, resubmits: int) -> bool:
    """Whether a create that was lost may be paid for once more."""
    return len(record.lost) < resubmits


def pause_before_resubmit(record: Record, failure: RequestFailure | None = None) -> float:
    """Return the seconds to wait before a lost create is sent again; they grow with each one."""
    grown = min(RESUBMIT_PAUSE * 2.0 ** min(len(record.lost), 10), LONGEST_RESUBMIT_PAUSE)
    return max(grown, (failure and failure.retry_after) or 0.0)


def runs_of(record: Record) -> str:
    """Name the runs that the creates on record may have started."""
    tokens = [*record.lost, *([record.token] if record.token not in record.lost else [])]
    if len(tokens) == 1:
        return f"a run with metadata token {tokens[0]!r}"
    more = f" and {len(tokens) - _NAMED} more" if len(tokens) > _NAMED else ""
    return f"up to {len(tokens)} runs with metadata tokens {', '.join(map(repr, tokens[-_NAMED:]))}{more}"


def lost_create_error(record: Record, resubmits: int, *, retryable: bool = False) -> LostCreateError:
    """
    Say what may be running and what to do about it.

    :param resubmits: how many more creates the user allows; none with ``on_lost_create="fail"``.
    :param retryable: a retry of the task sends it again.
    """
    why = f"was not answered ({record.failure})" if record.failure else "its answer never arrived"
    runs = runs_of(record)
    limit = f"max_resubmits={resubmits}" if resubmits else "on_lost_create='fail'"
    next_step = (
        "A retry sends it again (on_lost_create='resubmit')."
        if retryable
        else f"It was not sent again ({limit}). Clear the task to start anew."
    )
    text = (
        f"A create was sent at Unix time {record.intent_at:.0f} and {why}; this server cannot tell whether "
        f"it was accepted. {runs[0].upper()}{runs[1:]} may be running and billing. {next_step}"
    )
    return LostCreateError(text, retryable=retryable)


def _unreadable(record: Record, policy: OwnershipPolicy) -> Decision:
    error = RunCallError(
        f"The record of this task's run (key 'openai_run' in the task state store) cannot be read: "
        f"{record.unreadable}. It was damaged, or written by another version of this package. The run may "
        "be running and billing; nothing was created. A retry of the version that wrote it goes on with the "
        "run; clear the task to start anew."
    )
    # From now on the record says whose it is, so that a clear differs from a retry.
    is_new = record.generation is None
    return Decision(
        step=GiveUp(error=error), record=replace(record, generation=policy.generation), write=is_new
    )
