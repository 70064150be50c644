# SPDX-License-Identifier: Apache-2.0
"""
A bulk task by batches in a worker: from its journal to a manifest, or to a wait that is handed over.

All is done on the main thread, one thing after another: there are few requests. A kill ends the batches in a
thread of its own, since the main thread may be in the middle of a file.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_openai_runs.bulk import waiting
from airflow_provider_openai_runs.bulk.batch.attempt import BatchAttempt
from airflow_provider_openai_runs.bulk.batch.commands import Command, Commit, Done, Wait
from airflow_provider_openai_runs.bulk.batch.ending import BatchEnding
from airflow_provider_openai_runs.bulk.batch.work import BatchWork
from airflow_provider_openai_runs.bulk.channel import Channel, StoreInLine
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.events import BatchIntended
from airflow_provider_openai_runs.bulk.head import TaskHead, begin
from airflow_provider_openai_runs.bulk.inputs import BulkInput
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.journal import Head, Journal, StateStore
from airflow_provider_openai_runs.bulk.manifest import conclude
from airflow_provider_openai_runs.bulk.preparing import Preparation
from airflow_provider_openai_runs.bulk.progress import Progress
from airflow_provider_openai_runs.bulk.session import Concluded, Waits
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.storage import HEAD, WAITING, StorageFolder
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.budgets import KILL_NOTICE_SECONDS, KILL_SECONDS
from airflow_provider_openai_runs.runs.end_of_attempt import Cause, TaskState
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError, RunRequestError
from airflow_provider_openai_runs.runs.record import NoLongerOwnerError

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Between two lines of the log that say how far the task is.
_SAY_EVERY = 60.0
_LEAST_PAUSE = 0.05


class BatchSession:
    """
    One attempt in a worker; the parameters are those of ``BulkSession``, in whose place it stands.

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
        self._ask = ask
        self._source = source
        self._log = log
        self._started_at = time.time()
        self._prepared = Preparation(
            settings=settings,
            ti=ti,
            store=StoreInLine(store, self._channel),
            source=source,
            log=log,
            sleep=self._sleep,
            started_at=self._started_at,
        )
        self._attempt_deadline: float | None = None
        self._is_killed = False
        self._ending: BatchEnding | None = None
        self._killing: threading.Thread | None = None

    # -- what Airflow calls --------------------------------------------------------------------------------

    def run(self, *, attempt_deadline: float | None = None, may_defer: bool = True) -> Concluded | Waits:
        """
        Go on from the journal to the end of the items, or to a long wait.

        :param attempt_deadline: Unix seconds, of an attempt that was deferred.
        :param may_defer: whether a long wait may be handed over.
        :raises OpenAIRunError: if the attempt ends before.
        """
        settings, generation = self._settings, self._prepared.generation
        if attempt_deadline is None and settings.execution_timeout is not None:
            attempt_deadline = self._started_at + settings.execution_timeout
        self._attempt_deadline = attempt_deadline
        folder = self._prepared.folder(generation)
        folder.check()
        self._end_earlier_generation()
        head = begin(folder, self._prepared.head())
        journal = self._prepared.journal(folder, generation)
        items, found = self._prepared.read(journal)
        if items.runs:
            raise RunRequestError(
                "The task has begun without processing='batch', and has runs of its own: this attempt has "
                "sent nothing. Go back to it, or clear the task to begin anew."
            )
        hook = OpenAIRunsHook(head.conn_id, sleep=self._sleep, existed=bool(items.batches.count))
        attempt = BatchAttempt(
            items,
            token_of=head.token_of_batch,
            deadline=head.began_at + settings.completion_window,
            now=time.time(),
            max_failed=settings.limits.max_failed,
            poll_interval=settings.poll_interval,
            cancels=settings.cancel_on_timeout,
            found=found,
        )
        work = BatchWork.of(
            settings,
            attempt=attempt,
            journal=journal,
            folder=folder,
            head=head,
            runner=hook,
            source=self._source,
            is_retry=self._ti.try_number > 1,
            log=self._log,
            sleep=self._sleep,
        )
        self._ending = BatchEnding(
            hook=OpenAIRunsHook(head.conn_id, existed=True),
            items=items,
            ask=self._ask,
            cancels=settings.cancels,
            retry_left=bool(self._ti.try_number <= self._ti.max_tries),
            folder=folder.uri,
            log=self._log,
        )
        with self._guard(self._ending):
            wait = self._drive(attempt, work, may_defer=may_defer and settings.deferrable)
            if wait is not None:
                return self._waits(attempt, journal, folder, head, wait)
            if attempt.stopped is StopReason.WINDOW_OVER:
                work.expire_retries()
            return self._concluded(attempt, folder, head)

    def kill(self) -> None:
        """End early; called by a signal's handler, so it takes no lock and asks nothing."""
        self._is_killed = True
        ending = self._ending
        if ending is not None and self._killing is None:
            context = contextvars.copy_context()
            self._killing = threading.Thread(
                target=context.run, args=(ending.end, Cause.KILLED), name="openai-batch-end", daemon=True
            )
            self._killing.start()

    # -- before --------------------------------------------------------------------------------------------

    def _end_earlier_generation(self) -> None:
        """End what a task has left active that was cleared: its user wants new items."""
        stored = self._prepared.store.load()
        generation = self._prepared.generation
        if stored is None or (earlier := Head.from_json(stored).generation) == generation:
            return
        folder = self._prepared.folder(earlier)
        try:
            head = TaskHead.from_bytes(folder.read(HEAD))
        except FileNotFoundError:
            return
        items = Items.of(self._prepared.journal(folder, earlier).load())
        if not (items.batches.active or items.runs):
            return
        ending = BatchEnding.of_earlier(
            hook=OpenAIRunsHook(head.conn_id, sleep=self._sleep, existed=True),
            items=items,
            folder=folder.uri,
            log=self._log,
        )
        left = ending.end_all(within=self._settings.delete_within)
        if items.runs or left:
            text = f"The task was cleared, and this is left of before. {ending.left()}"
            if self._settings.on_unendable == "fail":
                raise RunCallError(f"{text} Nothing was created.")
            self._log.error("%s", text)

    # -- the loop ------------------------------------------------------------------------------------------

    def _drive(self, attempt: BatchAttempt, work: BatchWork, *, may_defer: bool) -> Wait | None:
        """Do what is to be done, until it is over, or a trigger may wait: then return for what."""
        says_at = time.monotonic() + _SAY_EVERY
        while True:
            self._raise_if_over()
            if time.monotonic() >= says_at:
                says_at = time.monotonic() + _SAY_EVERY
                self._say(attempt)
            command = attempt.next(time.time())
            if isinstance(command, Done):
                self._say(attempt)
                return None
            if not isinstance(command, Wait):
                self._raise_if_given_up(command)
                work.do(command)
            elif may_defer and command.may_defer:
                return command
            else:
                self._sleep(min(max(command.until - time.time(), _LEAST_PAUSE), _SAY_EVERY))

    @contextmanager
    def _guard(self, ending: BatchEnding) -> Iterator[None]:
        """Whatever ends the attempt, see that its batches are ended, left to a retry, or named in the log."""
        try:
            yield
        except NoLongerOwnerError:
            text = "A later attempt of this task has taken over, and goes on with its batches."
            raise OpenAIRunError(text, retryable=False) from None
        except BaseException as error:
            if not self._is_killed:
                ending.end(Cause.TIMED_OUT if isinstance(error, AirflowTaskTimeout) else Cause.FAILED)
            raise

    def _raise_if_over(self) -> None:
        if self._is_killed:
            self._raise_killed()
        if self._attempt_deadline is not None and time.time() >= self._attempt_deadline:
            raise AirflowTaskTimeout(f"{Cause.TIMED_OUT}: the attempt ends.")

    def _raise_if_given_up(self, command: Command) -> None:
        """Create nothing for a task that was marked meanwhile: its store takes writes all the same."""
        if not (isinstance(command, Commit) and isinstance(command.event, BatchIntended)):
            return
        with suppress(Exception):  # unknown counts as wanted
            if self._channel.call(self._ask).ended:
                self.kill()
                self._raise_killed()

    def _raise_killed(self) -> NoReturn:
        if self._killing is not None:
            self._killing.join(KILL_SECONDS)
        left = self._ending.left() if self._ending is not None else "Nothing of this attempt is active."
        raise OpenAIRunError(f"{Cause.KILLED}. {left}")

    def _sleep(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self._raise_if_over()
            time.sleep(min(left, KILL_NOTICE_SECONDS))

    # -- after ---------------------------------------------------------------------------------------------

    def _say(self, attempt: BatchAttempt) -> None:
        def push(values: Any) -> None:
            self._channel.call(lambda: self._ti.xcom_push(key="progress", value=dict(values)))

        Progress(attempt, log=self._log, push=push).say().join(_SAY_EVERY)

    def _waits(
        self, attempt: BatchAttempt, journal: Journal, folder: StorageFolder, head: TaskHead, wait: Wait
    ) -> Waits:
        self._say(attempt)
        runs = waiting.of_batches(attempt.items.batches.active)
        name = f"{journal.writer}-{journal.segments}.jsonl"
        folder.write(waiting.to_lines(runs), WAITING, name)
        wakes_again = attempt.has_more and attempt.stopped is None
        return Waits(
            path=folder.uri_of(WAITING, name),
            conn_id=head.conn_id,
            count=len(runs),
            deadline=head.began_at + self._settings.completion_window,
            attempt_deadline=self._attempt_deadline,
            wake_up=waiting.WakeUp(ends=1 if wakes_again else None, collect_within=float("inf")),
            progress=Progress(attempt, log=self._log, push=lambda _: None).values(),
            wake_at=wait.until if wakes_again else None,
        )

    def _concluded(self, attempt: BatchAttempt, folder: StorageFolder, head: TaskHead) -> Concluded:
        manifest = conclude(
            folder,
            self._source,
            attempt.items,
            seconds=time.time() - head.began_at,
            stopped=attempt.stopped,
        )
        if attempt.items.batches.active and self._ending is not None:
            self._log.error("%s", self._ending.left())
        return Concluded(manifest=manifest, folder=folder, stopped=attempt.stopped)
