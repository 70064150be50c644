# SPDX-License-Identifier: Apache-2.0
"""Whoever reads a journal without its commits finds every run that may be going, and no result twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.bulk.events import (
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
)
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.recovered import recover

ROWS = 6


def _run(row: int, name: str) -> NewRun:
    return NewRun(row=row, id=name, created_at=0.0)


@dataclass
class Task:
    """Attempts that create, end and die at random; the last segment of each may be without a commit."""

    random: random.Random
    writers: list[list[list[Event]]] = field(default_factory=list)
    committed: list[Event] = field(default_factory=list)
    going: set[str] = field(default_factory=set)
    count: int = 0

    def attempt(self) -> None:
        items = Items.of(self.committed)
        segments: list[list[Event]] = []
        self.writers.append(segments)
        for lost in [*items.rows(ItemState.INTENDED)]:
            # What the attempt before has left: it cannot know more.
            events: list[Event] = [Resubmitted(rows=(lost,)), self._part(lost=(lost,))]
            self._commit(items, segments, [self.random.choice(events)])
        for _ in range(self.random.randrange(4)):
            self._commit(items, segments, self._segment())
        if self.random.random() < 0.6:
            segments.append(self._segment())  # and the worker dies before the commit

    def _commit(self, items: Items, segments: list[list[Event]], events: list[Event]) -> None:
        for event in events:
            items.apply(event)
        self.committed += events
        segments.append(events)

    def _segment(self) -> list[Event]:
        before, tried = Items.of(self.committed), Items.of(self.committed)
        events: list[Event] = []
        for _ in range(self.random.randint(1, 4)):
            row = self.random.randrange(ROWS)
            # A create leaves after its intent is committed, and not before.
            is_waiting = (
                tried.state(row) is ItemState.INTENDED and before.state(row) is not ItemState.INTENDED
            )
            event = None if is_waiting else self._event(tried, row)
            if event is not None:
                tried.apply(event)
                events.append(event)
        return events

    def _event(self, items: Items, row: int) -> Event | None:
        match items.state(row):
            case ItemState.NEW:
                return Intended(rows=(row,))
            case ItemState.INTENDED if self.random.random() < 0.2:
                return NotAccepted(rows=(row,))
            case ItemState.INTENDED:
                self.count += 1
                self.going.add(f"resp_{self.count}")
                return Created(runs=(_run(row, f"resp_{self.count}"),))
            case ItemState.CREATED:
                self.going.discard(items.runs[row].id)
                if self.random.random() < 0.5:
                    return self._part(succeeded=(row,))
                return Retried(rows=(row,)) if self.random.random() < 0.5 else Cancelled(rows=(row,))
            case _:
                return None

    def _part(self, **rows: tuple[int, ...]) -> PartWritten:
        self.count += 1
        return PartWritten(name=f"part-{self.count}", **rows)  # type: ignore[arg-type]  # rows by their fate


@given(seed=st.integers(min_value=0, max_value=10**9), attempts=st.integers(min_value=1, max_value=5))
def test_every_run_that_may_be_going_is_found_and_no_row_is_in_two_parts(seed: int, attempts: int) -> None:
    task = Task(random.Random(seed))  # noqa: S311 # a test's
    for _ in range(attempts):
        task.attempt()
    found = recover(task.writers)
    runs = {run.id for run in (*found.items.runs.values(), *found.others)}
    assert task.going <= runs
    rows = Counter(row for part in found.items.parts for row in part.rows)
    assert all(count == 1 for count in rows.values())


def test_a_run_of_an_item_that_a_later_attempt_took_for_lost_is_not_forgotten() -> None:
    first: list[list[Event]] = [[Intended(rows=(0,))], [Created(runs=(_run(0, "a"),))]]
    second: list[list[Event]] = [[PartWritten(name="p", lost=(0,))]]
    found = recover([first, second])
    assert [run.id for run in found.others] == ["a"]
    assert found.items.state(0) is ItemState.LOST


def test_a_journal_that_contradicts_itself_is_an_error() -> None:
    with pytest.raises(JournalError):
        recover([[[Created(runs=(_run(0, "a"),))], [Intended(rows=(1,))]]])


def test_a_task_that_has_written_nothing_has_no_items() -> None:
    assert recover([]).items.end == 0
