# SPDX-License-Identifier: Apache-2.0
"""Which active runs are polled or cancelled next, and which requests of that kind are under way. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from airflow_provider_openai_runs.bulk.commands import Cancel, Poll, Polled, StopReason
from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.runs.budgets import PAUSE_AFTER_FAILURE
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.polling import Done, PollAgain

#: Reasons for which the runs that there are come to their end all the same.
_GOES_ON_POLLING = frozenset({None, StopReason.DENIED, StopReason.CEILING, StopReason.INPUT})


class Watch:
    """
    The polls and cancels of one attempt.

    :param polls: knows the deadline.
    :param cancels_at_deadline: end what is active then; else it is polled once more, and left.
    :param cancel_within: seconds without the end of a run after which no further cancel is sent.
    """

    def __init__(self, polls: Polls, *, cancels_at_deadline: bool, cancel_within: float, now: float) -> None:
        self._polls = polls
        self._cancels_at_deadline = cancels_at_deadline
        self._cancel_within = cancel_within
        self._cancels_again_at = now
        #: In Unix seconds, once there is something to end.
        self._cancels_until: float | None = None
        self._has_given_up = False
        self._under_way: set[int] = set()

    @property
    def is_busy(self) -> bool:
        """Whether an answer is to come."""
        return bool(self._under_way)

    def __len__(self) -> int:
        """How many runs are waited for."""
        return len(self._polls)

    def add(self, runs: Iterable[NewRun], *, now: float) -> None:
        """Wait for further runs; whatever became of earlier cancels, they can perhaps be ended."""
        runs = [*runs]
        self._polls.add(runs, now=now)
        if runs:
            self._cancels_until, self._has_given_up = None, False

    def forget(self, row: int) -> None:
        """Poll a run no more."""
        self._polls.forget(row)

    def time_is_over(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self._polls.time_is_over(now)

    def leaves(self, reason: StopReason | None) -> bool:
        """Whether what is active is left going once nothing more is to be read of it."""
        is_left_then = reason is StopReason.WINDOW_OVER and not self._cancels_at_deadline
        return reason is StopReason.DENIED or is_left_then or self._has_given_up

    def cancels(self, reason: StopReason | None) -> bool:
        """Whether what is active is ended."""
        return not (reason in _GOES_ON_POLLING or reason is StopReason.LEFT or self.leaves(reason))

    def due(
        self,
        reason: StopReason | None,
        runs: Mapping[int, NewRun],
        active: Callable[[], Iterable[NewRun]],
        *,
        now: float,
    ) -> Iterator[Poll | Cancel]:
        """
        Yield what is to be asked now; report what each brought.

        :param reason: why nothing more is created.
        :param runs: those that are waited for, by row.
        :param active: returns all that may be active.
        """
        if self.cancels(reason):
            if self._cancels_until is None:
                self._cancels_until = now + self._cancel_within
            if now >= self._cancels_until:
                self._give_up()
                return
            for run in active() if now >= self._cancels_again_at else ():
                if run.row not in self._under_way:
                    self._under_way.add(run.row)
                    yield Cancel(run=run)
        elif reason is not StopReason.LEFT:
            rows = self._polls.due(now) if reason in _GOES_ON_POLLING else self._polls.rows()
            rows = [row for row in rows if row not in self._under_way]
            self._under_way.update(rows)
            yield from (Poll(run=runs[row]) for row in rows)

    def on_polled(self, row: int, brought: Polled | RequestFailure, *, now: float) -> PollAgain | Done:
        """Decide what comes after a poll."""
        self._under_way.discard(row)
        result = brought if isinstance(brought, RequestFailure) else brought.result
        return self._polls.on_poll(row, result, now=now)

    def on_cancelled(self, row: int, *, has_ended: bool, now: float) -> None:
        """Take note of the answer to a cancel, which is sent again in a while unless the run has ended."""
        self._under_way.discard(row)
        if has_ended:
            self._cancels_until = now + self._cancel_within
        else:
            self._cancels_again_at = now + PAUSE_AFTER_FAILURE

    def _give_up(self) -> None:
        self._has_given_up = True
        for row in self._polls.rows():
            self.forget(row)
