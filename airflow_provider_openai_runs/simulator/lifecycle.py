# SPDX-License-Identifier: Apache-2.0
"""The statuses of a run over time: pure, without input, output or clock."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Status(StrEnum):
    """Every status that OpenAI documents for thread runs and responses."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    REQUIRES_ACTION = "requires_action"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


TERMINAL = frozenset(
    {Status.COMPLETED, Status.INCOMPLETE, Status.FAILED, Status.CANCELLED, Status.EXPIRED},
)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The moments (epoch seconds) at which a run changes status, those to come included.

    Nothing runs in the background: a status is looked up when somebody asks, so ten thousand waiting runs
    cost nothing. An event (cancel, submit) writes the future anew and never touches the past.
    """

    changes: tuple[tuple[float, str], ...]

    @classmethod
    def plan(cls, at: float, phases: Iterable[tuple[str, float]], ends: str) -> Timeline:
        """Pass through `phases` (status, seconds) from `at` on, then end as `ends`."""
        changes = []
        for status, seconds in phases:
            changes.append((at, status))
            at += seconds
        return cls((*changes, (at, ends)))

    def status(self, now: float) -> str:
        """Give the status at `now`."""
        return self.changes[self._index(now)][1]

    def since(self, now: float) -> float:
        """Give the moment at which the status of `now` began."""
        return self.changes[self._index(now)][0]

    def last(self, status: str, now: float) -> float | None:
        """Give the moment at which `status` was last entered up to `now`, None if it never was."""
        moments = [at for at, entered in self.changes[: self._index(now) + 1] if entered == status]
        return moments[-1] if moments else None

    def is_terminal(self, now: float) -> bool:
        """Tell whether the run has ended by `now`."""
        return self.status(now) in TERMINAL

    def ended_at(self, now: float) -> float | None:
        """Give the moment at which the run ended, None if it has not by `now`."""
        return self.since(now) if self.is_terminal(now) else None

    @property
    def ends_at(self) -> float:
        """The moment of the last change that is planned."""
        return self.changes[-1][0]

    def followed_by(self, now: float, future: Timeline) -> Timeline:
        """Keep the past up to `now` and let `future` replace the rest."""
        return Timeline((*self.changes[: self._index(now) + 1], *future.changes))

    def expiring(self, at: float) -> Timeline:
        """Let a run that has not ended by `at` expire then."""
        if self.ends_at < at and self.changes[-1][1] in TERMINAL:
            return self
        return Timeline((*(change for change in self.changes if change[0] < at), (at, Status.EXPIRED)))

    def _index(self, now: float) -> int:
        return max(bisect_right(self.changes, now, key=lambda change: change[0]) - 1, 0)
