# SPDX-License-Identifier: Apache-2.0
"""What the driver of a bulk task is asked to do, and what it has to report that is more than an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from airflow_provider_openai_runs.bulk.events import Event, NewRun
from airflow_provider_openai_runs.bulk.parts import Outcome, Part
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.end_of_attempt import Cause, TaskState
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run


class StopReason(StrEnum):
    """Why a task creates nothing more."""

    WINDOW_OVER = "window_over"
    TOO_MANY_FAILED = "too_many_failed"
    #: ``max_total_tokens`` or ``max_cost``.
    CEILING = "ceiling"
    #: It cannot be read to its end.
    INPUT = "input"
    #: The server has not taken a file of requests.
    UPLOAD = "upload"
    #: For minutes the server has refused the key, or the account has no quota.
    DENIED = "denied"
    #: The user, or Airflow.
    KILLED = "killed"
    #: execution_timeout is over, and no retry follows.
    TIMED_OUT = "timed_out"
    #: The attempt has failed, and no retry follows.
    FAILED = "failed"
    #: The attempt is over, and the next one creates again what is cancelled now.
    AGAIN = "again"
    #: The worker goes away; a retry goes on with the runs.
    LEFT = "left"

    @classmethod
    def at_end(cls, cause: Cause, state: TaskState, *, retry_left: bool) -> StopReason:
        """
        Return as which an attempt that ends early cancels what is active.

        :param state: of the task instance.
        :param retry_left: whether Airflow tries again after this attempt.
        """
        if state.cleared or (retry_left and not state.ended):
            return cls.AGAIN
        return {Cause.KILLED: cls.KILLED, Cause.TIMED_OUT: cls.TIMED_OUT, Cause.FAILED: cls.FAILED}[cause]


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
    """
    Send the create of an item, once.

    :param until: Unix seconds by which the request has to leave; later it must not.
    """

    row: Row
    token: str
    until: float


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """
    What a create was answered with.

    :param headers: of the answer, under lower-case names.
    :param ended: the run, where it has ended with the answer.
    """

    brought: NewRun | RequestFailure
    headers: Mapping[str, str] = field(default_factory=dict)
    ended: Run | None = None


class BulkIO(Protocol):
    """What a driver needs to execute commands; nothing of it blocks the event loop."""

    async def read_rows(self, command: ReadRows) -> tuple[list[Row], bool]:
        """Return the next rows of the input, and whether they are the last ones."""

    async def commit(self, events: tuple[Event, ...]) -> None:
        """
        Commit events to the journal.

        :raises NoLongerOwnerError: if a later attempt has taken over.
        """

    @property
    def written_at(self) -> float:
        """When what was to be committed last was written, in Unix seconds."""

    async def create(self, command: Send) -> Sent:
        """Send a create, once, if it still may leave."""

    async def poll(self, run: NewRun) -> Polled | RequestFailure:
        """Poll a run, and read it if it has ended."""

    async def cancel(self, run: NewRun) -> Run | RequestFailure:
        """End a run, and read it."""

    async def write_part(self, part: Part) -> None:
        """Write a file of results."""

    async def task_state(self) -> TaskState:
        """
        Ask Airflow for the state of the task instance.

        Whatever it raises means that nobody knows.
        """


#: Says what a run that ended is worth, by its row and label.
Judge = Callable[[int, str | None, Run], Verdict]
