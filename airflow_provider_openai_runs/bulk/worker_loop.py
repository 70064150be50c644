# SPDX-License-Identifier: Apache-2.0
"""The event loop of a bulk task's worker: a driver with all that it needs, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.bulk import heap
from airflow_provider_openai_runs.bulk.channel import Channel, ConnectionInLine
from airflow_provider_openai_runs.bulk.driver import BulkDriver, DriveEnd
from airflow_provider_openai_runs.bulk.loop_thread import LoopThread
from airflow_provider_openai_runs.bulk.progress import KEY as PROGRESS
from airflow_provider_openai_runs.bulk.progress import Progress
from airflow_provider_openai_runs.bulk.requests import BulkRequests
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.work import Work
from airflow_provider_openai_runs.bulk.worker_io import RowReader, WorkerIO
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.budgets import LAST_PUSH_SECONDS
from airflow_provider_openai_runs.runs.end_of_attempt import Cause, TaskState
from airflow_provider_openai_runs.transport.shared_client import shared

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Creates and cancels that may be under way at once, where ``max_unrecorded`` is not more; polls have their
#: own.
_REQUESTS_AT_ONCE = 100


@dataclass(kw_only=True)
class WorkerLoop:
    """
    Drives an attempt once; made and run by the main thread.

    :param rows: opens the input.
    :param ti: Airflow's task instance.
    :param ask: asks Airflow for the state of the task instance; it may block.
    :param retry_left: whether Airflow tries again after this attempt.
    :param may_defer: whether a long wait is handed over.
    :param attempt_deadline: Unix seconds at which execution_timeout is over.
    :param ends_within: end what is active within so many seconds, and do nothing else.
    :param ends_early: why it has to end as soon as it has begun; None if it has not.
    """

    work: Work
    settings: BulkSettings
    rows: Callable[[], Iterator[Row]]
    ti: Any
    channel: Channel
    ask: Callable[[], TaskState]
    log: Logger
    retry_left: bool
    may_defer: bool = False
    attempt_deadline: float | None = None
    ends_within: float | None = None
    ends_early: Cause | None = None
    _thread: LoopThread[DriveEnd] = field(init=False)
    _driver: BulkDriver | None = field(default=None, init=False)
    _progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the thread."""
        self._thread = LoopThread(self._drive)
        self._progress = Progress(
            self.work.attempt, before=self.work.head.before, log=self.log, push=self._push
        )

    def run(self) -> DriveEnd:
        """
        Drive the attempt to its end; what a signal raises meanwhile is raised here, and the loop goes on.

        :raises OpenAIRunError: if the input cannot be read, or the connection.
        """
        with heap.set_aside():
            end = self._thread.run()
        pushing = self._progress.say()
        if self.ends_early is None:
            # In dag.test(), what Airflow says next would find the channel taken away.
            pushing.join(LAST_PUSH_SECONDS)
        return end

    def end_early(self, cause: Cause) -> None:
        """Create nothing more, and end what is active or leave it; a signal's handler may call this."""
        self.ends_early = self.ends_early or cause
        if self._driver is not None:
            self._thread.tell(partial(self._driver.end_early, cause))

    def join(self, seconds: float) -> bool:
        """Wait for the end, so long at most; return whether it has come."""
        return self._thread.join(seconds)

    @property
    def is_done(self) -> bool:
        """Whether it has come to its end."""
        return self._thread.is_done

    @property
    def cause(self) -> Cause | None:
        """Why it has decided about what was active, if it has."""
        return None if self._driver is None else self._driver.cause

    def progress(self) -> dict[str, Any]:
        """Return how far the task is, as XCom shows it."""
        return self._progress.values()

    async def _drive(self) -> DriveEnd:
        work, settings = self.work, self.settings
        conn_id = work.head.conn_id
        hook = OpenAIRunsHook(conn_id, existed=bool(work.attempt.items.parts))
        at_once = max(_REQUESTS_AT_ONCE, settings.limits.max_unrecorded)
        async with shared(ConnectionInLine(hook, self.channel), beside_polls=at_once) as client:
            requests = BulkRequests(
                sender=client,
                conn_id=conn_id,
                include=settings.include,
                create_within=settings.create_within,
            )
            self._driver = driver = BulkDriver(
                attempt=work.attempt,
                io=WorkerIO(
                    requests=requests,
                    journal=work.journal,
                    folder=work.folder,
                    reader=RowReader(
                        rows=self.rows, request_of=settings.request_of, allowance=work.attempt.allowance
                    ),
                    ask=partial(self.channel.call, self.ask),
                ),
                log=self.log,
                cancels={
                    Cause.KILLED: settings.cancel_on_kill,
                    Cause.FAILED: settings.cancel_on_kill,
                    Cause.TIMED_OUT: settings.cancel_on_timeout,
                },
                retry_left=self.retry_left,
                may_defer=self.may_defer,
                on_progress=self._progress.say,
                attempt_deadline=self.attempt_deadline,
            )
            if self.ends_within is not None:
                driver.end_all(self.ends_within)
            if self.ends_early is not None:
                driver.end_early(self.ends_early)
            return await driver.run()

    def _push(self, values: Mapping[str, Any]) -> None:
        self.channel.call(lambda: self.ti.xcom_push(key=PROGRESS, value=dict(values)))
