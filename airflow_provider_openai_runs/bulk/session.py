# SPDX-License-Identifier: Apache-2.0
"""A bulk task in a worker: from its journal to a manifest, or to a wait that is handed over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_openai_runs.bulk import waiting
from airflow_provider_openai_runs.bulk.attempt import BulkAttempt
from airflow_provider_openai_runs.bulk.channel import Channel, ConnectionInLine, StoreInLine
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.driver import BulkDriver, DriveEnd
from airflow_provider_openai_runs.bulk.head import TaskHead, begin
from airflow_provider_openai_runs.bulk.inputs import BulkInput
from airflow_provider_openai_runs.bulk.journal import Head, Journal, StateStore
from airflow_provider_openai_runs.bulk.loop_thread import LoopThread
from airflow_provider_openai_runs.bulk.manifest import Manifest, conclude
from airflow_provider_openai_runs.bulk.preparing import Preparation
from airflow_provider_openai_runs.bulk.progress import KEY as PROGRESS
from airflow_provider_openai_runs.bulk.progress import Progress
from airflow_provider_openai_runs.bulk.requests import BulkRequests
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.storage import HEAD, WAITING, StorageFolder
from airflow_provider_openai_runs.bulk.worker_io import RowReader, WorkerIO
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.budgets import CANCEL_WAIT, KILL_NOTICE_SECONDS
from airflow_provider_openai_runs.runs.end_of_attempt import Cause, TaskState
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError
from airflow_provider_openai_runs.transport.shared_client import shared

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Creates and cancels that may be under way at once; polls have their own.
_REQUESTS_AT_ONCE = 100
#: How long the main thread stays for what is said last of the progress.
_LAST_PUSH_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Concluded:
    """Every item has its fate, or nothing more is to be created."""

    manifest: Manifest
    folder: StorageFolder
    stopped: StopReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """
    All that is left is to wait; the file says for what.

    :param path: URI of the file.
    :param count: of the runs in it.
    :param deadline: end of the completion window, in Unix seconds.
    :param wake_at: Unix seconds at which a worker is needed in any case, for what it could not create yet.
    """

    path: str
    conn_id: str
    count: int
    deadline: float
    attempt_deadline: float | None
    wake_up: waiting.WakeUp
    progress: Mapping[str, Any]
    wake_at: float | None = None


class BulkSession:
    """
    One attempt of a bulk task in a worker.

    :param ti: Airflow's task instance.
    :param store: the task state store.
    :param ask: asks Airflow for the state of the task instance; it may block.
    """

    def __init__(
        self,
        settings: BulkSettings,
        *,
        ti: Any,
        store: StateStore,
        ask: Callable[[], TaskState],
        source: BulkInput,
        log: Logger,
    ) -> None:
        self._settings = settings
        self._ti = ti
        self._channel = Channel()
        self._store = StoreInLine(store, self._channel)
        self._ask = ask
        self._source = source
        self._log = log
        self._generation = int(ti.max_tries)
        self._started_at = time.time()
        self._prepared = Preparation(
            settings=settings,
            ti=ti,
            store=self._store,
            source=source,
            log=log,
            sleep=self._sleep,
            started_at=self._started_at,
        )
        self._is_killed = False
        self._thread: LoopThread[DriveEnd] | None = None
        self._driver: BulkDriver | None = None

    # -- what Airflow calls --------------------------------------------------------------------------------

    def run(self, *, attempt_deadline: float | None = None, may_defer: bool = True) -> Concluded | Waits:
        """
        Go on from the journal to the end of the items, or to a long wait.

        :param attempt_deadline: Unix seconds, of an attempt that was deferred.
        :param may_defer: whether a long wait may be handed over.
        :raises OpenAIRunError: if the attempt ends before.
        """
        settings = self._settings
        if attempt_deadline is None and settings.execution_timeout is not None:
            attempt_deadline = self._started_at + settings.execution_timeout
        folder = self._prepared.folder(self._generation)
        folder.check()
        self._end_earlier_generation()
        head = begin(folder, self._prepared.head())
        journal = self._prepared.journal(folder, self._generation)
        attempt = self._prepared.attempt(journal, head, deadline=head.began_at + settings.completion_window)
        end = self._drive(
            attempt,
            journal,
            folder,
            conn_id=head.conn_id,
            may_defer=may_defer and settings.deferrable,
            attempt_deadline=attempt_deadline,
        )
        if end is DriveEnd.WAITS:
            return self._waits(attempt, journal, folder, head, attempt_deadline)
        if end is DriveEnd.REPLACED:
            text = "A later attempt of this task has taken over, and goes on with its runs."
            raise OpenAIRunError(text, retryable=False)
        if end is DriveEnd.KILLED:
            self._raise_ended(attempt, folder)
        return self._concluded(attempt, folder, head)

    def kill(self) -> None:
        """End early; called by a signal's handler, so it takes no lock and asks nothing."""
        self._is_killed = True
        self._end_early(Cause.KILLED)

    # -- before --------------------------------------------------------------------------------------------

    def _end_earlier_generation(self) -> None:
        """End what a task has left active that was cleared: its user wants new runs."""
        stored = self._store.load()
        if stored is None or (earlier := Head.from_json(stored).generation) == self._generation:
            return
        folder = self._prepared.folder(earlier)
        try:
            head = TaskHead.from_bytes(folder.read(HEAD))
        except FileNotFoundError:
            return
        journal = self._prepared.journal(folder, earlier)
        attempt = self._prepared.attempt(journal, head, deadline=None)
        if not attempt.active:
            return
        self._log.info("The task was cleared: ending %d runs of before", len(attempt.active))
        self._drive(attempt, journal, folder, conn_id=head.conn_id, ends_within=self._settings.delete_within)
        if self._is_killed:
            self._raise_ended(attempt, folder)
        if attempt.active:
            text = self._left(attempt, folder)
            if self._settings.on_unendable == "fail":
                raise RunCallError(f"{text} Nothing was created.")
            self._log.error("%s", text)

    # -- the loop ------------------------------------------------------------------------------------------

    def _drive(
        self,
        attempt: BulkAttempt,
        journal: Journal,
        folder: StorageFolder,
        *,
        conn_id: str,
        may_defer: bool = False,
        attempt_deadline: float | None = None,
        ends_within: float | None = None,
    ) -> DriveEnd:
        settings, progress = self._settings, self._progress(attempt)

        async def drive() -> DriveEnd:
            hook = OpenAIRunsHook(conn_id, existed=bool(attempt.items.parts))
            owner = ConnectionInLine(hook, self._channel)
            async with shared(owner, beside_polls=_REQUESTS_AT_ONCE) as client:
                requests = BulkRequests(
                    sender=client,
                    conn_id=conn_id,
                    include=settings.include,
                    create_within=settings.create_within,
                )
                self._driver = BulkDriver(
                    attempt=attempt,
                    io=WorkerIO(
                        requests=requests,
                        journal=journal,
                        folder=folder,
                        reader=RowReader(rows=self._source.rows, request_of=settings.request_of),
                        ask=partial(self._channel.call, self._ask),
                    ),
                    log=self._log,
                    cancels=settings.cancels,
                    retry_left=bool(self._ti.try_number <= self._ti.max_tries),
                    may_defer=may_defer,
                    on_progress=progress.say,
                    attempt_deadline=attempt_deadline,
                )
                if ends_within is not None:
                    self._driver.end_all(ends_within)
                if self._is_killed:
                    self._driver.end_early(Cause.KILLED)
                return await self._driver.run()

        self._thread = thread = LoopThread(drive)
        try:
            return thread.run()
        except BaseException as error:
            # Raised by a signal, if the loop still goes on.
            self._end_early(Cause.TIMED_OUT if isinstance(error, AirflowTaskTimeout) else Cause.FAILED)
            thread.join(CANCEL_WAIT + 1)
            self._log.error("%s", self._left(attempt, folder))
            raise
        finally:
            pushing = progress.say()
            if not self._is_killed:
                # In dag.test(), what Airflow says next would find the channel taken away.
                pushing.join(_LAST_PUSH_SECONDS)

    def _progress(self, attempt: BulkAttempt) -> Progress:
        def push(values: Mapping[str, Any]) -> None:
            self._channel.call(lambda: self._ti.xcom_push(key=PROGRESS, value=dict(values)))

        return Progress(attempt, log=self._log, push=push)

    def _end_early(self, cause: Cause) -> None:
        thread, driver = self._thread, self._driver
        if thread is not None and driver is not None:
            thread.tell(partial(driver.end_early, cause))

    def _sleep(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            if self._is_killed:
                raise OpenAIRunError("The task was killed. What earlier attempts have created goes on.")
            time.sleep(min(left, KILL_NOTICE_SECONDS))

    # -- after ---------------------------------------------------------------------------------------------

    def _waits(
        self,
        attempt: BulkAttempt,
        journal: Journal,
        folder: StorageFolder,
        head: TaskHead,
        attempt_deadline: float | None,
    ) -> Waits:
        limits, runs = self._settings.limits, attempt.active
        name = f"{journal.writer}-{journal.segments}.jsonl"
        folder.write(waiting.to_lines(runs), WAITING, name)
        missing = max(1, limits.max_active // 4 - (limits.max_active - len(runs)))
        max_failed = limits.max_failed
        if isinstance(max_failed, float):
            max_failed = max_failed * attempt.rows_read if attempt.is_read_whole else None
        return Waits(
            path=folder.uri_of(WAITING, name),
            conn_id=head.conn_id,
            count=len(runs),
            deadline=head.began_at + self._settings.completion_window,
            attempt_deadline=attempt_deadline,
            wake_up=waiting.WakeUp(
                ends=missing if attempt.has_ready else None,
                failures=None if max_failed is None else max(0, int(max_failed) - attempt.failed),
                collect_within=self._settings.collect_within,
            ),
            progress=self._progress(attempt).values(),
        )

    def _concluded(self, attempt: BulkAttempt, folder: StorageFolder, head: TaskHead) -> Concluded:
        items = attempt.items
        manifest = conclude(
            folder,
            self._source,
            items,
            seconds=time.time() - head.began_at,
            stopped=attempt.stopped,
            token_of=lambda row: head.token_of(row, items.retries(row) + items.resubmits(row)),
        )
        return Concluded(manifest=manifest, folder=folder, stopped=attempt.stopped)

    def _raise_ended(self, attempt: BulkAttempt, folder: StorageFolder) -> NoReturn:
        cause = self._driver.cause if self._driver is not None else None
        raise OpenAIRunError(f"{cause or Cause.KILLED}. {self._left(attempt, folder)}")

    def _left(self, attempt: BulkAttempt, folder: StorageFolder) -> str:
        runs = attempt.active
        if not runs:
            return "No run of it is active."
        names = waiting.names_of(runs)
        return (
            f"{len(runs)} runs may be running and billing: {names}; the journal in {folder.uri} names "
            f"them all. The next attempt goes on with them; without one, end them with "
            f"'python -m airflow_provider_openai_runs stop --path {folder.uri}'."
        )
