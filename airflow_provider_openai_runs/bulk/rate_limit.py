# SPDX-License-Identifier: Apache-2.0
"""
How many creates a bulk task may send now: its own limits, the server's, and what a 429 teaches.

No I/O and no clock; times are seconds of one clock, of whatever origin.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

#: The share of a minute's allowance that may be sent at once; more would be a burst that the server refuses.
_BURST = 1 / 30
#: After a refusal: the rate so far is halved, and grows again by so much a second.
_SLOWER = 0.5
_GROWTH = 1.05
#: The same where nothing was accepted before, so that no rate is known: the server was away.
_GROWTH_FROM_NOTHING = 2.0
#: Creates a second below which the rate so far tells nothing.
_NOTHING = 1.0
#: Creates a second from which on a refusal is forgotten.
_FORGOTTEN = 1_000.0
#: Without a word of the server, how long nothing is sent after a refusal; it doubles with each in a row.
_PAUSES = (1.0, 60.0)
#: One create may fail by chance; after so many in a row it is the server.
_CHANCES = 5
_MINUTE = 60.0
#: How fast the measured rate follows; the mean over about so many seconds.
_MEMORY = 10.0
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


class _Bucket:
    """A token bucket: so many a minute, and never more than a small burst at once."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self._level = self._size
        self._at: float | None = None

    @property
    def _size(self) -> float:
        return max(1.0, self.per_minute * _BURST)

    def available(self, now: float) -> float:
        """Return how much may be taken now."""
        if self._at is not None:
            self._level = min(self._size, self._level + (now - self._at) * self.per_minute / _MINUTE)
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        """Take some; what one item needs beyond the burst is paid back by waiting."""
        self._level -= amount


class RateLimit:
    """
    The creates of one task.

    :param requests_per_minute: that the user allows; None is without limit.
    :param tokens_per_minute: the same for the tokens of the requests, as they are estimated.
    """

    def __init__(
        self, *, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        self._requests = _Bucket(requests_per_minute) if requests_per_minute else None
        self._tokens = _Bucket(tokens_per_minute) if tokens_per_minute else None
        self._paused_until = -math.inf
        self._refusals = 0
        self._failures = 0
        #: Creates a second that were accepted lately, and that are allowed after a refusal.
        self._measured = 0.0
        self._allowed: float | None = None
        self._growth = _GROWTH
        self._allowance = 0.0
        self._at: float | None = None

    @property
    def counts_tokens(self) -> bool:
        """Whether the tokens of the requests matter."""
        return self._tokens is not None

    @property
    def is_probing(self) -> bool:
        """Whether creates fail one after another, so that the next one has to show first how it ends."""
        return self._failures >= _CHANCES

    def admit(self, now: float, *, tokens: float = 0.0) -> int:
        """
        Return how many creates may be sent now.

        :param tokens: what one of them takes, about.
        """
        self._pass(now)
        if now < self._paused_until:
            return 0
        room = math.inf if self._allowed is None else self._allowance
        if self._requests is not None:
            room = min(room, self._requests.available(now))
        if self._tokens is not None:
            available = self._tokens.available(now)
            room = min(room, max(available / tokens, float(available > 0)) if tokens else room)
        return max(0, int(min(room, 1_000_000)))

    def on_sent(self, count: int, *, tokens: float = 0.0) -> None:
        """
        Take note of creates that are sent.

        :param tokens: of all of them.
        """
        self._allowance -= count
        if self._requests is not None:
            self._requests.take(count)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def on_accepted(self, now: float, headers: Mapping[str, str]) -> None:
        """
        Take note of a create that was accepted.

        :param headers: under lower-case names; the server's ``x-ratelimit-*`` among them.
        """
        self._pass(now)
        self._refusals = self._failures = 0
        self._measured += 1 / _MEMORY
        for kind in ("requests", "tokens"):
            remaining = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
            reset = duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
            if remaining is not None and remaining < 1 and reset:
                self._pause(now, reset)

    def on_refused(self, now: float, retry_after: float | None) -> None:
        """
        Take note of a create that was refused for its rate.

        :param retry_after: seconds, by the server.
        """
        self._pass(now)
        if now < self._paused_until and retry_after is None:
            return  # one of those that left together
        low, high = _PAUSES
        self._pause(now, min(low * 2.0**self._refusals, high) if retry_after is None else retry_after)
        self._refusals = min(self._refusals + 1, 10)
        slower = max(self._measured, _NOTHING) * _SLOWER
        self._growth = _GROWTH if self._measured >= _NOTHING else _GROWTH_FROM_NOTHING
        self._allowed = slower if self._allowed is None else min(self._allowed, slower)
        self._allowance = 1.0  # one goes ahead and tries

    def on_failed(self, now: float) -> None:
        """Take note of a create that failed, perhaps by chance, and not for its rate."""
        self._failures += 1
        if self.is_probing:
            self.on_refused(now, None)

    def _pause(self, now: float, seconds: float) -> None:
        self._paused_until = max(self._paused_until, now + min(seconds, _MINUTE))

    def _pass(self, now: float) -> None:
        """Let time go by."""
        if self._at is not None and now > self._at:
            seconds = now - self._at
            self._measured *= math.exp(-seconds / _MEMORY)
            if self._allowed is not None and now >= self._paused_until:
                seconds = min(now - max(self._at, self._paused_until), _MINUTE)
                self._allowed = min(self._allowed * self._growth**seconds, 2 * _FORGOTTEN)
                # A second's worth, since creates leave together, once a second.
                at_once = max(1.0, self._allowed)
                self._allowance = min(self._allowance + self._allowed * seconds, at_once)
                if self._allowed > _FORGOTTEN:
                    self._allowed = None
        self._at = now


def duration(text: str) -> float | None:
    """Return the seconds of a duration as these headers write it: ``1s``, ``6m0s``, ``17ms``, or a number."""
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        return _number(text)
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None
