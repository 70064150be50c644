# SPDX-License-Identifier: Apache-2.0
"""Which batches were asked to end, and how long their end is waited for."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.budgets import BATCH_CANCEL_WAIT, BATCH_POLL_BOUNDS

_CANCELLING = "cancelling"


class Cancels:
    """The cancels of one attempt, and those that it finds to be under way."""

    def __init__(self) -> None:
        #: By token: when a cancel was taken, and when a refused one is sent again.
        self._taken: dict[str, float] = {}
        self._again_at: dict[str, float] = {}

    def is_due(self, token: str, now: float) -> bool:
        """Whether a batch has to be asked to end now."""
        return token not in self._taken and now >= self._again_at.get(token, 0.0)

    def are_taken(self, active: Sequence[SentBatch]) -> bool:
        """Whether all of these are ending."""
        return all(batch.token in self._taken for batch in active)

    def ends_at(self, active: Sequence[SentBatch], stopped_at: float) -> float:
        """
        Return until when the end of these is waited for, in Unix seconds.

        :param stopped_at: when they were to end, for those that no cancel has reached.
        """
        asked = (self._taken.get(batch.token, stopped_at) for batch in active)
        return max(asked, default=stopped_at) + BATCH_CANCEL_WAIT

    def on_taken(self, token: str, now: float) -> None:
        """Take note that a batch has taken a cancel."""
        self._taken.setdefault(token, now)

    def on_refused(self, token: str, now: float) -> None:
        """Take note that a cancel brought an error."""
        self._again_at[token] = now + BATCH_POLL_BOUNDS[0]

    def on_seen(self, token: str, status: str, *, asked_at: float) -> None:
        """
        Take note of a status: somebody may have asked before.

        :param asked_at: Unix seconds of that, as far as is known.
        """
        if status == _CANCELLING:
            self._taken.setdefault(token, asked_at)

    def forget(self, token: str) -> None:
        """Leave a batch that nobody waits for any more."""
        self._taken.pop(token, None)
        self._again_at.pop(token, None)
