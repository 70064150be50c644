# SPDX-License-Identifier: Apache-2.0
"""What an attempt by batches asks for, done on the main thread of a worker, and reported to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from airflow_provider_openai_runs.bulk import waiting
from airflow_provider_openai_runs.bulk.allowance import Allowance
from airflow_provider_openai_runs.bulk.batch.attempt import BatchAttempt
from airflow_provider_openai_runs.bulk.batch.building import BatchFiles
from airflow_provider_openai_runs.bulk.batch.collecting import Collector
from airflow_provider_openai_runs.bulk.batch.commands import (
    Build,
    Cancel,
    Collect,
    Commit,
    Find,
    GiveUp,
    Poll,
    Send,
    Wait,
    Work,
)
from airflow_provider_openai_runs.bulk.batch.recorder import Recorder
from airflow_provider_openai_runs.bulk.batch.requests import BatchRequests, FlowRunner
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.events import BatchCreated, BatchRefused, Event
from airflow_provider_openai_runs.bulk.head import TaskHead
from airflow_provider_openai_runs.bulk.inputs import BulkInput
from airflow_provider_openai_runs.bulk.item_errors import shown
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.journal import Journal
from airflow_provider_openai_runs.bulk.judging import RunJudge
from airflow_provider_openai_runs.bulk.manifest import conclude
from airflow_provider_openai_runs.bulk.parts import Outcome, Parts
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.storage import RESULTS, WAITING, StorageFolder
from airflow_provider_openai_runs.bulk.work import Concluded, Waits
from airflow_provider_openai_runs.bulk.worker_io import RowReader
from airflow_provider_openai_runs.runs.errors import CeilingReachedError, OpenAIRunError
from airflow_provider_openai_runs.runs.times import utc
from airflow_provider_openai_runs.wire.batches import Batch

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

_EXPIRED = "expired: completion_window was over before it was sent again"


@dataclass(kw_only=True)
class BatchWork:
    """The commands of one attempt."""

    attempt: BatchAttempt
    journal: Journal
    folder: StorageFolder
    head: TaskHead
    requests: BatchRequests
    files: BatchFiles
    recorder: Recorder
    collector: Collector
    source: BulkInput
    retry_left: bool
    log: Logger
    #: Tokens of the batches that the log says are searched for.
    _searched: set[str] = field(default_factory=set, init=False)
    #: Why no further file of requests was built.
    _refusal: OpenAIRunError | None = field(default=None, init=False)

    @classmethod
    def of(
        cls,
        settings: BulkSettings,
        *,
        attempt: BatchAttempt,
        journal: Journal,
        folder: StorageFolder,
        head: TaskHead,
        runner: FlowRunner,
        allowance: Allowance,
        source: BulkInput,
        is_retry: bool,
        retry_left: bool,
        log: Logger,
        sleep: Callable[[float], None],
    ) -> BatchWork:
        """Put together what an attempt needs."""
        items = attempt.items

        def commit(events: tuple[Event, ...]) -> None:
            journal.commit(events)
            for event in events:
                items.apply(event)

        requests = BatchRequests(
            runner=runner, metadata=settings.metadata, create_within=settings.create_within
        )
        closed = sum(part.name.startswith(f"{journal.writer}-") for part in items.parts)
        recorder = Recorder(
            parts=Parts(writer=journal.writer, closed=closed),
            commit=commit,
            write_part=lambda part: folder.write(part.content, RESULTS, part.written.name),
        )
        return cls(
            attempt=attempt,
            journal=journal,
            folder=folder,
            head=head,
            source=source,
            retry_left=retry_left,
            requests=requests,
            recorder=recorder,
            files=BatchFiles(
                reader=RowReader(
                    rows=source.rows, request_of=settings.request_of, allowance=allowance, sleep=sleep
                ),
                items=items,
                recorder=recorder,
                upload=partial(requests.uploaded, since=head.began_at, but=items.unusable_files),
            ),
            collector=Collector(
                requests=requests,
                items=items,
                judge=RunJudge(
                    on_incomplete=settings.on_incomplete,
                    output_type=settings.output_type,
                    is_retry=is_retry,
                    stopped=lambda: attempt.stopped,
                ),
                recorder=recorder,
                conn_id=head.conn_id,
                item_retries=settings.limits.item_retries,
                earlier_attempts=journal.earlier_attempts,
                allowance=allowance,
                sleep=sleep,
                retry_left=retry_left,
                log=log,
            ),
            log=log,
        )

    def do(self, command: Work) -> None:
        """
        Execute a command.

        :raises NoLongerOwnerError: if a later attempt has taken over.
        :raises OpenAIRunError: if input, storage or server fail; a retry goes on from the journal.
        """
        match command:
            case Build():
                self._build()
            case Commit():
                self._commit(command)
            case Send():
                self._send(command)
            case Find():
                self._find(command)
            case Poll():
                self._poll(command)
            case Cancel():
                self._cancel(command)
            case Collect():
                self._collect(command)
            case GiveUp():
                self._give_up(command)
            case _:
                assert_never(command)

    def expire_retries(self) -> None:
        """Give the rows a final word that the end of the window has kept from another try."""
        items = self.attempt.items
        waiting = {row for row in items.rows(ItemState.NEW) if items.retries(row)}
        for row in self.source.rows() if waiting else ():
            if row.number in waiting:
                self.recorder.add(
                    Outcome(row=row.number, custom_id=row.custom_id, state=ItemState.FAILED, error=_EXPIRED)
                )
        self.recorder.flush()

    def waits(
        self, wait: Wait, *, window: float, attempt_deadline: float | None, progress: Mapping[str, Any]
    ) -> Waits:
        """
        Write down what there is to wait for.

        :param window: seconds of the task, from its beginning.
        :raises RunStorageError: if the storage does not take it.
        """
        attempt = self.attempt
        runs = waiting.of_batches(attempt.items.batches.active)
        name = f"{self.journal.writer}-{self.journal.segments}.jsonl"
        self.folder.write(waiting.to_lines(runs), WAITING, name)
        has_more = attempt.has_more and attempt.stopped is None
        return Waits(
            path=self.folder.uri_of(WAITING, name),
            conn_id=self.head.conn_id,
            count=len(runs),
            deadline=self.head.began_at + window,
            attempt_deadline=attempt_deadline,
            wake_up=waiting.WakeUp(ends=1 if has_more else None),
            progress=progress,
            wake_at=wait.create_at,
        )

    def concluded(self, *, unpriced: OpenAIRunError | None = None) -> Concluded:
        """
        Write the manifest.

        :param unpriced: why nobody knows what a request costs.
        :raises RunStorageError: if the storage does not take it, or does not give the input.
        """
        manifest = conclude(
            self.folder,
            self.source,
            self.attempt.items,
            before=self.head.before,
            seconds=time.time() - self.head.began_at,
            stopped=self.attempt.stopped,
            retry_left=self.retry_left,
        )
        ceiling = self.attempt.refusal
        return Concluded(
            manifest=manifest,
            folder=self.folder,
            stopped=self.attempt.stopped,
            refusal=self._refusal or (unpriced if ceiling is None else CeilingReachedError(ceiling)),
        )

    def _build(self) -> None:
        try:
            file = self.files.next()
        except OpenAIRunError as error:
            reason = self.files.failed_as
            if reason is None or (error.retryable and self.retry_left):
                raise
            self.log.error("Nothing more is created, and what is active is collected: %s", error)  # noqa: TRY400 # it is no bug
            self._refusal = error
            self.attempt.stop(reason, time.time())
            return
        self.attempt.on_built(file, rows_read=self.files.rows_read, held=self.files.held)

    def _commit(self, command: Commit) -> None:
        event = command.event
        if isinstance(event, BatchRefused):
            batch = self.attempt.items.batches.by_token(event.token)
            after = "" if event.until is None else f", after {utc(event.until)}"
            self.log.info("%s: its %d items may be sent again%s", batch.name, batch.count, after)
        self.journal.commit((event,))
        self.attempt.items.apply(event)
        self.attempt.on_committed(event, written_at=self.journal.written_at)
        if isinstance(event, BatchCreated):
            batch = self.attempt.items.batches.by_token(event.token)
            self.log.info("Batch %s has %d items (file %s)", event.id, batch.count, batch.file_id)

    def _send(self, command: Send) -> None:
        brought = self.requests.create(command.batch, leave_by=command.until)
        if not isinstance(brought, Batch):
            self.log.warning("The create of a batch: %s", brought)
        self.attempt.on_sent(command.batch, brought, now=time.time())

    def _find(self, command: Find) -> None:
        batch = command.batch
        brought = self.requests.find(batch)
        now = time.time()
        left = self.attempt.searched_until(batch, now) - now
        if brought is None and left > 0 and batch.token not in self._searched:
            self._searched.add(batch.token)
            text = "%d items wait for %s, which may not exist: searching for it, for %.0f s, then sent again"
            self.log.warning(text, batch.count, batch.name, left)
        self.attempt.on_found(batch, brought, now=now)

    def _poll(self, command: Poll) -> None:
        brought = self.requests.poll(command.batch.id or "")
        if isinstance(brought, Batch) and brought.errors:
            first = shown(brought.errors[0].text)
            self.log.warning(
                "Batch %s is %s (%d errors): %s", brought.id, brought.status, len(brought.errors), first
            )
        self.attempt.on_polled(command.batch, brought, now=time.time())

    def _cancel(self, command: Cancel) -> None:
        brought = self.requests.cancel(command.batch.id or "")
        self.attempt.on_cancelled(command.batch, brought, now=time.time())

    def _collect(self, command: Collect) -> None:
        self.log.info("Batch %s is %s: %s", command.seen.id, command.seen.status, dict(command.seen.counts))
        may_go_on = self.collector.collect(command)
        self.attempt.on_collected(command.batch)
        if not may_go_on:
            self.attempt.stop(StopReason.DENIED, time.time())

    def _give_up(self, command: GiveUp) -> None:
        self.log.error("%d items fail: %s", command.batch.count, command.error)
        self.collector.give_up(command)
        self.attempt.on_collected(command.batch)
