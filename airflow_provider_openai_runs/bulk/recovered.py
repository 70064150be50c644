# SPDX-License-Identifier: Apache-2.0
"""
What a journal tells to somebody who cannot ask Airflow how much of it is committed.

All but the last segment of an attempt certainly is: one segment is under way at a time. What the last one
says has happened, too; only a later attempt that has not known of it may contradict it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from airflow_provider_openai_runs.bulk.events import (
    Cancelled,
    Created,
    Event,
    JournalError,
    NewRun,
    PartWritten,
    Retried,
)
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.journal_lines import from_lines
from airflow_provider_openai_runs.bulk.storage import JOURNAL, StorageFolder

#: The segments of one attempt, each a list of events.
Segments = Sequence[Sequence[Event]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """
    The items of a task.

    :param others: runs that may be going, too, and that the items do not know of: an attempt has named them
        in a segment without a commit.
    """

    items: Items
    others: tuple[NewRun, ...] = ()


def read_journal(folder: StorageFolder) -> list[Segments]:
    """
    Return the segments of each attempt, the attempts in their order.

    :raises JournalError: if one cannot be read that is certainly committed.
    """
    # The id of a task instance begins with the time of its attempt.
    return [[*_segments(folder, writer)] for writer in folder.names(JOURNAL)]


def recover(writers: Sequence[Segments]) -> Recovered:
    """
    Fold the segments of all attempts.

    :raises JournalError: if they contradict each other whichever last ones are left out.
    """
    wrong = JournalError("There is no journal.")
    tails = [number for number, segments in enumerate(writers) if segments]
    # An earlier one first: had it been committed, the later attempt would know of it.
    for count in range(len(tails) + 1):
        for left_out in combinations(tails, count):
            try:
                items = Items.of(_events(writers, left_out))
            except JournalError as error:
                wrong = error
                continue
            known = {run.id for run in items.runs.values()}
            others = tuple(run for run in _active(_events(writers)) if run.id not in known)
            return Recovered(items=items, others=others)
    raise wrong


def _events(writers: Sequence[Segments], left_out: Iterable[int] = ()) -> Iterator[Event]:
    for number, segments in enumerate(writers):
        for segment in segments[:-1] if number in left_out else segments:
            yield from segment


def _active(events: Iterable[Event]) -> list[NewRun]:
    """Return every run whose end no event tells, also where two attempts have not known of each other."""
    runs: dict[str, NewRun] = {}
    latest: dict[int, str] = {}
    ended: set[str] = set()
    for event in events:
        match event:
            case Created():
                runs |= {run.id: run for run in event.runs}
                latest |= {run.row: run.id for run in event.runs}
            case Retried() | Cancelled():
                # The one that its attempt knew; two attempts may say it of the same run.
                ended.update(latest[row] for row in event.rows if row in latest)
            case PartWritten():
                rows = (*event.succeeded, *event.failed)
                ended.update(latest[row] for row in rows if row in latest)
    return [run for run in runs.values() if run.id not in ended]


def _segments(folder: StorageFolder, writer: str) -> Iterator[list[Event]]:
    names = [name for name in folder.names(JOURNAL, writer) if name.endswith(".jsonl")]
    for number, name in enumerate(names, start=1):
        try:
            yield from_lines(folder.read(JOURNAL, writer, name))
        except JournalError as error:
            if number < len(names):
                raise JournalError(f"{JOURNAL}/{writer}/{name} cannot be read: {error}") from None
