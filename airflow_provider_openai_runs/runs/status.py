# SPDX-License-Identifier: Apache-2.0
"""The statuses of thread runs and background responses, and the questions asked of them."""

from __future__ import annotations

from enum import StrEnum


class RunKind(StrEnum):
    """Which wire API a run belongs to; stored with the run, never guessed from an id."""

    THREAD_RUN = "thread_run"
    RESPONSE = "response"

    @property
    def noun(self) -> str:
        """Return the kind as people read it."""
        return self.value.replace("_", " ")


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
    #: A status this package has never heard of. It counts as active: to stop looking would orphan the run.
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
        return self in _TERMINAL

    @property
    def is_active(self) -> bool:
        """Whether the run may still work, wait or bill: everything that has not ended."""
        return self not in _TERMINAL


_TERMINAL = frozenset(
    {
        RunStatus.CANCELLED,
        RunStatus.FAILED,
        RunStatus.COMPLETED,
        RunStatus.INCOMPLETE,
        RunStatus.EXPIRED,
    }
)
