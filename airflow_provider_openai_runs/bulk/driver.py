# SPDX-License-Identifier: Apache-2.0
"""
Executes the commands of a bulk attempt on an event loop, all at the same time, until it is over.

It decides nothing about items: that is ``BulkAttempt``. What it knows besides is how an attempt ends before
its items do: a kill, a mark that the fence finds, a later attempt that has taken over, a bug.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, assert_never

from airflow_provider_openai_runs.bulk.attempt import BulkAttempt
from airflow_provider_openai_runs.bulk.commands import (
    BulkIO,
    Cancel,
    Command,
    Commit,
    Poll,
    ReadRows,
    Send,
    Sent,
    StopReason,
    WritePart,
)
from airflow_provider_openai_runs.bulk.events import Created, Event, NewRun
from airflow_provider_openai_runs.bulk.failing import Failing
from airflow_provider_openai_runs.bulk.fence import no_longer_running, state_within
from airflow_provider_openai_runs.bulk.item_errors import FirstFailures
from airflow_provider_openai_runs.runs.budgets import (
    BULK_KILL_ASK_SECONDS,
    BULK_KILL_SECONDS,
    CANCEL_WAIT,
    DEFERS_AFTER,
    PROGRESS_EVERY,
    SEND_WITHIN,
    SLOW_COMMIT,
)
from airflow_provider_openai_runs.runs.end_of_attempt import Cause, Ending, ending_of
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.record import NoLongerOwnerError

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

_SLOW_COMMITS = (
    "Creates wait for their journal, a write to output_path and one to Airflow, and that has taken more "
    f"than {SLOW_COMMIT:g} s. Where it takes {SEND_WITHIN:g} s, none is sent at all."
)


class DriveEnd(StrEnum):
    """Why the driver has stopped."""

    #: The attempt is over.
    OVER = "over"
    #: All that is left is to wait for runs.
    WAITS = "waits"
    #: The worker goes away, or the task has been ended.
    KILLED = "killed"
    #: A later attempt goes on with the items.
    REPLACED = "replaced"


@dataclass(kw_only=True)
class BulkDriver:
    """
    Drives one attempt.

    :param io: does what commands ask for.
    :param cancels: by cause of an early end, whether the user wants active runs cancelled.
    :param retry_left: whether Airflow tries again after this attempt.
    :param may_defer: whether a long wait is handed over.
    :param on_progress: called now and then; it must return at once.
    :param attempt_deadline: Unix seconds at which execution_timeout is over.
    :param tick: seconds between two questions for what to do next: what the answers of so long bring is
        decided together.
    :param clock: Unix seconds.
    """

    attempt: BulkAttempt
    io: BulkIO
    log: Logger
    cancels: Mapping[Cause, bool]
    retry_left: bool = True
    may_defer: bool = False
    on_progress: Callable[[], object] = lambda: None
    attempt_deadline: float | None = None
    tick: float = 0.05
    clock: Callable[[], float] = time.time
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    #: Creates, and cancels of runs that no journal names: an end waits for them.
    _paid: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _cause: Cause | None = field(default=None, init=False)
    _ends_by: float = field(default=float("inf"), init=False)
    _is_decided: bool = field(default=False, init=False)
    _ending: Ending | None = field(default=None, init=False)
    _is_replaced: bool = field(default=False, init=False)
    _error: BaseException | None = field(default=None, init=False)
    #: When this attempt was last proven to be the current one, in Unix seconds. Before its first commit it
    #: knows of no runs but those that a later one finds where it has found them itself.
    _owner_at: float = field(default=float("inf"), init=False)
    _failing: Failing = field(init=False)
    _first_failures: FirstFailures = field(init=False)

    def __post_init__(self) -> None:
        """Have something to say what fails."""
        self._failing = Failing(self.log)
        self._first_failures = FirstFailures(log=self.log)

    async def run(self) -> DriveEnd:
        """
        Drive the attempt to its end.

        :raises OpenAIRunError: if the input cannot be read, and a retry may get over it.
        """
        if self._cause is None:
            self._start(self._fence())
        self._start(self._progress())
        try:
            while (end := self._end()) is None:
                for command in self.attempt.next(self.clock()):
                    self._execute(command)
                for outcome in self.attempt.first_failures:
                    self._first_failures.on_outcome(outcome)
                await asyncio.sleep(self.tick)
        except Exception:
            self._cause = self._cause or Cause.FAILED
            await self._end_after_bug(self._cause)
            raise
        except BaseException:
            # Only this attempt knows what is not committed: nobody goes on with its journal in this worker.
            self._cause = self._cause or Cause.FAILED
            raise
        finally:
            left = [*self._tasks]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if self._error is not None:
            raise self._error
        return end

    def end_all(self, seconds: float) -> None:
        """End what is active, and do nothing else; the runs are another generation's."""
        self._cause, self._is_decided = Cause.KILLED, True
        self._ends_by = self.clock() + seconds
        self.attempt.stop(StopReason.KILLED)

    def end_early(self, cause: Cause, *, may_retry: bool = True) -> None:
        """Create nothing more, and end what is active, or leave it to a retry; call it on the event loop."""
        seconds = BULK_KILL_SECONDS if cause is Cause.KILLED else CANCEL_WAIT
        self._ends_by = min(self._ends_by, self.clock() + seconds)
        if self._cause is None:
            self._cause = cause
            self.attempt.stop(StopReason.LEFT)
            self._start(self._end_or_leave(cause, retry_left=self.retry_left and may_retry))

    # -- its end -------------------------------------------------------------------------------------------

    def _end(self) -> DriveEnd | None:
        now = self.clock()
        if self.attempt_deadline is not None and now >= self.attempt_deadline and self._cause is None:
            self.end_early(Cause.TIMED_OUT)
        if self._is_replaced:
            return DriveEnd.REPLACED if now >= self._ends_by or not self._is_ending_runs else None
        if self._cause is not None:
            is_over = self._is_decided and self.attempt.is_over
            return DriveEnd.KILLED if now >= self._ends_by or is_over else None
        if self.attempt.is_over:
            return DriveEnd.OVER
        is_quiet = self.may_defer and now >= self.attempt.moved_at + DEFERS_AFTER
        return DriveEnd.WAITS if is_quiet and self.attempt.only_waits else None

    @property
    def _is_ending_runs(self) -> bool:
        """Whether it has runs to end although it was replaced: unknown ones, or those of a task given up."""
        is_deciding = self._cause is not None and not self._is_decided
        is_cancelling = self._ending is Ending.CANCEL and self.attempt.is_cancelling
        return bool(self._paid) or is_deciding or is_cancelling

    @property
    def cause(self) -> Cause | None:
        """Why it ends early, if it does."""
        return self._cause

    async def _end_or_leave(self, cause: Cause, *, retry_left: bool) -> None:
        if self.cancels[cause]:
            state = await state_within(BULK_KILL_ASK_SECONDS, self.io.task_state, log=self.log)
            self._ending = ending_of(cause, state, retry_left=retry_left, adoptable=True)
            if self._ending is Ending.CANCEL or (
                self._ending is Ending.CANCEL_IF_OURS and not self._is_replaced
            ):
                self.attempt.stop(StopReason.at_end(cause, state, retry_left=retry_left))
        self._is_decided = True

    async def _end_after_bug(self, cause: Cause) -> None:
        """Hear what the creates bring that are under way, and end what is active, past what cannot go on."""
        if self._paid:
            await asyncio.wait(self._paid, timeout=CANCEL_WAIT)
        if not self._is_decided:
            await self._end_or_leave(cause, retry_left=self.retry_left)
        if self.attempt.is_cancelling and not self._is_replaced:
            cancels = [self._start(self._cancel(run)) for run in self.attempt.active]
            await asyncio.wait(cancels, timeout=CANCEL_WAIT)

    async def _fence(self) -> None:
        state = await no_longer_running(self.io.task_state)
        self.log.warning("The task is %s: nothing more is created", state.name or "cleared")
        self.end_early(Cause.KILLED)

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY)
            self.on_progress()

    # -- commands ------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _start_paid(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._start(work)
        self._paid.add(task)
        task.add_done_callback(self._paid.discard)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._error is None:
            self._error = error
            self.end_early(Cause.FAILED, may_retry=getattr(error, "retryable", True))

    def _execute(self, command: Command) -> None:
        match command:
            case ReadRows():
                self._start(self._read_rows(command))
            case Commit():
                self._start(self._commit(command.events))
            case Send():
                self._start_paid(self._send(command))
            case Poll():
                self._start(self._poll(command.run))
            case Cancel():
                self._start(self._cancel(command.run))
            case WritePart():
                self._start(self._write_part(command))
            case _:
                assert_never(command)

    async def _read_rows(self, command: ReadRows) -> None:
        try:
            rows, is_last = await self.io.read_rows(command)
        except OpenAIRunError as error:
            if error.retryable and self.retry_left:
                raise
            self.log.error("Nothing more is created, and what is active is collected: %s", error)  # noqa: TRY400 # it is no bug
            self.attempt.on_input_failed()
            return
        self.attempt.on_rows(rows, is_last=is_last, now=self.clock())

    async def _commit(self, events: tuple[Event, ...]) -> None:
        began_at = self.clock()
        try:
            with self._failing.lasting(SLOW_COMMIT, _SLOW_COMMITS):
                await self.io.commit(events)
        except NoLongerOwnerError:
            self._on_replaced(events)
        except Exception as error:  # noqa: BLE001 # of storage, of Airflow: without a commit nothing is sent
            self._failing.on_error("The journal", error)
            self.attempt.on_commit_failed(self.clock())
        else:
            self._failing.on_success("The journal")
            self._owner_at = began_at
            self.attempt.on_committed(began_at=began_at)

    async def _send(self, command: Send) -> None:
        row = command.row.number
        began_at = self.clock()
        sent = await self.io.create(command)
        if _is_our_delay(command, sent, began_at=began_at, now=self.clock()):
            self.attempt.on_too_late(row)
            return
        if isinstance(sent.brought, RequestFailure):
            self._first_failures.on_refused(row, sent.brought)
        self.attempt.on_sent(row, sent.brought, now=self.clock(), headers=sent.headers, ended=sent.ended)
        if self._is_replaced and isinstance(sent.brought, NewRun) and sent.ended is None:
            await self._end_unknown(sent.brought)

    async def _poll(self, run: NewRun) -> None:
        self.attempt.on_polled(run.row, await self.io.poll(run), now=self.clock())

    async def _cancel(self, run: NewRun) -> None:
        ended = await self.io.cancel(run)
        self.attempt.on_cancelled(run.row, ended, now=self.clock())

    async def _write_part(self, command: WritePart) -> None:
        try:
            await self.io.write_part(command.part)
        except Exception as error:  # noqa: BLE001 # of whichever storage
            self._failing.on_error("A file of results", error)
            self.attempt.on_part_failed(self.clock())
        else:
            self._failing.on_success("A file of results")
            self.attempt.on_part_written()

    # -- a later attempt -----------------------------------------------------------------------------------

    def _on_replaced(self, events: tuple[Event, ...]) -> None:
        """
        End the runs that the later attempt cannot know of.

        It reads what this one has written down, ``SEND_WITHIN`` after its own start and not before; so what
        was written within that time since the last commit belongs to it.
        """
        self.log.error("A later attempt has taken over; this one creates nothing more")
        self._is_replaced = True
        self._ends_by = min(self._ends_by, self.clock() + CANCEL_WAIT)
        self.attempt.stop(StopReason.LEFT)
        is_read = self.io.written_at <= self._owner_at + SEND_WITHIN
        handed_over = {run.id for event in events if isinstance(event, Created) for run in event.runs}
        for run in self.attempt.new_runs:
            if not is_read or run.id not in handed_over:
                self._start_paid(self._end_unknown(run))

    async def _end_unknown(self, run: NewRun) -> None:
        ended = await self.io.cancel(run)
        if isinstance(ended, RequestFailure):
            self.log.error("Row %d: run %s may be running and billing: %s", run.row, run.id, ended)
        else:
            self.log.warning(
                "Row %d: run %s, of which the later attempt does not know, has ended as %s",
                run.row,
                run.id,
                ended.raw_status,
            )


def _is_our_delay(command: Send, sent: Sent, *, began_at: float, now: float) -> bool:
    """Whether a create has not left since its commit had taken most of its time: no server is to blame."""
    is_late = isinstance(sent.brought, RequestFailure) and sent.brought.kind is FailureKind.NOT_SENT
    return is_late and now >= command.until and began_at > command.until - SEND_WITHIN / 2
