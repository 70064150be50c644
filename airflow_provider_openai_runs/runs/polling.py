# SPDX-License-Identifier: Apache-2.0
"""
After each poll of a run: poll again, and when, or finish, and with what outcome.

The trigger, the operator that waits in its worker, the sensors and the tests all drive this one object, so
that they cannot drift apart. It does no I/O and knows no clock; times are Unix seconds by our own clock and
are passed in. Two rules must not be relaxed: poll first and check the time after (a run found completed has
won, whatever the clock says), and no network failure ends a paid, healthy run.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from airflow_provider_openai_runs.runs.budgets import (
    FIRST_REMINDER,
    INTERVAL_BOUNDS,
    NEXT_REMINDER,
    NOT_FOUND_GRACE,
    PERMANENT_FAILURE_BUDGET,
    SERVER_HINT_BOUNDS,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.times import utc
from airflow_provider_openai_runs.runs.tracked import TrackedRun


class Outcome(StrEnum):
    """How a wait came to its end."""

    #: The run is in a terminal status.
    ENDED = "ended"
    #: The model waits for the answer to a call.
    NEEDS_ACTION = "needs_action"
    #: The completion window is over.
    WINDOW_OVER = "window_over"
    #: The task's own execution_timeout is over.
    EXECUTION_TIMEOUT = "execution_timeout"
    #: The run is in one of the statuses that were waited for.
    REACHED = "reached"
    #: For too long every poll was refused, or the run was unknown.
    UNREACHABLE = "unreachable"


class Note(NamedTuple):
    """A line for the log, and its level, a number of ``logging``."""

    level: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PollAgain:
    """Poll again after ``seconds``; with ``refresh_connection``, read the connection anew before."""

    seconds: float
    notes: tuple[Note, ...] = ()
    refresh_connection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The wait is over. ``failure`` is the last one, where the outcome is ``UNREACHABLE``."""

    outcome: Outcome
    notes: tuple[Note, ...] = ()
    polled: PollResult | None = None
    failure: RequestFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitLimits:
    """
    When to stop and how often to poll. All times are Unix seconds.

    :param created_at: when the create returned, by our clock; the interval grows with the age.
    :param deadline: the end of the completion window; None waits without an end.
    :param attempt_deadline: start of the attempt + execution_timeout, which Airflow 3 does not enforce
        while a task is deferred.
    :param poll_interval: a fixed interval in seconds; None lets it grow with the run's age.
    :param not_found_grace_until: until then, a 404 means that the run is not visible yet.
    :param targets: raw statuses, one of which ends the wait. With any given, a run that
        needs action is waited for all the same: somebody else answers.
    """

    created_at: float
    deadline: float | None = None
    attempt_deadline: float | None = None
    poll_interval: float | None = None
    not_found_grace_until: float = 0.0
    targets: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, run: TrackedRun, *, poll_interval: float | None = None, targets: frozenset[str] = frozenset()
    ) -> WaitLimits:
        """Return the limits of a wait for ``run``, of whose creation its server may not know yet."""
        created_at = run.created_at or 0.0
        return cls(
            created_at=created_at,
            deadline=run.deadline,
            attempt_deadline=run.attempt_deadline,
            poll_interval=poll_interval,
            not_found_grace_until=created_at + NOT_FOUND_GRACE,
            targets=targets,
        )


class PollPolicy:
    """One wait for one run: give it every poll result and every failure, and do as it says."""

    def __init__(
        self, limits: WaitLimits, *, started_at: float, jitter: Callable[[], float] = random.random
    ) -> None:
        self._limits = limits
        self._jitter = jitter
        self._raw_status: str | None = None
        self._last_good_poll = started_at
        self._denied_since: float | None = None
        self._failures = 0
        self._last_failure: tuple[float, RequestFailure] | None = None
        self._next_reminder = started_at + FIRST_REMINDER

    def on_result(self, polled: PollResult, *, now: float) -> PollAgain | Done:
        """Decide after a poll that succeeded."""
        notes = self._notes_of(polled, now)
        self._last_good_poll = now
        self._denied_since = None
        self._failures = 0
        if polled.raw_status in self._limits.targets:
            return Done(outcome=Outcome.REACHED, notes=notes, polled=polled)
        if polled.needs_action and not self._limits.targets:
            return Done(outcome=Outcome.NEEDS_ACTION, notes=notes, polled=polled)
        if polled.status.is_terminal:
            return Done(outcome=Outcome.ENDED, notes=notes, polled=polled)
        if over := self._time_is_over(now):
            return Done(outcome=over, notes=notes, polled=polled)
        wait = self._until_next_poll(polled.poll_after, now)
        return PollAgain(seconds=wait, notes=(*notes, *self._reminder(now)))

    def on_error(self, failure: RequestFailure, *, now: float) -> PollAgain | Done:
        """Decide after a poll that failed."""
        not_visible_yet = failure.kind is FailureKind.NOT_FOUND and now <= self._limits.not_found_grace_until
        retryable = failure.is_transient or not_visible_yet
        self._failures += 1
        if not retryable and self._denied_since is None:
            # Not counted from the last good poll: after a long outage a refused key deserves a new one, too.
            self._denied_since = now
        self._last_failure = now, failure
        began = Note(logging.WARNING, f"Could not poll the run, going on: {failure}")
        notes = () if self._failures > 1 else (began,)
        if over := self._time_is_over(now):
            return Done(outcome=over, notes=notes, failure=failure)
        denied_for = 0.0 if self._denied_since is None else now - self._denied_since
        # Whoever watches a run that nobody has ever seen has its id wrong.
        unknown = bool(self._limits.targets) and self._raw_status is None and failure.says_gone
        if not retryable and (unknown or denied_for >= PERMANENT_FAILURE_BUDGET):
            return Done(outcome=Outcome.UNREACHABLE, notes=notes, failure=failure)
        backoff = min(2.0 ** min(self._failures - 1, 10), INTERVAL_BOUNDS[1]) * (0.75 + self._jitter() / 2)
        wait = backoff if failure.retry_after is None else max(backoff, _clamp(failure.retry_after))
        return PollAgain(
            seconds=self._not_past_the_end(wait, now),
            notes=(*notes, *self._reminder(now)),
            refresh_connection=not retryable,
        )

    def _reminder(self, now: float) -> tuple[Note, ...]:
        """Say of a long wait, rarely, that it goes on."""
        if now < self._next_reminder:
            return ()
        self._next_reminder = now + NEXT_REMINDER
        age = f"{(now - self._limits.created_at) / 60:.0f} min old, " if self._limits.created_at else ""
        ends = self._ends()
        until = f"waiting until {utc(min(ends))}" if ends else "waiting without an end"
        failed = "no poll has failed"
        if self._last_failure is not None:
            at, failure = self._last_failure
            failed = f"the last poll that failed, {(now - at) / 60:.0f} min ago: {failure}"
        return (Note(logging.INFO, f"Still {self._raw_status or 'unseen'}, {age}{until}; {failed}"),)

    def _notes_of(self, polled: PollResult, now: float) -> tuple[Note, ...]:
        notes = []
        if self._failures:
            gap = now - self._last_good_poll
            again = f"The run answers again after {self._failures} failed polls in {gap:.0f} s"
            notes.append(Note(logging.INFO, again))
        if polled.raw_status != self._raw_status:
            change = f"Status {self._raw_status or 'unseen'} -> {polled.raw_status}"
            if polled.status is RunStatus.UNKNOWN:
                unknown = f"{change} (a status unknown to this package; it counts as active)"
                notes.append(Note(logging.WARNING, unknown))
            else:
                notes.append(Note(logging.INFO, change))
            self._raw_status = polled.raw_status
        return tuple(notes)

    def _time_is_over(self, now: float) -> Outcome | None:
        limits = self._limits
        if limits.deadline is not None and now >= limits.deadline:
            return Outcome.WINDOW_OVER
        if limits.attempt_deadline is not None and now >= limits.attempt_deadline:
            return Outcome.EXECUTION_TIMEOUT
        return None

    def _until_next_poll(self, server_hint: float | None, now: float) -> float:
        if server_hint is not None:
            wait = _clamp(server_hint)
        elif self._limits.poll_interval is not None:
            wait = self._limits.poll_interval
        else:
            low, high = INTERVAL_BOUNDS
            age = max(0.0, now - self._limits.created_at)
            # Only ever shorter than a tenth of the age: the lag after the end stays below ten percent.
            wait = max(low, min(age / 10, high) * (1 - self._jitter() / 10))
        return self._not_past_the_end(wait, now)

    def _not_past_the_end(self, wait: float, now: float) -> float:
        return max(0.0, min([wait, *(end - now for end in self._ends())]))

    def _ends(self) -> list[float]:
        return [end for end in (self._limits.deadline, self._limits.attempt_deadline) if end is not None]


def _clamp(seconds: float) -> float:
    low, high = SERVER_HINT_BOUNDS
    return min(max(float(math.ceil(seconds)), low), high) if math.isfinite(seconds) else high
