# SPDX-License-Identifier: Apache-2.0
"""
When each of thousands of runs is polled next: the earliest first, all of them within one budget.

Each run follows its own ``PollPolicy``, but no more often than its share of the budget allows. No I/O and no
clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.failed_polls import FailedPolls
from airflow_provider_openai_runs.runs.budgets import INTERVAL_BOUNDS, NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult
from airflow_provider_openai_runs.runs.polling import Done, PollAgain, PollPolicy, WaitLimits


class Polls:
    """
    The polls of all runs of a task.

    :param per_second: how many may be sent in a second, on average.
    :param deadline: of all runs, in Unix seconds.
    :param poll_interval: seconds between two polls of a run, where they are fixed.
    :ivar failed: for a line of the log.
    """

    def __init__(
        self, *, per_second: float, deadline: float | None, poll_interval: float | None = None
    ) -> None:
        self.failed = FailedPolls()
        self._per_second = per_second
        self._deadline = deadline
        self._poll_interval = poll_interval
        self._first = INTERVAL_BOUNDS[0] if poll_interval is None else min(poll_interval, INTERVAL_BOUNDS[0])
        self._policies: dict[int, PollPolicy] = {}
        self._due: list[tuple[float, int]] = []

    def __len__(self) -> int:
        """How many runs are waited for."""
        return len(self._policies)

    def add(self, runs: Iterable[NewRun], *, now: float) -> None:
        """
        Wait for further runs.

        The first poll, too, comes after the run's share of the budget; those of many at once in no burst.
        """
        for position, run in enumerate(runs):
            limits = WaitLimits(
                created_at=run.created_at,
                deadline=self._deadline,
                poll_interval=self._poll_interval,
                not_found_grace_until=run.created_at + NOT_FOUND_GRACE,
            )
            self._policies[run.row] = PollPolicy(limits, started_at=now)
            first = run.created_at + max(self._first, self._share)
            heapq.heappush(self._due, (max(first, now + position / self._per_second), run.row))

    @property
    def _share(self) -> float:
        """Seconds between two polls of a run, if all of them share the budget."""
        return len(self._policies) / self._per_second

    def rows(self) -> list[int]:
        """Return the rows of the runs that are waited for."""
        return [*self._policies]

    def time_is_over(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self._deadline is not None and now >= self._deadline

    def next_at(self) -> float | None:
        """Return when the next poll is due, in Unix seconds; None if nothing is waited for."""
        while self._due and self._due[0][1] not in self._policies:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def due(self, now: float) -> list[int]:
        """Return the rows to poll now; report what each poll brought."""
        rows = []
        while (at := self.next_at()) is not None and at <= now:
            rows.append(heapq.heappop(self._due)[1])
        return rows

    def on_poll(self, row: int, brought: PollResult | RequestFailure, *, now: float) -> PollAgain | Done:
        """Decide what comes after a poll; a run whose wait is over is forgotten."""
        self.failed.on_poll(brought)
        policy = self._policies[row]
        if isinstance(brought, RequestFailure):
            decision = policy.on_error(brought, now=now)
        else:
            decision = policy.on_result(brought, now=now)
        if isinstance(decision, Done):
            self.forget(row)
        else:
            heapq.heappush(self._due, (now + max(decision.seconds, self._share), row))
        return decision

    def forget(self, row: int) -> None:
        """Poll a run no more."""
        self._policies.pop(row, None)
