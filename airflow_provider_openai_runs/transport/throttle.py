# SPDX-License-Identifier: Apache-2.0
"""
When the polls of one connection may leave: what one of them learns, all of them heed.

A 429 with ``Retry-After`` is meant for everybody who uses the key, and a server that does not answer one wait
answers none. A poll that must not leave fails at once, with the time at which to come back, so that its wait
stays in charge of its own deadline. No I/O, and no clock: times are seconds of a monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from airflow_provider_openai_runs.runs.budgets import INTERVAL_BOUNDS, SERVER_HINT_BOUNDS
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure

#: So many requests in a row without an answer open the circuit: the server is down, not one run stuck.
_OPEN_AFTER = 10
#: Seconds between two probes that ask whether it is back.
_LONGEST_PAUSE = 10.0


class Throttle:
    """
    Refuses polls while the server asked to wait, or is down, and admits them one by one after.

    :param jitter: returns a number between 0 and 1.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._last: RequestFailure | None = None
        #: Since when polls are refused, if they are.
        self._since: float | None = None
        #: What the server has asked for.
        self._not_before = 0.0
        self._unanswered = 0
        self._next_probe = 0.0

    def admit(self, now: float) -> RequestFailure | None:
        """Return None to let a poll leave; else why it must not, and when its wait should try again."""
        is_open = self._unanswered >= _OPEN_AFTER
        until = max(self._not_before, self._next_probe if is_open else 0.0)
        if now < until and self._last is not None:
            self._since = now if self._since is None else self._since
            # Those that were refused leave over as long a time as it took them to gather.
            spread = min(until - self._since, INTERVAL_BOUNDS[1])
            return RequestFailure(
                kind=self._last.kind,
                text=f"{self._last.text} (the answer to another poll; this one was not sent)",
                http_status=self._last.http_status,
                retry_after=until - now + self._jitter() * spread,
            )
        if is_open:
            # This one is the probe; the others wait for what it hears.
            doublings = min(self._unanswered - _OPEN_AFTER, 10)
            self._next_probe = now + min(2.0**doublings, _LONGEST_PAUSE)
        return None

    def on_answer(self, now: float) -> None:
        """Note an answer of any kind but those that mean a failure for all."""
        self._unanswered = 0
        if now >= self._not_before:
            # An answer to a poll that left before the server asked to wait does not end it.
            self._since = None

    def on_failure(self, failure: RequestFailure, now: float) -> None:
        """Note a request that failed."""
        if not failure.is_transient:
            self.on_answer(now)
            return
        self._last = failure
        self._unanswered += 1
        if failure.kind is FailureKind.RETRY_LATER and failure.retry_after is not None:
            self._not_before = max(self._not_before, now + min(failure.retry_after, SERVER_HINT_BOUNDS[1]))
