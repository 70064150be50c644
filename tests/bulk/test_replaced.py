# SPDX-License-Identifier: Apache-2.0
"""
An attempt of a bulk task goes on although a later one has taken over: which of them has a run.

In virtual time, with the production driver. What the later one knows of is its own; all else has to be ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from airflow_provider_openai_runs.bulk.commands import Send, Sent
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.driver import DriveEnd
from airflow_provider_openai_runs.bulk.events import (
    Created,
    Event,
    Intended,
    NewRun,
)
from airflow_provider_openai_runs.bulk.journal import Journal
from airflow_provider_openai_runs.bulk.journal_lines import to_lines
from airflow_provider_openai_runs.runs.end_of_attempt import TaskState
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.status import RunStatus
from tests.bulk.test_driver_machine import (
    ROWS,
    START,
    Cluster,
    FakeIO,
    Luck,
    Named,
    ServerRun,
    Store,
    VirtualLoop,
    World,
    run,
)

LATER = "ti-9"
GOES_ON, ENDED = RunStatus.IN_PROGRESS, RunStatus.CANCELLED


@dataclass
class LateStore(Store):
    """One of its answers comes a minute late, and a later attempt has begun meanwhile."""

    late: int = 0

    def save(self, value: Any) -> None:
        self.late -= 1
        if self.late == 0:
            cast("VirtualLoop", asyncio.get_running_loop()).now += 60
            self.world.owner = LATER
        super().save(value)


@dataclass
class SlowIO(FakeIO):
    """Its runs go on for ever, and some things take seconds."""

    #: By its token, how long the answer to a create takes; by its row, how long a cancel takes.
    creates: dict[str, float] = field(default_factory=dict)
    cancels: dict[int, float] = field(default_factory=dict)
    #: By its number, how long it takes until a segment is written.
    commits: dict[int, float] = field(default_factory=dict)
    late: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.store = self.journal.store = LateStore(self.world, self.writer, late=self.late)

    async def create(self, command: Send) -> Sent:
        sent = await super().create(command)
        for created in self.world.runs.values():
            if created.ends_as is RunStatus.COMPLETED:
                created.ends_at = float("inf")
        await asyncio.sleep(self.creates.get(command.token, 0.0))
        return sent

    async def cancel(self, run: NewRun) -> Run | RequestFailure:
        await asyncio.sleep(self.cancels.get(run.row, 0.0))
        return await super().cancel(run)

    async def commit(self, events: tuple[Event, ...]) -> None:
        await asyncio.sleep(self.commits.get(self.journal.segments + 1, 0.0))
        await super().commit(events)


def _replaced(
    world: World,
    *,
    after: float,
    attempts: int = 0,
    max_active: int = 2,
    io_type: type[SlowIO] = SlowIO,
    **slow: Any,
) -> dict[int, RunStatus]:
    """Let an attempt be replaced after some seconds, and return what its runs have become."""

    async def live() -> None:
        cluster = Cluster(world, Limits(max_active=max_active, max_unrecorded=max_active), Named())
        cluster.io_type, cluster.attempts = partial(io_type, **slow), attempts
        asyncio.get_running_loop().call_later(after, setattr, world, "owner", LATER)
        assert await cluster.attempt(Luck([]), may_die=False, replaced_after=None) == DriveEnd.REPLACED

    run(live())
    return {created.row: created.status for created in world.runs.values()}


def test_it_hands_over_what_it_has_written_in_time_and_ends_what_is_answered_later() -> None:
    assert _replaced(World([]), after=0.5, creates={"1.0": 8}) == {0: GOES_ON, 1: ENDED}


def test_it_ends_what_it_has_written_too_late_for_the_later_one_to_read() -> None:
    assert _replaced(World([]), after=0.5, commits={2: 8}) == {0: ENDED, 1: ENDED}


def test_it_hands_over_what_it_has_written_in_time_also_if_it_hears_of_it_a_minute_later() -> None:
    assert _replaced(World([]), after=0.5, late=2) == {0: GOES_ON, 1: GOES_ON}


def test_it_leaves_alone_what_it_has_itself_found_in_an_earlier_attempts_folder() -> None:
    world = World([], owner="ti-1")
    journal = Journal(folder=world, store=Store(world, "ti-1"), generation=0, writer="ti-1")
    journal.load()
    journal.commit([Intended(rows=(0, 1))])
    for row in (0, 1):
        world.runs[f"resp_{row}"] = ServerRun(
            id=f"resp_{row}", row=row, token=f"{row}.0", ends_at=float("inf"), ends_as=RunStatus.COMPLETED
        )
    found = tuple(NewRun(row=row, id=f"resp_{row}", created_at=START) for row in (0, 1))
    world.write(to_lines([Created(runs=found)]), "journal", "ti-1", "000002.jsonl")
    assert _replaced(world, after=6, attempts=1, commits={1: 8}) == {0: GOES_ON, 1: GOES_ON}


def test_it_ends_the_run_of_a_row_in_its_retry_that_is_answered_later() -> None:
    world = World([RunStatus.FAILED])
    found = _replaced(world, after=20, max_active=ROWS, creates={"0.1": 30})
    assert found.pop(0) is ENDED
    assert {*found.values()} == {GOES_ON}


def test_it_ends_all_of_a_task_that_was_cleared_also_if_the_next_attempt_has_begun() -> None:
    world = World([])

    class Io(SlowIO):
        async def task_state(self) -> TaskState:
            is_cleared = self.world.owner == LATER
            return TaskState("restarting" if is_cleared else "running")

    assert _replaced(world, after=4.5, io_type=Io, cancels={1: 3}) == {0: ENDED, 1: ENDED}
