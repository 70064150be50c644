# SPDX-License-Identifier: Apache-2.0
"""What ends the batches of a generation of a task: of the present one, or of one before a clear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.bulk.batch.ending import BatchEnding
from airflow_provider_openai_runs.bulk.head import TaskHead
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.journal import Head
from airflow_provider_openai_runs.bulk.preparing import Preparation
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.storage import StorageFolder
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.end_of_attempt import TaskState
from airflow_provider_openai_runs.runs.usage import Totals

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


@dataclass(frozen=True, kw_only=True)
class Endings:
    """Reads what there is of a generation; its parameters are those of ``BatchEnding``."""

    settings: BulkSettings
    prepared: Preparation
    ask: Callable[[], TaskState]
    retry_left: bool
    log: Logger

    def of(self, items: Items, head: TaskHead, folder: StorageFolder) -> BatchEnding:
        """Return what ends the batches of these items."""
        return BatchEnding(
            hook=OpenAIRunsHook(head.conn_id, existed=True),
            conn_id=head.conn_id,
            items=items,
            before=head.before,
            ask=self.ask,
            cancels=self.settings.cancels,
            retry_left=self.retry_left,
            folder=folder.uri,
            log=self.log,
        )

    def of_stored(self, stored: Head) -> BatchEnding | None:
        """Return what ends the batches of a generation that was begun; None if nothing of it is there."""
        work = self.prepared.work_of(stored, as_it_is=True)
        return None if work is None else self.of(work.attempt.items, work.head, work.folder)

    def end_earlier_generation(
        self, stored: Head, *, sleep: Callable[[float], None], elsewhere: Callable[[TaskHead, Items], str]
    ) -> Totals:
        """
        End what a task has left active that was cleared: its user wants new items.

        :param sleep: takes seconds.
        :param elsewhere: says in what the connection leads elsewhere than where the items are.
        :return: what all requests of before have said.
        :raises RunCallError: if something may go on, and the user wants nothing created then.
        """
        work = self.prepared.work_of(stored)
        if work is None:
            return Totals()
        items = work.attempt.items
        ending = self.of(items, work.head, work.folder)
        if ending.has_active:
            ending.end_earlier(self.settings, sleep=sleep, elsewhere=elsewhere(work.head, items))
        if work.lost and not items.batches.count:
            self.log.warning("Before the clear, %s", work.lost_named())
        return ending.spent
