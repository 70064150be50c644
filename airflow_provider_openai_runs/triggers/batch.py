# SPDX-License-Identifier: Apache-2.0
"""Waits in the triggerer for the batches of one task."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.runs.budgets import BATCH_CANCEL_WAIT
from airflow_provider_openai_runs.triggers.bulk import BulkCompletionTrigger

if TYPE_CHECKING:
    from airflow_provider_openai_runs.bulk.events import NewRun
    from airflow_provider_openai_runs.bulk.waiting import ManyWaits


class BatchCompletionTrigger(BulkCompletionTrigger):
    """
    Poll the batches of a bulk task until all have ended, or one has left items that failed, or time is over.

    At the end of their time they are asked to end. That may take ten minutes, and what a batch has executed
    is paid for, so they are waited for: a worker collects it. After a mark they are only asked.

    :param path: URI of the file with the batches to wait for; the other parameters are those of
        ``BulkCompletionTrigger``.
    :param wake_at: Unix seconds at which a worker is needed in any case, for what it could not create yet.
    """

    _noun = "batches"
    _cancel_within = BATCH_CANCEL_WAIT

    def __init__(self, *, wake_at: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wake_at = wake_at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to start this wait again."""
        path = "airflow_provider_openai_runs.triggers.BatchCompletionTrigger"
        return path, {**super().serialize()[1], "wake_at": self.wake_at}

    def _unread(self, many: Any, runs: list[NewRun]) -> tuple[str, str] | None:
        # What a batch has executed before its cancel is billed, and in its files.
        return (str(len(runs)), many.names(runs)) if runs else None

    async def _many(self, runs: list[NewRun]) -> ManyWaits:
        def make() -> ManyWaits:
            # The first import of the SDK takes most of a second, which the event loop does not have.
            from airflow_provider_openai_runs.bulk.batch.many import ManyBatches  # noqa: PLC0415

            return ManyBatches(
                runs, conn_id=self.conn_id, poll_interval=self.poll_interval, wake_at=self.wake_at
            )

        return await asyncio.to_thread(make)
