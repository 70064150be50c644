# SPDX-License-Identifier: Apache-2.0
"""
When a server wants to be asked again, in whichever form it says so.

``Retry-After`` is seconds or a date of HTTP (RFC 9110, 10.2.3); others write ``5s``, milliseconds under a
name of their own, the time at which a limit of theirs is over, or a sentence.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_provider_openai_runs.wire import reading

#: Of a poll that was answered, and of a request that was not; the more exact ones first.
_OF_ANSWERS = (("openai-poll-after-ms", 1000.0), ("retry-after-ms", 1000.0), ("retry-after", 1.0))
_OF_FAILURES = (
    *(("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("retry-after", 1.0)),
    ("openai-poll-after-ms", 1000.0),
)
#: Limits that come with every answer, and mean something only where nothing is left of them.
_LIMITS = ("-requests", "-tokens", "")
_NOTHING_LEFT = "0"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = r"(\d+(?:\.\d+)?)\s*(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)(?![a-z])"
_PART = re.compile(_AMOUNT, re.IGNORECASE)
_DURATION = re.compile(rf"(?:{_AMOUNT}\s*)+", re.IGNORECASE)
_SENTENCE = re.compile(
    rf"(?:again|retry|wait|replenished)\b(?: (?:in|after|for))? ((?:{_AMOUNT}\s*)+)", re.IGNORECASE
)
#: A number of seconds that large is a time.
_A_TIME = 1e9
#: And one that is larger, in milliseconds.
_IN_MILLISECONDS = 1e11


def poll_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which the server wants to be polled again, where it says so."""
    return _first(headers, _OF_ANSWERS)


def retry_after(headers: Mapping[str, str], *, said: str | None, body: object = None) -> float | None:
    """
    Return the seconds after which the server wants a request again that it has refused.

    :param said: its sentence.
    :param body: its error, in which Google's servers have a ``retryDelay``.
    """
    found = _first(headers, _OF_FAILURES)
    if found is not None:
        return found
    details = reading.objects_of(reading.object_of(body).get("details"))
    delays = [_seconds(detail.get("retryDelay"), headers) for detail in details]
    resets = [
        _seconds(headers.get(f"{name}-reset{limit}"), headers)
        for name in ("x-ratelimit", "ratelimit")
        for limit in _LIMITS
        if headers.get(f"{name}-remaining{limit}", _NOTHING_LEFT) == _NOTHING_LEFT
    ]
    sentence = _SENTENCE.search(said or "")
    written = [_duration(sentence.group(1))] if sentence else []
    return max((seconds for seconds in (*delays, *resets, *written) if seconds is not None), default=None)


def _first(headers: Mapping[str, str], names: tuple[tuple[str, float], ...]) -> float | None:
    """Return what the first of these headers says; a zero counts where no other says more."""
    zero = None
    for name, scale in names:
        if written := headers.get(name):  # which nearly no answer to a poll has
            seconds = _seconds(written, headers, scale=scale)
            if seconds:
                return seconds
            zero = seconds if zero is None else zero
    return zero


def _seconds(written: Any, headers: Mapping[str, str], *, scale: float = 1.0) -> float | None:
    if not isinstance(written, str) or not written:
        return None
    try:
        # A gateway may add its own to the server's.
        seconds = float(written.partition(",")[0]) / scale
    except ValueError:
        if _DURATION.fullmatch(written.strip()):
            return _duration(written)
        until = _date(written)
        return None if until is None else max(0.0, until - _clock(headers))
    if not math.isfinite(seconds) or seconds < 0:
        return None
    if seconds < _A_TIME:
        return seconds
    return max(0.0, seconds / (1000.0 if seconds > _IN_MILLISECONDS else 1.0) - _clock(headers))


def _clock(headers: Mapping[str, str]) -> float:
    """Return the server's own time, where it says what that is."""
    found = _date(headers.get("date", ""))
    return time.time() if found is None else found


def _duration(written: str) -> float:
    """Read ``6m0.5s``, or ``20 seconds``."""
    return sum(
        float(amount) * _UNITS["ms" if unit.lower().startswith(("ms", "mil")) else unit[0].lower()]
        for amount, unit in _PART.findall(written)
    )


def _date(written: str) -> float | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = read(written)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None
