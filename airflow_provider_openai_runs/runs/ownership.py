# SPDX-License-Identifier: Apache-2.0
"""
Which run belongs to this task instance: create one, adopt it, finish from it, replace it, or give up.

``decide`` is one pure function of the record, of what was seen, and of the time. The caller does what the
returned move says, and calls again with what it saw, until the move is ``Create``, ``Replace`` (which ends in
a create), ``Adopt``, ``FinishFrom`` or ``GiveUp``. Two things must hold at every point, also when the process
dies right there: at most one paid run is alive, and no run is without either an owner or a named fate.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_openai_runs.runs.errors import (
    LostCreateError,
    OpenAIRunError,
    RunCallError,
    RunConnectionError,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, RunRef
from airflow_provider_openai_runs.runs.policies import OnLostCreate
from airflow_provider_openai_runs.runs.polling import NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.status import RunStatus

#: How long after it was accepted a run may still be missing from a list.
SEARCH_SECONDS = 60.0
#: How long after the intent the server may still accept the run: a create may take this long to be answered.
CREATE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """
    What a search by token brought.

    :param ref: the run, if it was found.
    :param conclusive: whether not having found it proves that it does not exist.
    """

    ref: RunRef | None
    conclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Write the intent and create a run. ``because`` says what became of the one before."""

    because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PollRun:
    """Look at the run, recorded or found by its token, and decide again with its ref in the record."""

    ref: RunRef


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRun:
    """Search for a run by its token, again and again until ``until``, and decide again."""

    token: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """End that run (cancel it unless it is ending already), wait for its end, then create."""

    ref: RunRef
    because: str
    cancel: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Go on waiting for that run."""

    ref: RunRef


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishFrom:
    """That run has done the work already: read its result, pay nothing."""

    ref: RunRef


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Nothing may be created."""

    error: OpenAIRunError


Observation = PollResult | RequestFailure | SearchResult
Step = Create | PollRun | SearchRun | Replace | Adopt | FinishFrom | GiveUp


def decide(
    record: Record | None,
    *,
    generation: int,
    observed: Observation | None = None,
    now: float,
    waits: bool = True,
    on_lost_create: OnLostCreate = "fail",
) -> Step:
    """
    Return the next move.

    :param record: what the task state store holds, or None.
    :param cycle: the cycle of this attempt.
    :param seen: what the last move brought; None at the start.
    :param now: Unix seconds.
    :param waits: False for fire and forget, where a run is owned only until its create has returned.
    :param on_lost_create: what to do when nobody can say whether a create was accepted.
    """
    if record is None:
        return Create()
    if record.generation != generation:
        return _after_a_clear(record, observed, now)
    if isinstance(observed, SearchResult) or record.ref is None:
        return _lost_create(record, observed, now, on_lost_create)
    if not waits:
        return FinishFrom(ref=record.ref)
    if observed is None:
        return PollRun(ref=record.ref)
    if isinstance(observed, RequestFailure):
        return _recorded_run_not_readable(record, record.ref, observed, now)
    return _recorded_run(record, record.ref, observed)


def _after_a_clear(record: Record, observed: Observation | None, now: float) -> Step:
    why = "the task was cleared"
    if record.ref is not None:
        return Replace(ref=record.ref, because=why)
    found = _search(record, observed, now)
    if not isinstance(found, SearchResult):
        return found
    if found.ref is not None:
        return Replace(ref=found.ref, because=why)
    return Create(
        because=None
        if found.conclusive
        else f"{why}; whether its earlier create was accepted cannot be looked up, so a run with metadata "
        f"token {record.token!r} may be running and billing"
    )


def _search(record: Record, observed: Observation | None, now: float) -> SearchResult | SearchRun | GiveUp:
    """Return what the search brought, or the move that still stands in its place."""
    if isinstance(observed, SearchResult):
        return observed
    until = min(now, record.intent_at + CREATE_SECONDS) + SEARCH_SECONDS
    if isinstance(observed, RequestFailure):
        if observed.kind is FailureKind.ACCESS_DENIED:
            error = RunConnectionError(
                f"The server refused the key ({observed}) in the search for the run of an earlier attempt. "
                f"Nothing was created; a run with metadata token {record.token!r} may be running and "
                "billing. Mend the key, then clear the task."
            )
            return GiveUp(error=error)
        if now >= record.intent_at + SEARCH_SECONDS:
            return SearchResult(ref=None, conclusive=False)
    return SearchRun(token=record.token, until=until)


def _lost_create(
    record: Record, observed: Observation | None, now: float, on_lost_create: OnLostCreate
) -> Step:
    found = _search(record, observed, now)
    if not isinstance(found, SearchResult):
        return found
    if isinstance(observed, RequestFailure) and observed.is_transient:
        return GiveUp(
            error=RunCallError(
                f"Could not search for the run of an earlier attempt: {observed}. Nothing was created; a run "
                f"with metadata token {record.token!r} may be running and billing. A retry searches again."
            )
        )
    if found.ref is not None:
        return PollRun(ref=found.ref)
    if found.conclusive:
        return Create(because="an earlier attempt ended before its create was accepted")
    if on_lost_create == "resubmit":
        if record.rounds.earlier:
            # It was the answer to the calls of a response, which still waits for one.
            return Adopt(ref=record.rounds.earlier[-1])
        return Create(because="an earlier create was never answered (on_lost_create='resubmit')")
    return GiveUp(error=lost_create_error(record))


def _recorded_run(record: Record, ref: RunRef, polled: PollResult) -> Step:
    if polled.status is RunStatus.CANCELLING:
        return Replace(ref=ref, because="it is being cancelled", cancel=False)
    if polled.status.is_active:
        if record.ended_by_us:
            return Replace(ref=ref, because="an earlier attempt had ended it", cancel=True)
        return Adopt(ref=ref)
    if polled.status is not RunStatus.COMPLETED:
        return Create(because=f"{ref} had ended as {polled.raw_status}")
    if record.refused:
        return Create(because=f"the answer of {ref} was refused")
    # A response that waits for the answer to a call says completed, but has no result yet.
    return Adopt(ref=ref) if polled.needs_action else FinishFrom(ref=ref)


def _recorded_run_not_readable(record: Record, ref: RunRef, failure: RequestFailure, now: float) -> Step:
    if failure.kind is FailureKind.ACCESS_DENIED:
        error = RunConnectionError(
            f"Connection {ref.conn_id!r}: the server refused the key ({failure}). Nothing was created; "
            f"{ref} of an earlier attempt may still be running and billing. Mend the key, then clear the "
            "task."
        )
        return GiveUp(error=error)
    fresh = now <= (record.created_at or record.intent_at) + NOT_FOUND_GRACE
    if failure.kind is FailureKind.NOT_FOUND and not fresh:
        return Create(because=f"{ref} of an earlier attempt is gone from the server")
    if record.refused:
        return Create(because=f"the answer of {ref} was refused")
    if record.ended_by_us:
        return Replace(ref=ref, because="an earlier attempt had ended it")
    # Whatever else is wrong, the run may be alive and paid for: the wait goes on and says what it meets.
    return Adopt(ref=ref)


def lost_create_error(record: Record, why: str = "its answer never arrived") -> LostCreateError:
    """Say what may be running and what to do about it."""
    return LostCreateError(
        f"A create was sent at Unix time {record.intent_at:.0f} and {why}; this server cannot tell whether "
        f"it was accepted. A run with metadata token {record.token!r} may be running and billing. It was "
        "not sent again (on_lost_create='fail'). Clear the task to start anew."
    )
