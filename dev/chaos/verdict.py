# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a trial: runs twice, orphaned, wrongly cancelled; a failure for good. Unix seconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import combinations
from math import inf
from typing import Any

SECONDS_TO_END = 30.0
"""How long after its task instance a run may go on before it counts as an orphan."""
SECONDS_TO_HEAR_OF_A_CLEAR = 10.0
"""A worker hears of it with one of its heartbeats, and creates for the generation before until then."""


@dataclass(frozen=True, slots=True)
class Run:
    """
    A run as the simulator knows it; ``ended_at`` is None while it is active.

    :param answers: the response whose calls it answers; with that one it counts as one run.
    :param item: the number of the item of a bulk task; ``token`` is of its create, or of that of a batch.
    :param executed: how many items of a batch were executed with success.
    """

    id: str
    status: str
    created_at: float
    ended_at: float | None
    answers: str | None = None
    item: str | None = None
    token: str | None = None
    executed: int = 0

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Run:
        """Read one entry of ``/simulator/runs``."""
        previous = value.get("previous_response_id")
        about = value["metadata"] or {}
        return cls(
            value["id"],
            value["status"],
            value["created_at"],
            value["ended_at"],
            previous,
            item=about.get("item"),
            token=about.get("airflow_token"),
            executed=value.get("completed", 0),
        )

    @property
    def created_by(self) -> str:
        """The part of its token that all runs of one generation share."""
        return (self.token or "").partition("/")[0]

    def was_alive_at(self, moment: float) -> bool:
        """Tell whether it was paid for at that moment."""
        return self.created_at <= moment and (self.ended_at is None or self.ended_at > moment)


@dataclass(slots=True)
class History:
    """
    What was done to a task instance.

    :param clears: when it was cleared; between two clears is a generation.
    :param excused_from: from when on a run may have been cancelled: it was marked, or its time was over.
    :param ended_at: when it was seen ended or deleted.
    :param announced: whether its log says that a run may go on, by policy.
    """

    clears: list[float] = field(default_factory=list)
    excused_from: float = inf
    ended_at: float | None = None
    announced: bool = False

    @property
    def was_ended_by_user(self) -> bool:
        """Whether it, or its Dag run, was marked: from then on, a run may have been cancelled for ever."""
        return self.excused_from < inf

    def generation(self, moment: float) -> int:
        """Count the clears up to a moment."""
        return sum(clear <= moment for clear in self.clears)

    def are_of_one_generation(self, first: Run, second: Run) -> bool:
        """Whether both were created between two clears, neither by a worker that had not heard of one."""
        if self.generation(first.created_at) != self.generation(second.created_at):
            return False
        is_late = any(0 <= first.created_at - clear < SECONDS_TO_HEAR_OF_A_CLEAR for clear in self.clears)
        return not is_late or first.created_by == second.created_by


def duplicates(history: History, runs: list[Run]) -> list[str]:
    """Name the runs of one generation that were created while another one lived or was complete."""
    before = {run.id: run.answers for run in runs}

    def goes_on_from(run: Run, other: Run) -> bool:
        earlier = run.answers
        while earlier not in {None, other.id}:
            earlier = before.get(earlier)
        return earlier is not None

    return [
        f"{second.id} was created while {first.id} of the same generation was alive or completed"
        for first, second in combinations(sorted(runs, key=lambda run: run.created_at), 2)
        if history.are_of_one_generation(first, second)
        and (first.was_alive_at(second.created_at) or first.status == "completed")
        and not (goes_on_from(second, first) and not first.was_alive_at(second.created_at))
    ]


def orphans(history: History, runs: list[Run], now: float) -> list[str]:
    """Name the runs that go on although their task instance, or its generation, is over."""
    if history.announced:
        return []
    found = []
    for run in runs:
        over = next((clear for clear in history.clears if clear > run.created_at), history.ended_at)
        if over is not None and run.ended_at is None and now > over + SECONDS_TO_END:
            found.append(f"{run.id} is {run.status}, {now - over:.0f} s after the end of its task")
    return found


def wrongly_cancelled(history: History, runs: list[Run]) -> list[str]:
    """
    Name the runs that were cancelled although nothing was done that would call for it.

    Those of a generation that a clear has ended may be cancelled whenever that is possible again.
    """
    return [
        f"{run.id} was cancelled {run.ended_at - run.created_at:.1f} s after it was created"
        for run in runs
        if run.status == "cancelled"
        and run.ended_at is not None
        and run.ended_at < history.excused_from
        and history.generation(run.created_at) == history.generation(run.ended_at)
    ]


def failed_for_good(
    state: str | None, *, expected: Collection[str], attempts: int, retries: int
) -> list[str]:
    """Say that a task failed that was to succeed, although Airflow could have tried once more."""
    if state != "failed" or "failed" in expected or attempts > retries:
        return []
    return [f"failed at attempt {attempts} of {retries + 1}"]
