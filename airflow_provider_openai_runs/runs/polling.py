# SPDX-License-Identifier: Apache-2.0
"""
After each look at a run: keep waiting, and how long, or finish, and with what outcome.

The trigger, the operator that waits in its worker, the sensors and the tests all drive this one object, so
that they cannot drift apart. It does no I/O and knows no clock; times are Unix seconds by our own clock and
are passed in. Two rules must not be relaxed: look first and judge time after (a run found completed has won,
whatever the clock says), and no trouble of the network ends a paid, healthy run.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_openai_runs.runs.failure import Trouble, TroubleKind
from airflow_provider_openai_runs.runs.model import Look
from airflow_provider_openai_runs.runs.status import RunStatus

#: A fresh run may be unknown to the replica that is asked; seen for up to 33 s.
NOT_FOUND_GRACE = 60.0
#: A refused key may be a rotation in progress: how long to go on without one good look.
PERMANENT_TROUBLE_PATIENCE = 300.0
#: No server may make us ask more often, or leave a finished run unnoticed for longer.
SERVER_HINT_BOUNDS = (1.0, 120.0)
#: Bounds of the interval that grows with the run's age.
INTERVAL_BOUNDS = (1.0, 30.0)


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
    #: For too long every look was refused, or the run was unknown.
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepWaiting:
    """Look again after ``seconds``; with ``reconnect``, read the connection anew before."""

    seconds: float
    notes: tuple[str, ...] = ()
    reconnect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The wait is over. ``trouble`` is the last one, where the outcome is ``UNREACHABLE``."""

    outcome: Outcome
    notes: tuple[str, ...] = ()
    look: Look | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitLimits:
    """
    When to stop and how often to look. All times are Unix seconds.

    :param created_at: when the create call returned, by our clock; the interval grows with the age.
    :param deadline: the end of the completion window; None waits without an end.
    :param attempt_deadline: start of the attempt + execution_timeout, which Airflow 3 does not enforce
        while a task is deferred.
    :param poll_interval: a fixed interval in seconds; None lets it grow with the run's age.
    :param not_found_grace_until: until then, a 404 means that the run is not visible yet.
    :param targets: statuses in the server's word, one of which ends the wait. With any given, a run that
        needs action is waited for all the same: somebody else answers.
    """

    created_at: float
    deadline: float | None = None
    attempt_deadline: float | None = None
    poll_interval: float | None = None
    not_found_grace_until: float = 0.0
    targets: frozenset[str] = frozenset()


class Waiting:
    """One wait for one run: feed it every look and every trouble, and do as it says."""

    def __init__(
        self, limits: WaitLimits, *, started_at: float, jitter: Callable[[], float] = random.random
    ) -> None:
        self._limits = limits
        self._jitter = jitter
        self._word: str | None = None
        self._last_good_look = started_at
        self._refused_since: float | None = None
        self._failures = 0

    def on_look(self, look: Look, *, now: float) -> KeepWaiting | Finish:
        """Decide after a look that succeeded."""
        notes = self._notes_of(look, now)
        self._last_good_look = now
        self._refused_since = None
        self._failures = 0
        if look.word in self._limits.targets:
            return Finish(outcome=Outcome.REACHED, notes=notes, look=look)
        if look.needs_action and not self._limits.targets:
            return Finish(outcome=Outcome.NEEDS_ACTION, notes=notes, look=look)
        if look.status.is_terminal:
            return Finish(outcome=Outcome.ENDED, notes=notes, look=look)
        if over := self._time_is_over(now):
            return Finish(outcome=over, notes=notes, look=look)
        return KeepWaiting(seconds=self._until_next_look(look.poll_after, now), notes=notes)

    def on_trouble(self, trouble: Trouble, *, now: float) -> KeepWaiting | Finish:
        """Decide after a look that failed."""
        not_visible_yet = trouble.kind is TroubleKind.NOT_FOUND and now <= self._limits.not_found_grace_until
        healable = trouble.is_transient or not_visible_yet
        self._failures += 1
        if not healable and self._refused_since is None:
            # Not counted from the last good look: after a long outage a refused key deserves a new one, too.
            self._refused_since = now
        notes = () if self._failures > 1 else (f"Trouble while looking at the run, going on: {trouble}",)
        if over := self._time_is_over(now):
            return Finish(outcome=over, notes=notes, trouble=trouble)
        refused_for = 0.0 if self._refused_since is None else now - self._refused_since
        # Whoever watches a run that nobody has ever seen has its id wrong.
        unknown = bool(self._limits.targets) and self._word is None and trouble.kind is TroubleKind.NOT_FOUND
        if not healable and (unknown or refused_for >= PERMANENT_TROUBLE_PATIENCE):
            return Finish(outcome=Outcome.UNREACHABLE, notes=notes, trouble=trouble)
        backoff = min(2.0 ** min(self._failures - 1, 10), INTERVAL_BOUNDS[1]) * (0.75 + self._jitter() / 2)
        wait = backoff if trouble.retry_after is None else max(backoff, _clamp(trouble.retry_after))
        return KeepWaiting(seconds=self._not_past_the_end(wait, now), notes=notes, reconnect=not healable)

    def _notes_of(self, look: Look, now: float) -> tuple[str, ...]:
        notes = []
        if self._failures:
            gap = now - self._last_good_look
            notes.append(f"The run answers again after {self._failures} failed looks in {gap:.0f} s")
        if look.word != self._word:
            unknown = " (a status unknown to this package; it counts as active)"
            notes.append(
                f"Status {self._word or 'unseen'} -> {look.word}"
                + (unknown if look.status is RunStatus.UNKNOWN else "")
            )
            self._word = look.word
        return tuple(notes)

    def _time_is_over(self, now: float) -> Outcome | None:
        limits = self._limits
        if limits.deadline is not None and now >= limits.deadline:
            return Outcome.WINDOW_OVER
        if limits.attempt_deadline is not None and now >= limits.attempt_deadline:
            return Outcome.EXECUTION_TIMEOUT
        return None

    def _until_next_look(self, server_hint: float | None, now: float) -> float:
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
        ends = [end for end in (self._limits.deadline, self._limits.attempt_deadline) if end is not None]
        return max(0.0, min([wait, *(end - now for end in ends)]))


def _clamp(seconds: float) -> float:
    low, high = SERVER_HINT_BOUNDS
    return min(max(seconds, low), high)
