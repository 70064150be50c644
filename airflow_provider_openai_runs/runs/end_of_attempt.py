# SPDX-License-Identifier: Apache-2.0
"""What becomes of a run whose attempt ends before it: cancelled, or left to whoever goes on with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: A task instance in one of these states wants its run no more.
ENDED = frozenset({"success", "failed", "skipped", "removed", "upstream_failed"})
#: What a clear makes of a task instance that is still in its worker.
_CLEARED = "restarting"
#: The state of the attempt itself, unless it has been replaced; then of the one in its place.
_RUNNING = "running"


@dataclass(frozen=True, slots=True)
class TaskState:
    """The state of a task instance as far as it is known; None is cleared, or gone with its Dag run."""

    name: str | None
    known: bool = True

    @property
    def ended(self) -> bool:
        """Whether nobody waits for the run any more, for certain."""
        return self.known and (self.name is None or self.name in ENDED)

    @property
    def cleared(self) -> bool:
        """Whether the task begins anew, for certain."""
        return self.known and self.name in {None, _CLEARED}


UNKNOWN = TaskState("unknown", known=False)
CLEARED = TaskState(None)
#: Of a worker's own task instance: a scheduler that took another one for dead starts it again, as a retry.
RESET = TaskState("reset")


def has_retry_left(ti: Any) -> bool:
    """Whether Airflow would try again after this attempt of a task instance."""
    return bool(ti.try_number <= ti.max_tries)


class Cause(StrEnum):
    """Why an attempt ends, as the log says it."""

    KILLED = "The task was killed"
    TIMED_OUT = "execution_timeout is over"
    FAILED = "The attempt failed"


class Ending(StrEnum):
    """What to do with the run."""

    CANCEL = "cancel"
    #: Cancel it unless the record names another run, or another attempt.
    CANCEL_IF_OURS = "cancel_if_ours"
    #: Somebody goes on with it.
    LEAVE = "leave"
    #: Airflow did not say whether somebody does.
    LEAVE_UNASKED = "leave_unasked"


def ending_of(cause: Cause, state: TaskState, *, retry_left: bool, adoptable: bool) -> Ending:
    """
    Decide about the run of an attempt that ends.

    A positive *ended* cancels, a positive *goes on* leaves. No answer is no mark, since a mark only arrives
    through an API that answers: then the run is left as long as a retry is, and else nobody would end it.

    :param state: of the task instance, as Airflow says it now.
    :param retry_left: whether Airflow tries again after this attempt.
    :param adoptable: whether another attempt would find the run.
    """
    if not adoptable or state.ended or state.cleared:
        return Ending.CANCEL
    if state.known and state.name != _RUNNING:
        return Ending.LEAVE  # queued, deferred, ...: it has been replaced
    if not retry_left:
        return Ending.CANCEL_IF_OURS
    if not state.known:
        return Ending.LEAVE_UNASKED
    # Running is this attempt, in a worker that goes away, or the one in its place.
    return Ending.CANCEL_IF_OURS if cause is Cause.TIMED_OUT else Ending.LEAVE
