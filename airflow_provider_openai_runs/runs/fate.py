# SPDX-License-Identifier: Apache-2.0
"""What became of a run when a wait for it ended, or when it was cancelled; every message says it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult
from airflow_provider_openai_runs.runs.status import RunStatus


class Fate(StrEnum):
    """What became of the run itself."""

    ENDED = "ended"
    CANCELLED = "cancelled"
    CANCELLING = "cancelling"
    LEFT_RUNNING = "left_running"
    NOT_CANCELLED = "not_cancelled"
    GONE = "gone"

    def sentence(self, *, raw_status: str | None = None) -> str:
        """
        Say it in a sentence.

        :param raw_status: the run's status as its server calls it.
        """
        return {
            Fate.ENDED: f"The run had ended as {raw_status}." if raw_status else "The run had ended.",
            Fate.CANCELLED: "The run was cancelled.",
            Fate.CANCELLING: "The run was asked to cancel and had not ended at the last poll.",
            Fate.LEFT_RUNNING: "The run was left running and billing.",
            Fate.NOT_CANCELLED: "The run could not be cancelled and may be running and billing.",
            Fate.GONE: "The server knows no such run any more.",
        }[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResult:
    """
    What became of a run that was to end.

    :param polled: the last poll of it; None when nobody could say, or it is gone.
    :param failure: why it has not ended.
    :param refusal: why the cancel was not taken.
    :param asked: a cancel was sent; without one, the run had ended by itself.
    :param accepted: the server took the cancel, whatever became of the polls after it.
    :param is_gone: the server knows no such run any more.
    """

    polled: PollResult | None
    failure: RequestFailure | None = None
    refusal: RequestFailure | None = None
    asked: bool = False
    accepted: bool = False
    is_gone: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the run is over for certain."""
        return self.is_gone or (self.polled is not None and self.polled.status.is_terminal)

    @property
    def raw_status(self) -> str | None:
        """The run's last known status, as its server calls it."""
        return self.polled.raw_status if self.polled else None

    @property
    def fate(self) -> Fate:
        """What became of the run."""
        if self.polled is not None and self.polled.status is RunStatus.CANCELLED:
            return Fate.CANCELLED
        if self.is_gone:
            return Fate.GONE
        if self.has_ended:
            return Fate.ENDED
        return Fate.CANCELLING if self.accepted else Fate.NOT_CANCELLED
