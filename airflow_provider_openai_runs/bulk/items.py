# SPDX-License-Identifier: Apache-2.0
"""
What is known of each item of a bulk task: the events of its journal, folded into a few bytes an item.

Only what is committed is folded, so any two attempts that read the same journal know the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import assert_never

from airflow_provider_openai_runs.bulk.events import (
    Asked,
    BatchCreated,
    BatchIntended,
    BatchRefused,
    Cancelled,
    Created,
    Event,
    Intended,
    JournalError,
    NewRun,
    NotAccepted,
    PartWritten,
    Resubmitted,
    Retried,
    Spent,
)
from airflow_provider_openai_runs.bulk.reserved import Reserved
from airflow_provider_openai_runs.bulk.sent_batches import SentBatches
from airflow_provider_openai_runs.runs.ceiling import Amount
from airflow_provider_openai_runs.runs.usage import Totals


class ItemState(IntEnum):
    """Where an item stands, as far as the journal tells."""

    #: Nothing of it was sent, or what was sent is over: a create may be intended.
    NEW = 0
    #: A create may have been sent, and what it answered is not known.
    INTENDED = 1
    #: It has a run.
    CREATED = 2
    #: Its result is in a part.
    SUCCEEDED = 3
    #: Its error is in a part.
    FAILED = 4
    #: Nobody knows whether a run was created for it, and nobody creates another one.
    LOST = 5

    @property
    def is_final(self) -> bool:
        """Whether nothing more is going to happen to it."""
        return self >= ItemState.SUCCEEDED


#: A create of it may have been sent, and its tokens are still to come.
_HAS_RUN = frozenset({ItemState.INTENDED, ItemState.CREATED})
_BEFORE: dict[type[Event], frozenset[ItemState]] = {
    # An intent is written again where its create was not sent within the seconds that it is good for.
    Intended: frozenset({ItemState.NEW, ItemState.INTENDED}),
    Created: frozenset({ItemState.INTENDED}),
    NotAccepted: frozenset({ItemState.INTENDED}),
    Retried: frozenset({ItemState.CREATED}),
    Cancelled: frozenset({ItemState.CREATED}),
    Resubmitted: frozenset({ItemState.INTENDED}),
    BatchIntended: frozenset({ItemState.NEW}),
    BatchCreated: frozenset({ItemState.INTENDED}),
    BatchRefused: frozenset({ItemState.INTENDED, ItemState.CREATED}),
}


@dataclass(kw_only=True)
class Items:
    """
    The items of one generation of a task.

    :param runs: of the items that are ``CREATED``, by row.
    :param custom_ids: labels of the items that are ``INTENDED`` or ``CREATED``, where they have one.
    :param parts: files whose items are final, in the order of their commits.
    :param batches: in which they are, where they are executed by batches; they have no ``runs`` then.
    :param most_rows: what a batch may have at most, as the account's queue allows; None is no limit.
    :param queue_refusals: how often that queue has refused a batch that was alone, since it took one or was
        given less.
    :param good_rows: of the largest batch that had to be made smaller, and went well; 0 is none.
    :param batches_again_at: Unix seconds, before which no batch is to be created.
    :param asked: what the price of a run goes by, of the items that are ``INTENDED`` or ``CREATED``.
    :param reserved: what the runs of these may take at most.
    :param kept: what those runs may have taken that will never tell.
    :param results: what the runs in the parts have said.
    :param others: what those have said that another one took the place of.
    :param unusable_files: ids of files of requests of which the server has made no batch.
    """

    runs: dict[int, NewRun] = field(default_factory=dict)
    custom_ids: dict[int, str] = field(default_factory=dict)
    parts: list[PartWritten] = field(default_factory=list)
    batches: SentBatches = field(default_factory=SentBatches)
    most_rows: int | None = None
    queue_refusals: int = 0
    good_rows: int = 0
    batches_again_at: float = 0.0
    asked: dict[int, Asked] = field(default_factory=dict)
    reserved: Reserved = field(default_factory=Reserved)
    kept: Amount = field(default_factory=Amount)
    results: Totals = field(default_factory=Totals)
    others: Totals = field(default_factory=Totals)
    unusable_files: set[str] = field(default_factory=set)
    _states: bytearray = field(default_factory=bytearray)
    _retries: bytearray = field(default_factory=bytearray)
    _resubmits: bytearray = field(default_factory=bytearray)
    _cancels: bytearray = field(default_factory=bytearray)
    _refusals: bytearray = field(default_factory=bytearray)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Items:
        """
        Fold a journal.

        :raises JournalError: if its events contradict each other.
        """
        items = cls()
        for event in events:
            items.apply(event)
        return items

    def state(self, row: int) -> ItemState:
        """Return where an item stands; one that the journal does not name is new."""
        return ItemState(self._states[row]) if row < len(self._states) else ItemState.NEW

    def retries(self, row: int) -> int:
        """Return how many runs of an item ended badly and were followed by another."""
        return self._retries[row] if row < len(self._retries) else 0

    def resubmits(self, row: int) -> int:
        """Return how often a lost create of an item was sent again."""
        return self._resubmits[row] if row < len(self._resubmits) else 0

    def cancels(self, row: int) -> int:
        """Return how many runs of an item were ended with their attempt and followed by another."""
        return self._cancels[row] if row < len(self._cancels) else 0

    def refusals(self, row: int) -> int:
        """Return how often a batch of an item was refused whole, perhaps for its file."""
        return self._refusals[row] if row < len(self._refusals) else 0

    def creates(self, row: int) -> int:
        """Return how many creates of an item were followed by another, or are going to be."""
        return self.retries(row) + self.resubmits(row) + self.cancels(row)

    def count(self, state: ItemState) -> int:
        """Return how many items stand there, of those that the journal names."""
        return self._states.count(state)

    @property
    def spent(self) -> Totals:
        """What all runs have said; one that may be active counts among those that have not."""
        active = self.count(ItemState.INTENDED) + self.count(ItemState.CREATED)
        return self.results + self.others + Totals(silent=active)

    @property
    def end(self) -> int:
        """The number after the last row that the journal names."""
        return len(bytes(self._states).rstrip(b"\0"))

    def rows(self, state: ItemState) -> Iterator[int]:
        """Yield the rows of the items that stand there, of those that the journal names."""
        row = self._states.find(state)
        while row >= 0:
            yield row
            row = self._states.find(state, row + 1)

    def apply(self, event: Event) -> None:
        """
        Take in what is committed.

        :raises JournalError: if it cannot have happened after what is known.
        """
        match event:
            case Intended():
                self._move(event, event.rows, ItemState.INTENDED)
                self._remember(event)
            case Created():
                self._move(event, [run.row for run in event.runs], ItemState.CREATED)
                self.runs |= {run.row: run for run in event.runs}
            case NotAccepted():
                self._move(event, event.rows, ItemState.NEW)
                self._forget(event.rows)
            case Retried():
                self.others += self._counted(event.spent)
                self._move(event, event.rows, ItemState.NEW)
                self._count(self._retries, event.rows)
                self._forget(event.rows)
            case Cancelled():
                self.others += self._counted(event.spent)
                self._move(event, event.rows, ItemState.NEW)
                self._count(self._cancels, event.rows)
                self._forget(event.rows)
            case Resubmitted():
                self.others += self._counted(Spent(silent=event.rows))
                self._move(event, event.rows, ItemState.NEW)
                self._count(self._resubmits, event.rows)
                self._forget(event.rows)
            case PartWritten():
                self.results += self._counted(event.spent + Spent(silent=event.lost))
                self._lift_most_rows(event.succeeded)
                self._move(event, event.succeeded, ItemState.SUCCEEDED)
                self._move(event, event.failed, ItemState.FAILED)
                self._move(event, event.lost, ItemState.LOST)
                self._forget(event.rows)
                self.parts.append(event)
            case BatchIntended():
                self._move(event, event.batch, ItemState.INTENDED)
                self._remember(event)
                self.batches.add(event.batch)
            case BatchCreated() | BatchRefused():
                self._apply_answer(event)
            case _:
                assert_never(event)

    @property
    def reserved_in_all(self) -> Amount:
        """What all runs may take that have not said theirs."""
        return self.kept + self.reserved.total

    def _apply_answer(self, event: BatchCreated | BatchRefused) -> None:
        try:
            batch = self.batches.by_token(event.token)
        except LookupError:
            raise JournalError(f"There is no batch {event.token}.") from None
        if isinstance(event, BatchCreated):
            self._move(event, batch, ItemState.CREATED)
            self.batches.created(event.token, event.id)
            return
        rows = self.batches.rows_left(batch)
        if event.unusable:
            self.unusable_files.add(batch.file_id)
            self._count(self._refusals, rows)
        self._move(event, rows, ItemState.NEW)
        self._forget(rows)
        if event.most_rows is not None:
            is_halved = event.most_rows < batch.count
            self.queue_refusals = 0 if is_halved else self.queue_refusals + 1
            self.most_rows = event.most_rows if is_halved else self.most_rows
        self.batches_again_at = event.until or self.batches_again_at

    def _lift_most_rows(self, succeeded: Sequence[int]) -> None:
        """Allow more again after a batch that went well: other batches may have left the queue."""
        batch = self.batches.of_row(succeeded[0]) if succeeded else None
        if batch is not None:
            self.queue_refusals = 0
            if self.most_rows is not None:
                self.good_rows = max(self.good_rows, batch.count)
                self.most_rows = max(self.most_rows, 2 * batch.count)

    def _move(self, event: Event, rows: Iterable[int], to: ItemState) -> None:
        allowed = _BEFORE.get(type(event))
        for row in rows:
            before = self.state(row)
            # A row that is not fit to be sent fails without a create.
            if before.is_final or (allowed is not None and before not in allowed):
                name = type(event).__name__
                raise JournalError(f"Row {row} is {before.name.lower()}, and cannot be in {name}.")
            if row >= len(self._states):
                self._grow(row)
            self._states[row] = to

    def _grow(self, row: int) -> None:
        # More than is needed: rows come one after another.
        missing = max(row + 1, 2 * len(self._states)) - len(self._states)
        for column in (self._states, self._retries, self._resubmits, self._cancels, self._refusals):
            column.extend(bytes(missing))

    def _count(self, column: bytearray, rows: Iterable[int]) -> None:
        for row in rows:
            column[row] = min(column[row] + 1, 255)

    def _counted(self, spent: Spent) -> Totals:
        """Return what runs have said, before their rows move; what the others may have taken is kept."""
        silent = [row for row in spent.silent if self.state(row) in _HAS_RUN]
        for row in silent:
            self.kept += self.reserved[row]
        return Totals(usage=spent.usage, cost=spent.cost, silent=len(silent))

    def _remember(self, event: Intended | BatchIntended) -> None:
        self.custom_ids |= event.custom_ids
        self.asked |= event.asked
        self.reserved.update(event.reserved)

    def _forget(self, rows: Sequence[int]) -> None:
        self.batches.leave(rows)
        for row in rows:
            for known in (self.runs, self.custom_ids, self.asked):
                known.pop(row, None)
            self.reserved.pop(row)
