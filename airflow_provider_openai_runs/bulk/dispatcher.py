# SPDX-License-Identifier: Apache-2.0
"""
Which creates of a bulk task may be sent, and what has to be committed before.

It does no I/O and knows no clock. The rule that keeps money safe: a create leaves only after its intent is
committed to the journal, and within the seconds in which no later attempt can have taken over. What an
attempt that dies leaves between a committed intent and a committed run is bounded by ``max_unrecorded``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from airflow_provider_openai_runs.bulk.allowance import Allowance
from airflow_provider_openai_runs.bulk.events import (
    Cancelled,
    Created,
    Event,
    Intended,
    NewRun,
    NotAccepted,
    PartWritten,
    Resubmitted,
    Retried,
    Spent,
    merged,
    resolved,
)
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.budgets import COMMIT_EVERY, SEND_WITHIN
from airflow_provider_openai_runs.runs.ceiling import Amount
from airflow_provider_openai_runs.runs.policies import OnLostCreate


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How far a bulk task may go, as the operator says.

    :param max_active: runs that may be active at the server at once.
    :param max_unrecorded: creates that may be under way at once; so many may be lost with a worker.
    :param item_retries: further runs of an item whose run ended badly.
    :param max_failed: items that may fail before the task does: a number, or a share as a float.
    :param max_resubmits: further creates of an item whose create was lost, where ``on_lost_create`` says so.
    """

    max_active: int = 500
    max_unrecorded: int = 100
    item_retries: int = 2
    max_resubmits: int = 1
    on_lost_create: OnLostCreate = "fail"
    max_failed: float | None = None


class Dispatcher:
    """
    The creates of one attempt.

    Offer it rows, commit what ``to_commit`` returns, send what ``to_send`` returns, and tell it what became
    of both. One commit may be under way at a time.

    :param items: what the journal tells so far; the dispatcher folds into it what is committed.
    :param allowance: what may be spent.
    :ivar refusal: why the next row may not be paid for, whatever becomes of what is active; None if it may.
    """

    def __init__(self, items: Items, limits: Limits, allowance: Allowance | None = None) -> None:
        self.items = items
        self.refusal: str | None = None
        self._allowance = allowance or Allowance()
        #: Whether the next row has to wait for the end of others, by which more may be left to spend.
        self._is_held = False
        self._limits = limits
        self._ready: deque[int] = deque()
        self._offered: dict[int, Row] = {}
        #: Rows whose run may be active at the server, so far as this attempt knows.
        self._open: set[int] = {*items.rows(ItemState.CREATED)}
        self._sendable: deque[tuple[int, float]] = deque()
        self._sending: set[int] = set()
        self._pending: list[Event] = []
        self._committing: tuple[Event, ...] | None = None
        self._committed_at = float("-inf")
        self._is_stopped = False
        self._goes_on = True

    # -- creates -------------------------------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        """How many more rows should be offered, so that none has to be waited for."""
        return 0 if self._is_stopped else max(0, self._limits.max_unrecorded - len(self._ready))

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way or waits for a commit: the journal tells all that is known."""
        return not (self._ready or self._sendable or self._sending or self._pending or self._committing)

    @property
    def has_ready(self) -> bool:
        """Whether rows wait to be created."""
        return bool(self._ready)

    @property
    def is_full(self) -> bool:
        """Whether nothing but the runs that are active keeps rows from being created."""
        is_busy = self._sendable or self._sending or self._pending or self._committing
        return not is_busy and (self._is_held or len(self._open) >= self._limits.max_active)

    @property
    def is_creating(self) -> bool:
        """Whether rows wait for their create, or it is under way."""
        return bool(self._ready or self._sendable or self._sending)

    def on_found(self, events: Iterable[Event]) -> dict[int, NewRun | None]:
        """
        Take what an earlier attempt has written down of its creates, and not committed.

        Its intents do not count: it has not sent them.

        :return: the rows whose create was answered, with their run; None where it was not accepted.
        """
        found: dict[int, NewRun | None] = {}
        for event in events:
            if isinstance(event, Created):
                found |= {run.row: run for run in event.runs}
            elif isinstance(event, NotAccepted):
                found |= dict.fromkeys(event.rows)
        found = {row: run for row, run in found.items() if self.items.state(row) is ItemState.INTENDED}
        runs = tuple(run for run in found.values() if run is not None)
        self._open.update(run.row for run in runs)
        self._pending += [Created(runs=runs)] if runs else []
        refused = tuple(row for row, run in found.items() if run is None)
        self._pending += [NotAccepted(rows=refused)] if refused else []
        return found

    def offer(self, row: Row) -> None:
        """
        Take a row that is to be created.

        :raises ValueError: of a row that has a run, or is final.
        """
        if (state := self.items.state(row.number)) is not ItemState.NEW:
            raise ValueError(f"Row {row.number} is {state.name.lower()}.")
        self._ready.append(row.number)
        self._offered[row.number] = replace(row, values=None)

    def to_send(self, now: float) -> dict[int, float]:
        """Return the rows whose creates are to be sent now, and until when; report what became of each."""
        rows = {}
        while self._sendable:
            row, until = self._sendable.popleft()
            if now < until:
                rows[row] = until
            else:
                self._take_back(row)
        self._sending.update(rows)
        return rows

    def on_created(self, run: NewRun) -> None:
        """Take note of the run that a create was answered with."""
        self._sending.remove(run.row)
        self._offered.pop(run.row, None)
        self._pending.append(Created(runs=(run,)))

    def on_not_accepted(self, row: int, *, again: bool) -> None:
        """
        Take note of a create that the server has certainly not taken.

        :param again: whether it is to be sent again; else its error is going to be written to a part.
        """
        self._sending.remove(row)
        self._open.discard(row)
        self._pending.append(NotAccepted(rows=(row,)))
        if again:
            self._again(row)
        else:
            self._offered.pop(row, None)

    def on_lost(self, row: int) -> bool:
        """
        Decide about a create of which nobody knows whether it was accepted.

        :return: whether the row may be created again, and has to be offered again for it once that is
            committed; else its error is to be written to a part.
        """
        self._sending.discard(row)
        self._open.discard(row)
        self._offered.pop(row, None)
        allowed = self._limits.on_lost_create == "resubmit"
        if not self._goes_on or not allowed or self.items.resubmits(row) >= self._limits.max_resubmits:
            return False
        self._pending.append(Resubmitted(rows=(row,)))
        return True

    # -- ends ----------------------------------------------------------------------------------------------

    def on_ended(self, row: int) -> None:
        """Take note that the run of a row is no longer active."""
        self._open.discard(row)

    def on_failed(self, row: int, *, retryable: bool, spent: Spent | None = None) -> bool:
        """
        Decide about a run that ended badly.

        :param spent: what it has said.
        :return: whether the row is to be created again, and has to be offered again for it once that is
            committed; else its error is to be written to a part.
        """
        self.on_ended(row)
        if not self._goes_on or not retryable or self.items.retries(row) >= self._limits.item_retries:
            return False
        self._pending.append(Retried(rows=(row,), spent=spent or Spent(silent=(row,))))
        return True

    def on_cancelled(self, row: int, spent: Spent) -> None:
        """Take note that the run of a row was ended, and that the next attempt creates another one."""
        self.on_ended(row)
        self._pending.append(Cancelled(rows=(row,), spent=spent))

    def on_part(self, part: PartWritten) -> None:
        """Take note of a file with the final word on some items."""
        self._open.difference_update(part.rows)
        self._pending.append(part)

    def stop(self, *, goes_on: bool) -> None:
        """
        Create nothing more; what was not sent yet is taken back.

        :param goes_on: whether another attempt creates what may be created again.
        """
        self._is_stopped, self._goes_on = True, goes_on
        self._take_all_back()

    # -- commits -------------------------------------------------------------------------------------------

    def to_commit(
        self, now: float, *, admitted: int | None = None, is_probing: bool = False
    ) -> tuple[Event, ...] | None:
        """
        Return what is to be committed now; None if there is nothing, or if it has to wait.

        :param admitted: how many further creates the rate limits allow; None is without limit.
        :param is_probing: let no more than one create be under way.
        """
        if self._committing is not None or (now < self._committed_at + COMMIT_EVERY and not self._is_stopped):
            return None
        outcomes, self._pending = merged(self._pending), []
        most = 1 if is_probing else self._limits.max_unrecorded
        intended = self._intend(outcomes, admitted, most_unrecorded=most)
        events = (*outcomes, _intention(intended)) if intended else outcomes
        if not events:
            return None
        self._committing = events
        self._committed_at = now
        return events

    @property
    def sending(self) -> frozenset[int]:
        """The rows whose create is under way."""
        return frozenset(self._sending)

    def on_committed(self, now: float) -> tuple[Event, ...]:
        """
        Take note that what was to be committed is, and return it.

        :param now: Unix seconds at which the commit **began**: from then on a later attempt may read it.
        """
        assert self._committing is not None  # noqa: S101 # for mypy
        events, self._committing = self._committing, None
        self._is_held = False  # by what may have ended now
        for event in events:
            self.items.apply(event)
            if isinstance(event, Intended):
                self._sendable.extend((row, now + SEND_WITHIN) for row in event.rows)
        if self._is_stopped:
            self._take_all_back()
        return events

    # -- inside --------------------------------------------------------------------------------------------

    def _intend(self, outcomes: Iterable[Event], admitted: int | None, *, most_unrecorded: int) -> list[Row]:
        if self._is_stopped:
            return []
        unrecorded = self.items.count(ItemState.INTENDED) - sum(len(resolved(event)) for event in outcomes)
        room = min(most_unrecorded - unrecorded, self._limits.max_active - len(self._open))
        room = max(0, room if admitted is None else min(room, admitted))
        rows: list[Row] = []
        more, self._is_held = Amount(), False
        reserved = self.items.reserved_in_all
        while self._ready and len(rows) < room and not self._is_held:
            row = self._offered[self._ready[0]]
            more += row.reserved or Amount()
            refused = partial(self._allowance.refusal, self.items, more=more, asked=row.asked)
            self._is_held = refused(reserved=reserved) is not None
            if not self._is_held:
                self._open.add(self._ready.popleft())
                rows.append(row)
            elif not rows and not self._sendable:
                self.refusal = refused(reserved=self.items.kept)
        return rows

    def _take_all_back(self) -> None:
        self._ready.clear()
        while self._sendable:
            self._take_back(self._sendable.popleft()[0])

    def _take_back(self, row: int) -> None:
        self._open.discard(row)
        self._pending.append(NotAccepted(rows=(row,)))
        self._again(row)

    def _again(self, row: int) -> None:
        if not self._is_stopped:
            self._ready.append(row)


def _intention(rows: Iterable[Row]) -> Intended:
    rows = tuple(rows)
    return Intended(
        rows=tuple(row.number for row in rows),
        custom_ids={row.number: row.custom_id for row in rows if row.custom_id is not None},
        asked={row.number: row.asked for row in rows if row.asked is not None},
        reserved={row.number: row.reserved for row in rows if row.reserved is not None},
    )
