# SPDX-License-Identifier: Apache-2.0
"""Waits in the triggerer for thousands of runs of one task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_openai_runs.attempts.state_questions import ask_ahead
from airflow_provider_openai_runs.attempts.task_state import task_state
from airflow_provider_openai_runs.runs.budgets import (
    BULK_TRIGGER_CANCEL_WAIT,
    BULK_TRIGGER_KILL_WAIT,
    EARLIEST_EVENT,
    FIRST_REMINDER,
    NEXT_REMINDER,
    PROGRESS_EVERY,
    STORAGE_PAUSE,
    TRIGGER_ASK_SECONDS,
)
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.times import utc
from airflow_provider_openai_runs.triggers import xcom

if TYPE_CHECKING:
    from airflow_provider_openai_runs.bulk.events import NewRun
    from airflow_provider_openai_runs.bulk.waiting import ManyWaits

#: How often a file that cannot be read is tried again.
_READS = 6
#: Cancels under way; asyncio itself holds its tasks only weakly.
_endings: set[asyncio.Task[None]] = set()


class BulkCompletionTrigger(BaseTrigger):
    """
    Poll the runs of a bulk task until a worker is needed again, or their time is over; then end them first.

    Only a path, numbers and flags travel in the arguments, which Airflow stores in plain JSON. Arguments of a
    later version are ignored.

    :param path: URI of the file with the runs to wait for.
    :param conn_id: of the runs.
    :param count: of the runs in the file.
    :param deadline: end of the completion window, in Unix seconds.
    :param attempt_deadline: start of the attempt + execution_timeout.
    :param ends: wake a worker after so many ended runs, since it has more to create.
    :param failures: wake a worker after more than so many runs that ended badly.
    :param collect_within: seconds that the end of a run may wait for a worker.
    :param polls_per_second: polls of all runs together.
    :param poll_interval: a fixed interval in seconds; None lets it grow with a run's age.
    :param cancel_on_kill: end the runs when a user marks or clears the task.
    :param cancel_on_timeout: end the runs when their time is over.
    :param progress: counts of the items when the worker left.
    :param deferred_at: when the worker handed over; no event is fired right after it.
    """

    #: What it waits for, as the log calls it, and how long their end is waited for at a deadline.
    _noun = "runs"
    _cancel_within = BULK_TRIGGER_CANCEL_WAIT

    def __init__(
        self,
        *,
        path: str,
        conn_id: str,
        count: int,
        deadline: float | None = None,
        attempt_deadline: float | None = None,
        ends: int | None = None,
        failures: int | None = None,
        collect_within: float = 300.0,
        polls_per_second: float = 200.0,
        poll_interval: float | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        progress: Mapping[str, Any] | None = None,
        deferred_at: float = 0.0,
        **_of_a_later_version: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.path = path
        self.conn_id = conn_id
        self.count = count
        self.deadline = deadline
        self.attempt_deadline = attempt_deadline
        self.ends = ends
        self.failures = failures
        self.collect_within = collect_within
        self.polls_per_second = polls_per_second
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.progress = dict(progress or {})
        self.deferred_at = deferred_at
        #: When each run was last seen active; ``on_kill`` need not poll those again.
        self._seen: dict[str, float] = {}
        self._has_fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to start this wait again."""
        names = (
            *("path", "conn_id", "count", "deadline", "attempt_deadline", "ends", "failures"),
            *("collect_within", "polls_per_second", "poll_interval", "cancel_on_kill"),
            *("cancel_on_timeout", "progress", "deferred_at"),
        )
        path = "airflow_provider_openai_runs.triggers.BulkCompletionTrigger"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event when a worker is needed; it says why, and carries no results."""
        if self.cancel_on_kill:
            ask_ahead(self.task_instance)
        event: dict[str, Any] = {"attempt_deadline": self.attempt_deadline}
        try:
            runs = await self._runs(tries=_READS)
        except Exception as error:  # noqa: BLE001 # of whichever storage; never "none active"
            event |= {"reason": "unreadable", "failure": message_text(error)}
        else:
            event |= await self._waited(runs)
        if self.task_instance is not None:  # there is none in dag.test(), which has no executor
            held_back = self.deferred_at + EARLIEST_EVENT - time.time()
            await asyncio.sleep(min(max(0.0, held_back), EARLIEST_EVENT))
        self._has_fired = True
        yield TriggerEvent(event)

    async def _waited(self, runs: list[NewRun]) -> dict[str, Any]:
        from airflow_provider_openai_runs.bulk.waiting import WakeUp  # noqa: PLC0415 # not for a Dag file

        wake_up = WakeUp(ends=self.ends, failures=self.failures, collect_within=self.collect_within)
        limits = [at for at in (self.deadline, self.attempt_deadline) if at is not None]
        async with await self._many(runs) as many:
            telling = asyncio.create_task(self._tell_progress(many, until=min(limits, default=None)))
            try:
                reason = await many.wait(wake_up, until=min(limits, default=None))
            finally:
                telling.cancel()
            if reason == "time_is_over" and self.cancel_on_timeout:
                left = await many.end_all(within=self._cancel_within)
                self.log.info(
                    "The time is over: %d %s were asked to end, %d may go on", len(many), self._noun, left
                )
            return {"reason": reason, "ended": many.ended, "failed": many.failed}

    async def on_kill(self) -> None:
        """
        End the runs after a user's mark or clear.

        Airflow 3.3 calls this also when a trigger merely moves to another triggerer, and may call it when the
        cleared task has started anew, which ends what it finds on record. There only an ended, cleared or
        deleted task instance gives the runs up.
        """
        if not self.cancel_on_kill:
            return
        # Airflow cancels a trigger again at every turn of its loop, which would end a slower on_kill midway.
        ending = asyncio.create_task(self._end_runs())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)
        await asyncio.shield(ending)

    async def _end_runs(self) -> None:
        state = await task_state(self.task_instance, within=TRIGGER_ASK_SECONDS, has_fired=self._has_fired)
        if not state.known:
            self.log.error(
                "Airflow did not say whether the task goes on. %d %s were left running and billing. Another"
                " triggerer, a retry or a clear goes on from there; if the task was marked, end them with "
                "'python -m airflow_provider_openai_runs stop --path' and the folder of %s",
                self.count,
                self._noun,
                self.path,
            )
            return
        if not state.ended:
            self.log.info("%d %s left alone, their task is %s", self.count, self._noun, state.name)
            return
        try:
            runs = await self._runs(tries=1)
        except Exception as error:  # noqa: BLE001 # of whichever storage
            self.log.error(  # noqa: TRY400 # the text says what there is to know
                "%d %s may go on and bill although their task is %s, since %s cannot be read: %s. End "
                "them with 'python -m airflow_provider_openai_runs stop --path' and the folder of %s",
                self.count,
                self._noun,
                state.name or "cleared",
                self.path,
                message_text(error),
                self.path,
            )
            return
        async with await self._many(runs) as many:
            left = await many.end_after_mark(within=BULK_TRIGGER_KILL_WAIT)
        if unread := self._unread(many, runs):
            self.log.warning(
                "Nobody has read what %s of them had answered: %s. Keep all with "
                "'python -m airflow_provider_openai_runs stop --path' and the folder of %s",
                *unread,
                self.path,
            )
        say = self.log.error if left else self.log.info
        say(
            "%d %s were asked to end because their task is %s; %d may go on and bill (%s names them)",
            len(runs),
            self._noun,
            state.name or "cleared",
            left,
            self.path,
        )

    def _unread(self, many: Any, runs: list[NewRun]) -> tuple[str, str] | None:
        """Return how many had ended before the mark, and their names; None if none had."""
        del runs
        from airflow_provider_openai_runs.bulk.waiting import names_of  # noqa: PLC0415 # not for a Dag file

        return (str(len(many.answered)), names_of(many.answered)) if many.answered else None

    async def _runs(self, *, tries: int) -> list[NewRun]:
        def read() -> list[NewRun]:
            from airflow_provider_openai_runs.bulk.waiting import from_lines  # noqa: PLC0415
            from airflow_provider_openai_runs.storage import OutputStore  # noqa: PLC0415 # brings fsspec

            folder, _, name = self.path.rpartition("/")
            store = OutputStore(folder, log=self.log, argument="path")
            return from_lines(store.read(name), count=self.count)

        for left in reversed(range(tries)):
            try:
                return await asyncio.to_thread(read)
            except Exception as error:
                if not left:
                    raise
                self.log.warning("Could not read %s, trying again: %s", self.path, message_text(error))
                await asyncio.sleep(STORAGE_PAUSE)
        return []

    async def _many(self, runs: list[NewRun]) -> ManyWaits:
        def make() -> ManyWaits:
            # The first import of the SDK takes most of a second, which the event loop does not have.
            from airflow_provider_openai_runs.bulk.many_runs import ManyRuns  # noqa: PLC0415

            return ManyRuns(
                runs,
                conn_id=self.conn_id,
                polls_per_second=self.polls_per_second,
                poll_interval=self.poll_interval,
                seen=self._seen,
            )

        return await asyncio.to_thread(make)

    async def _tell_progress(self, many: ManyWaits, *, until: float | None) -> None:
        """Say how far it is: in XCom, and in the log rarely, or when polls fail."""
        ends = f"until {utc(until)}" if until is not None else "without an end"
        remind_at = time.time() + FIRST_REMINDER
        while True:
            await asyncio.sleep(PROGRESS_EVERY)
            if (failed := many.failed_polls.line()) is not None:
                self.log.warning("%s", failed)
            if time.time() >= remind_at:
                remind_at = time.time() + NEXT_REMINDER
                self.log.info("%d of %d %s have ended, waiting %s", many.ended, self.count, self._noun, ends)
            if self.task_instance is None:
                continue
            try:
                await xcom.push(self.task_instance, {"progress": {**self.progress, **many.progress()}})
            except Exception as error:  # noqa: BLE001 # it is only shown
                self.log.debug("Could not push the progress: %s", message_text(error))
