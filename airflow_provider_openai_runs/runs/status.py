# SPDX-License-Identifier: Apache-2.0
"""The statuses of thread runs and background responses, and the questions asked of them."""

from __future__ import annotations

from enum import StrEnum


class RunKind(StrEnum):
    """
    The wire APIs that the package brings; a run's kind is stored with it, never guessed from an id.

    Only ``wire/`` knows what a kind means, so a ref may hold another one.
    """

    THREAD_RUN = "thread_run"
    RESPONSE = "response"


def noun_of(kind: str) -> str:
    """Return a kind as people read it."""
    return kind.replace("_", " ")


class RunStatus(StrEnum):
    """Where a run stands (https://platform.openai.com/docs/api-reference/runs/object)."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    REQUIRES_ACTION = "requires_action"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    EXPIRED = "expired"
    #: A status this package has never heard of. It counts as active: to stop polling would orphan the run.
    UNKNOWN = "unknown"

    @classmethod
    def parse(cls, value: object) -> RunStatus:
        """Read a server's status; whatever is not one of ours is ``UNKNOWN``."""
        try:
            return cls(str(value))
        except ValueError:
            return cls.UNKNOWN

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended and will never change again."""
        return self in TERMINAL

    @property
    def is_active(self) -> bool:
        """Whether the run may still work, wait or bill: everything that has not ended."""
        return self not in TERMINAL


TERMINAL = frozenset(
    {
        RunStatus.CANCELLED,
        RunStatus.FAILED,
        RunStatus.COMPLETED,
        RunStatus.INCOMPLETE,
        RunStatus.EXPIRED,
    }
)
