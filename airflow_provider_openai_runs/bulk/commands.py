# SPDX-License-Identifier: Apache-2.0
"""What the driver of a bulk task is asked to do, and what it has to report that is more than an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_openai_runs.bulk.events import Event, NewRun
from airflow_provider_openai_runs.bulk.parts import Outcome, Part
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.model import PollResult, Run


class StopReason(StrEnum):
    """Why a task creates nothing more."""

    WINDOW_OVER = "window_over"
    TOO_MANY_FAILED = "too_many_failed"
    #: For minutes the server has refused the key, or the account has no quota.
    DENIED = "denied"
    #: The user, or Airflow.
    KILLED = "killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRows:
    """
    Read rows of the input.

    :param count: at most so many.
    :param from_start: begin anew: some rows that were read before are needed again.
    """

    count: int
    from_start: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Commit events to the journal."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send the create of an item, once."""

    row: Row
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """Poll a run, and read it if it has ended."""

    run: NewRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End a run, and read it if it has ended."""

    run: NewRun


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePart:
    """Write a file of results."""

    part: Part


Command = ReadRows | Commit | Send | Poll | Cancel | WritePart


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """
    What a poll or a cancel brought.

    :param run: read whole, where it has ended.
    """

    result: PollResult
    run: Run | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What a run that ended is worth.

    :param outcome: for the results.
    :param retryable: of a failure: whether another run may do better.
    """

    outcome: Outcome
    retryable: bool = False


#: Says what a run that ended is worth, by its row and label.
Judge = Callable[[int, str | None, Run], Verdict]
