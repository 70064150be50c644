# SPDX-License-Identifier: Apache-2.0
"""
When the looks of one connection may leave: what one of them learns, all of them heed.

A 429 with ``Retry-After`` is meant for everybody who uses the key, and a server that does not answer one wait
answers none. A look that must not leave fails at once, with the time at which to come back, so that its wait
stays in charge of its own deadline. No I/O, and no clock: times are seconds of a monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.polling import INTERVAL_BOUNDS, SERVER_HINT_BOUNDS

#: So many calls in a row without an answer mean that the server is away, not that one run is stuck.
_AWAY_AFTER = 10
#: Seconds between two looks that ask whether it is back.
_LONGEST_PAUSE = 10.0


class Pace:
    """Holds looks back while the server wants it, or cannot be reached, and lets them go one by one after."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._last: RequestFailure | None = None
        #: Since when looks are held back, if they are.
        self._since: float | None = None
        #: What the server has asked for.
        self._not_before = 0.0
        self._unanswered = 0
        self._next_question = 0.0

    def hold(self, now: float) -> RequestFailure | None:
        """Return why a look must not leave now, and when its wait should try again; None lets it go."""
        is_away = self._unanswered >= _AWAY_AFTER
        until = max(self._not_before, self._next_question if is_away else 0.0)
        if now < until and self._last is not None:
            self._since = now if self._since is None else self._since
            # Those that were held back leave over as long a time as it took them to gather.
            spread = min(until - self._since, INTERVAL_BOUNDS[1])
            return RequestFailure(
                kind=self._last.kind,
                text=f"{self._last.text} (said to another look; this one was held back)",
                http_status=self._last.http_status,
                retry_after=until - now + self._jitter() * spread,
            )
        if is_away:
            # This one asks whether the server is back; the others wait for what it hears.
            doublings = min(self._unanswered - _AWAY_AFTER, 10)
            self._next_question = now + min(2.0**doublings, _LONGEST_PAUSE)
        return None

    def on_answer(self, now: float) -> None:
        """Note an answer of any kind but those that mean trouble for all."""
        self._unanswered = 0
        if now >= self._not_before:
            # An answer to a look that left before the server asked for patience does not end it.
            self._since = None

    def on_error(self, failure: RequestFailure, now: float) -> None:
        """Note a call that failed."""
        if not failure.is_transient:
            self.on_answer(now)
            return
        self._last = failure
        self._unanswered += 1
        if failure.kind is FailureKind.RETRY_LATER and failure.retry_after is not None:
            self._not_before = max(self._not_before, now + min(failure.retry_after, SERVER_HINT_BOUNDS[1]))
