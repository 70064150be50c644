# SPDX-License-Identifier: Apache-2.0
"""The batches that the folder of a bulk task names: ended, waited for, and their results kept."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.bulk.batch.collecting import Collector
from airflow_provider_openai_runs.bulk.batch.commands import Collect
from airflow_provider_openai_runs.bulk.batch.lost_create import one_search_tells_at
from airflow_provider_openai_runs.bulk.batch.recorder import Recorder
from airflow_provider_openai_runs.bulk.batch.requests import BatchRequests, FlowRunner
from airflow_provider_openai_runs.bulk.events import (
    BatchCreated,
    BatchRefused,
    Event,
)
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.journal_lines import to_lines
from airflow_provider_openai_runs.bulk.judging import RunJudge
from airflow_provider_openai_runs.bulk.parts import Parts
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.bulk.storage import JOURNAL, RESULTS, StorageFolder
from airflow_provider_openai_runs.runs.budgets import BATCH_CANCEL_WAIT
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.times import utc
from airflow_provider_openai_runs.wire.batches import Batch

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

_PAUSE = 5.0
_STOPPED = "It was not executed before its batch was cancelled by stop --path."


@dataclass(frozen=True, kw_only=True)
class BatchStopper:
    """
    Ends batches and collects what they have executed.

    :param items: as the journal tells them; they are brought up to date.
    :param say: takes each line of what is done.
    """

    folder: StorageFolder
    items: Items
    runner: FlowRunner
    conn_id: str
    say: Callable[[str], None]
    log: Logger
    sleep: Callable[[float], None] = time.sleep

    def stop(self) -> Iterator[tuple[SentBatch, str]]:
        """
        Ask all to end, then wait for each and keep its results; yield those that may go on, with the reason.

        :raises OpenAIRunError: if the storage does not take it.
        """
        requests, commit = BatchRequests(runner=self.runner), self._commits()
        ends = time.monotonic() + BATCH_CANCEL_WAIT
        known: list[SentBatch] = []
        for batch in self.items.batches.active:
            found = batch if batch.id is not None else self._found(requests, batch, commit)
            if isinstance(found, str):
                yield batch, found
            elif found is not None:
                requests.cancel(found.id or "")  # one that has ended refuses it, and a poll says so
                known.append(found)
        collector = self._collector(requests, commit)
        for batch in known:
            seen = self._end_of(requests, batch, ends)
            if isinstance(seen, str):
                yield batch, seen
                continue
            self.say(f"{seen.id} is {seen.status}: {dict(seen.counts)}")
            try:
                collector.collect(Collect(batch=batch, seen=seen, cut_off=_STOPPED))
            except OpenAIRunError as error:
                yield batch, str(error)

    def _found(
        self, requests: BatchRequests, batch: SentBatch, commit: Callable[[tuple[Event, ...]], None]
    ) -> SentBatch | str | None:
        """Find a batch whose create has no answer; None if it was never created."""
        now = time.time()
        found = requests.find(batch)
        if isinstance(found, RequestFailure):
            return f"Nobody knows whether it was created: {found}"
        if found is None and (until := one_search_tells_at(batch)) > now:
            return f"No list shows it, but its create may be under way: stop it again after {utc(until)}"
        if found is None:
            self.say(f"{batch.name} was not created")
            commit((BatchRefused(token=batch.token),))
            return None
        commit((BatchCreated(token=batch.token, id=found.id),))
        return self.items.batches.by_token(batch.token)

    def _end_of(self, requests: BatchRequests, batch: SentBatch, ends: float) -> Batch | str:
        """Wait for the end of a batch; a cancel takes ten minutes at most."""
        pause = 0.5
        while True:
            seen = requests.poll(batch.id or "")
            if isinstance(seen, Batch):
                if seen.has_ended:
                    return seen
                if seen.status != "cancelling":
                    requests.cancel(seen.id)
            if time.monotonic() + pause >= ends:
                return f"It is {seen.status}" if isinstance(seen, Batch) else str(seen)
            self.sleep(pause)
            pause = min(2 * pause, _PAUSE)

    def _collector(self, requests: BatchRequests, commit: Callable[[tuple[Event, ...]], None]) -> Collector:
        recorder = Recorder(
            parts=Parts(writer=f"stop-{secrets.token_hex(8)}"),
            commit=commit,
            write_part=lambda part: self.folder.write(part.content, RESULTS, part.written.name),
        )
        return Collector(
            requests=requests,
            items=self.items,
            judge=RunJudge(),
            recorder=recorder,
            conn_id=self.conn_id,
            item_retries=0,
            log=self.log,
            sleep=self.sleep,
        )

    def _commits(self) -> Callable[[tuple[Event, ...]], None]:
        """Return what writes segments of the journal, as an attempt of its own after all others."""
        writer = f"stop-{int(time.time()):010d}-{secrets.token_hex(4)}"
        written = 0

        def commit(events: tuple[Event, ...]) -> None:
            nonlocal written
            written += 1
            self.folder.write(to_lines(events), JOURNAL, writer, f"{written:06d}.jsonl")
            for event in events:
                self.items.apply(event)

        return commit
