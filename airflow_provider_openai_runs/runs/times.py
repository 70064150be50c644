# SPDX-License-Identifier: Apache-2.0
"""Times as people read them, and what the times of other hosts prove."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_openai_runs.runs.budgets import CLOCKS_DIFFER


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


def visible_by(since: float, *, now: float, within: float) -> float:
    """
    Return when at the latest a server shows what it has accepted, in Unix seconds of who asks.

    Another host may have written ``since``, by a clock that differs. So it is not what the time is counted
    from, unless it lies further back than clocks can be apart.

    :param since: when it was accepted, in Unix seconds.
    :param within: how many seconds a server may take to show it.
    """
    return now + within if now < since + CLOCKS_DIFFER else now
