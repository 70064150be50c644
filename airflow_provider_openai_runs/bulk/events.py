# SPDX-License-Identifier: Apache-2.0
"""What happened to the items of a bulk task; an item is named by the number of its row in the input."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.ceiling import Amount
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.usage import (
    Usage,
    amount_of,
    as_text,
    sum_of,
    sum_of_costs,
)


class JournalError(Exception):
    """A line of a journal that cannot be read; to skip it could mean to pay twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the price of a run goes by: the model, and the window or the tier, that were asked for."""

    model: str | None = None
    processing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """
    What the runs of some rows have said once they had ended.

    :param usage: their tokens.
    :param cost: of these; None where nobody knows a price of some of them.
    :param silent: rows whose run, if there was one, has said nothing.
    """

    usage: Usage | None = None
    cost: Decimal | None = Decimal(0)
    silent: tuple[int, ...] = ()

    @classmethod
    def of(cls, row: int, run: Run) -> Spent:
        """Return what the run of a row has said."""
        if run.usage is None or not run.usage.is_known:
            return cls(silent=(row,))
        return cls(usage=run.usage, cost=run.cost)

    @classmethod
    def sum(cls, of_runs: Collection[Spent]) -> Spent:
        """Return what all of them have said."""
        return cls(
            usage=sum_of(spent.usage for spent in of_runs),
            cost=sum_of_costs(spent.cost for spent in of_runs),
            silent=tuple(row for spent in of_runs for row in spent.silent),
        )

    def __add__(self, other: Spent) -> Spent:
        """Add what other runs have said."""
        return Spent.sum([self, other])

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored; what says nothing is left out."""
        usage = self.usage and self.usage.to_json()
        cost = as_text(self.cost) if usage and self.cost is not None else None
        values = {"usage": usage, "cost": cost, "silent": self.silent}
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Spent:
        """Read the stored form; an earlier version has written no cost, and nobody knows it."""
        usage = Usage.from_json(value.get("usage"))
        cost = amount_of(value.get("cost")) if usage else Decimal(0)
        return cls(usage=usage, cost=cost, silent=tuple(map(int, value.get("silent", ()))))


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRows:
    """Something that happened to these rows."""

    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intended:
    """
    Creates of these rows may be sent once this is committed.

    :param custom_ids: their labels, for an attempt that has not read the input yet.
    :param asked: what their price goes by, where there are prices.
    :param reserved: what their runs may take at most, where there is a ceiling.
    """

    rows: tuple[int, ...]
    custom_ids: Mapping[int, str] = field(default_factory=dict)
    asked: Mapping[int, Asked] = field(default_factory=dict)
    reserved: Mapping[int, Amount] = field(default_factory=dict)


class NotAccepted(OfRows):
    """The server has certainly not taken these creates, or they were not sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRuns(OfRows):
    """
    The runs of these rows have ended, and others are to take their place.

    :param spent: what they have said.
    """

    spent: Spent = field(default_factory=Spent)


class Retried(OfRuns):
    """The runs of these rows ended badly, and another one is to be created."""


class Cancelled(OfRuns):
    """The runs of these rows were ended with their attempt, and the next one creates others."""


class Resubmitted(OfRows):
    """Creates of these rows may have been accepted, and they may be sent again all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """
    The run of an item.

    :param created_at: when its create returned, in Unix seconds by our clock.
    """

    row: int
    id: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """These creates were answered with a run."""

    runs: tuple[NewRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWritten:
    """
    A file with the final word on some items is complete; one that no event names does not count.

    :param name: of the file, relative to the folder of results.
    :param succeeded: rows whose result is in it.
    :param failed: rows whose error is in it.
    :param lost: rows of which nobody knows whether a run was created.
    :param spent: of the runs in it.
    """

    name: str
    succeeded: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    spent: Spent = field(default_factory=Spent)

    @property
    def rows(self) -> tuple[int, ...]:
        """All items in the file."""
        return (*self.succeeded, *self.failed, *self.lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchIntended:
    """
    The create of a batch with these rows may be sent once this is committed.

    The others are those of ``Intended``.
    """

    batch: SentBatch
    custom_ids: Mapping[int, str] = field(default_factory=dict)
    asked: Mapping[int, Asked] = field(default_factory=dict)
    reserved: Mapping[int, Amount] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCreated:
    """The create of a batch was answered, or the batch was found by its token."""

    token: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRefused:
    """
    A batch was certainly not created, or was refused as a whole and executed nothing.

    :param most_rows: what the next ones may have at most, where it was too large for the account's queue.
    :param until: Unix seconds; no batch before that.
    :param unusable: whether that may be for its file: another one is uploaded in its place.
    """

    token: str
    most_rows: int | None = None
    until: float | None = None
    unusable: bool = False


Event = (
    Intended
    | Created
    | NotAccepted
    | Retried
    | Cancelled
    | Resubmitted
    | PartWritten
    | BatchIntended
    | BatchCreated
    | BatchRefused
)


def resolved(event: Event) -> tuple[int, ...]:
    """Return the rows that are no longer intended after an event."""
    match event:
        case Created():
            return tuple(run.row for run in event.runs)
        case NotAccepted() | Resubmitted():
            return event.rows
        case PartWritten():
            return event.lost
        case _:
            return ()


def merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return neighbours of the same kind as one event: a line for each of a hundred would be long to read."""
    merged: list[Event] = []
    for event in events:
        last = merged[-1] if merged else None
        if isinstance(event, Created) and isinstance(last, Created):
            merged[-1] = Created(runs=(*last.runs, *event.runs))
        elif isinstance(event, OfRuns) and isinstance(last, OfRuns) and type(event) is type(last):
            merged[-1] = type(event)(rows=(*last.rows, *event.rows), spent=last.spent + event.spent)
        elif isinstance(event, OfRows) and isinstance(last, OfRows) and type(event) is type(last):
            merged[-1] = type(event)(rows=(*last.rows, *event.rows))
        else:
            merged.append(event)
    return tuple(merged)
