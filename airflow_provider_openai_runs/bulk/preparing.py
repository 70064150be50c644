# SPDX-License-Identifier: Apache-2.0
"""What an attempt of a bulk task begins with: the folder of its generation, its journal, what that tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.bulk.attempt import BulkAttempt
from airflow_provider_openai_runs.bulk.dispatcher import SEND_WITHIN
from airflow_provider_openai_runs.bulk.events import Event
from airflow_provider_openai_runs.bulk.head import TaskHead
from airflow_provider_openai_runs.bulk.inputs import BulkInput
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.journal import Journal, StateStore
from airflow_provider_openai_runs.bulk.judging import RunJudge
from airflow_provider_openai_runs.bulk.parts import Parts
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.storage import StorageFolder
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.record import token_prefix

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """
    Opens what there is of a task.

    :param ti: Airflow's task instance.
    :param sleep: takes seconds; a kill interrupts it.
    :param started_at: Unix seconds at which this attempt began.
    """

    settings: BulkSettings
    ti: Any
    store: StateStore
    source: BulkInput
    log: Logger
    sleep: Callable[[float], None]
    started_at: float

    @property
    def generation(self) -> int:
        """Which one this is: a clear raises it."""
        return int(self.ti.max_tries)

    def folder(self, generation: int) -> StorageFolder:
        """Return the folder of a generation."""
        return StorageFolder.of_task(
            self.settings.output_path, ti=self.ti, generation=generation, log=self.log
        )

    def head(self) -> TaskHead:
        """Return what this attempt would begin its generation with."""
        ti, settings = self.ti, self.settings
        task = {
            "dag_id": ti.dag_id,
            "run_id": ti.run_id,
            "task_id": ti.task_id,
            "map_index": ti.map_index,
        }
        return TaskHead(
            conn_id=settings.conn_id,
            input=self.source.head,
            began_at=self.started_at,
            fingerprint=settings.fingerprint,
            task=task,
            token_prefix=token_prefix((*task.values(), self.generation)),
        )

    def journal(self, folder: StorageFolder, generation: int) -> Journal:
        """Return the journal of a generation, with which this attempt goes on."""
        return Journal(folder=folder, store=self.store, generation=generation, writer=str(self.ti.id))

    def read(self, journal: Journal) -> tuple[Items, list[Event]]:
        """
        Return the items as the journal tells them, and what an attempt before has written and not committed.

        Where a create may be under way, that is waited for first.

        :raises JournalError: if the journal cannot be read.
        """
        items = Items.of(journal.load())
        if not items.count(ItemState.INTENDED):
            return items, []
        # The attempt before may be cut off and alive: until then it may send, and write down the answer.
        self.sleep(self.started_at + SEND_WITHIN - time.time())
        items = Items.of(journal.load())
        return items, journal.uncommitted()

    def attempt(self, journal: Journal, head: TaskHead, *, deadline: float | None) -> BulkAttempt:
        """
        Return the attempt that goes on from a journal.

        :param deadline: of the runs, in Unix seconds.
        :raises JournalError: if the journal cannot be read.
        """
        settings = self.settings
        items, found = self.read(journal)
        if items.batches.active:
            raise RunRequestError(
                "The task has begun with processing='batch', and has batches: this attempt has sent nothing. "
                "Go back to it, or clear the task to begin anew."
            )
        writer = journal.writer
        closed = sum(part.name.startswith(f"{writer}-") for part in items.parts)
        attempt = BulkAttempt(
            items,
            limits=settings.limits,
            judge=RunJudge(
                on_incomplete=settings.on_incomplete,
                output_type=settings.output_type,
                is_retry=self.ti.try_number > 1,
                stopped=lambda: attempt.stopped,
            ),
            token_of=head.token_of,
            polls=Polls(
                per_second=settings.polls_per_second,
                deadline=deadline,
                poll_interval=settings.poll_interval,
            ),
            parts=Parts(writer=writer, closed=closed),
            rate_limit=RateLimit(
                requests_per_minute=settings.requests_per_minute,
                tokens_per_minute=settings.tokens_per_minute,
            ),
            now=time.time(),
            found=found,
        )
        return attempt
