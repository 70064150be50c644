# SPDX-License-Identifier: Apache-2.0
"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(seconds: float | None) -> str:
    """
    Return a time for a line of the log.

    :param seconds: Unix seconds; None never comes. A time beyond the calendar stays a number.
    """
    if seconds is None:
        return "for ever"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"Unix time {seconds:g}"
