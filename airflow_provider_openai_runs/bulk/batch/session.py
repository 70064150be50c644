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
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_openai_runs.bulk.batch.attempt import BatchAttempt
from airflow_provider_openai_runs.bulk.batch.commands import Commit, Done, Wait
from airflow_provider_openai_runs.bulk.batch.ending import BatchEnding
from airflow_provider_openai_runs.bulk.batch.endings import Endings
from airflow_provider_openai_runs.bulk.batch.work import BatchWork
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.events import BatchCreated, BatchIntended
from airflow_provider_openai_runs.bulk.preparing import journal_errors
from airflow_provider_openai_runs.bulk.progress import KEY as PROGRESS
from airflow_provider_openai_runs.bulk.progress import Progress
from airflow_provider_openai_runs.bulk.work import Concluded, Waits
from airflow_provider_openai_runs.bulk.worker_session import WorkerSession
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.budgets import KILL_SECONDS
from airflow_provider_openai_runs.runs.end_of_attempt import Cause
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunRequestError
from airflow_provider_openai_runs.runs.prices import BATCH
from airflow_provider_openai_runs.runs.record import NoLongerOwnerError
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import Totals

#: Between two lines of the log that say how far the task is.
_SAY_EVERY = 60.0
_LEAST_PAUSE = 0.05


class BatchSession(WorkerSession):
    """One attempt of a bulk task whose items are in batches."""

    _attempt_deadline: float | None = None
    _before = Totals()
    _is_killed = False
    _ending: BatchEnding | None = None
    _killing: threading.Thread | None = None

    # -- what Airflow calls --------------------------------------------------------------------------------

    def run(self, *, attempt_deadline: float | None = None, may_defer: bool = True) -> Concluded | Waits:
        """Go on from the journal to the end of the items, or to a long wait."""
        self._attempt_deadline = self._ends_at(attempt_deadline)
        try:
            step = self._run(may_defer=may_defer and self._settings.deferrable)
            self._is_over = True
        except NoLongerOwnerError:
            text = "A later attempt of this task has taken over, and goes on with its batches."
            raise OpenAIRunError(text, retryable=False) from None
        except BaseException as error:
            if self._is_killed:
                raise
            # Before the batches are known: until the retry, a user may fix what they wait for.
            may_retry = self._ending is None or getattr(error, "retryable", True)
            cause = Cause.TIMED_OUT if isinstance(error, AirflowTaskTimeout) else Cause.FAILED
            self._end(cause, may_retry=may_retry)
            if self._ending is not None and isinstance(error, OpenAIRunError):
                raise error.saying(f"{error} {self._ending.left()}", retryable=may_retry) from error.__cause__
            raise
        else:
            return step
        finally:
            self._channel.close()

    def kill(self) -> None:
        """End early; called by a signal's handler, so it takes no lock and asks nothing."""
        ending = self._ending
        if self._is_over:
            return  # a trigger waits, or nothing is left
        self._is_killed = True
        if ending is not None and self._killing is None:
            context = contextvars.copy_context()
            killing = threading.Thread(
                target=context.run, args=(ending.end, Cause.KILLED), name="openai-batch-end", daemon=True
            )
            killing.start()
            self._killing = killing  # who sees it may join it

    # -- its way -------------------------------------------------------------------------------------------

    def _run(self, *, may_defer: bool) -> Concluded | Waits:
        settings, prepared = self._settings, self._prepared
        opened = self._opened()
        stored = prepared.stored()
        folder = prepared.folder(prepared.generation, stored)
        folder.check()
        before = Totals()
        if stored is not None and stored.generation != prepared.generation:
            before = self._endings.end_earlier_generation(
                stored, sleep=self._sleep, elsewhere=self._elsewhere
            )
        source, head = self._begun(opened, folder, before)
        self._before = head.before
        journal = prepared.journal(folder, prepared.generation)
        with journal_errors(folder.uri):
            items, found = prepared.read(journal)
        if items.runs:
            raise RunRequestError(
                "The task has begun without processing='batch', and has runs of its own: this attempt has "
                "sent nothing. Go back to it, or clear the task to begin anew."
            )
        self._check_account(folder, head, items)
        self._ending, limits = self._endings.of(items, head, folder), settings.limits
        attempt = BatchAttempt(
            items,
            token_of=head.token_of_batch,
            deadline=head.began_at + settings.completion_window,
            now=time.time(),
            max_failed=limits.max_failed,
            poll_interval=settings.poll_interval,
            max_resubmits=limits.max_resubmits if limits.on_lost_create == "resubmit" else 0,
            cancels=settings.cancel_on_timeout,
            found=found,
        )
        allowance = replace(prepared.allowance(head.conn_id, items), processing=BATCH)
        if not prepared.may_create(items):
            attempt.stop(StopReason.CEILING, time.time())
        if source.error is not None:
            attempt.stop(StopReason.INPUT, time.time())
        work = BatchWork.of(
            settings,
            attempt=attempt,
            journal=journal,
            folder=folder,
            head=head,
            runner=OpenAIRunsHook(head.conn_id, sleep=self._sleep, existed=bool(items.batches.count)),
            allowance=allowance,
            source=source,
            is_retry=self._ti.try_number > 1,
            retry_left=self._retry_left,
            log=self._log,
            sleep=self._sleep,
        )
        wait = self._drive(attempt, work, may_defer=may_defer)
        if wait is not None:
            self._raise_if_given_up()  # nobody would hear of it while Airflow hears that a trigger waits
            return work.waits(
                wait,
                window=settings.completion_window,
                attempt_deadline=self._attempt_deadline,
                progress=self._progress(attempt).values(),
            )
        if attempt.stopped is StopReason.WINDOW_OVER:
            work.expire_retries()
        if items.batches.active:
            self._log.error("%s", self._ending.left())
        return work.concluded(unpriced=prepared.unpriced)

    @property
    def _endings(self) -> Endings:
        return Endings(
            settings=self._settings,
            prepared=self._prepared,
            ask=self._ask,
            retry_left=self._retry_left,
            log=self._log,
        )

    def _end(self, cause: Cause, *, may_retry: bool = True) -> None:
        """End the batches, or leave them to a retry, wherever the main thread was."""
        try:
            if self._ending is None and (stored := self._prepared.stored()) is not None:
                self._ending = self._endings.of_stored(stored)
        except Exception as error:  # noqa: BLE001 # what is raised is the first one
            self._log.warning("Nothing could be ended: %s", message_text(error))
        if self._ending is not None:
            self._ending.end(cause, may_retry=may_retry)

    # -- the loop ------------------------------------------------------------------------------------------

    def _drive(self, attempt: BatchAttempt, work: BatchWork, *, may_defer: bool) -> Wait | None:
        """Do what is to be done, until it is over, or a trigger may wait: then return for what."""
        says_at = time.monotonic() + _SAY_EVERY
        while True:
            command = attempt.next(time.time())
            is_answer = isinstance(command, Commit) and isinstance(command.event, BatchCreated)
            if not is_answer:  # the id of a batch is kept whatever has happened during its create
                self._raise_if_over()
            if time.monotonic() >= says_at:
                says_at = time.monotonic() + _SAY_EVERY
                self._say(attempt)
            if isinstance(command, Done):
                self._say(attempt)
                return None
            if not isinstance(command, Wait):
                if isinstance(command, Commit) and isinstance(command.event, BatchIntended):
                    # The store of a task that was marked takes writes all the same.
                    self._raise_if_given_up()
                work.do(command)
            elif may_defer and command.may_defer:
                return command
            else:
                self._sleep(min(max(command.until - time.time(), _LEAST_PAUSE), _SAY_EVERY))

    def _raise_if_over(self) -> None:
        if self._is_killed:
            self._raise_killed()
        if self._attempt_deadline is not None and time.time() >= self._attempt_deadline:
            raise AirflowTaskTimeout(f"{Cause.TIMED_OUT}: the attempt ends.")

    def _raise_if_given_up(self) -> None:
        self._is_killed = self._is_killed or self._is_given_up()
        if self._is_killed:
            self._raise_killed()

    def _raise_killed(self) -> NoReturn:
        if self._killing is not None:
            self._killing.join(KILL_SECONDS)
            if self._ending is not None and not self._killing.is_alive():
                self._ending.go_on()
        else:
            self._end(Cause.KILLED)
        left = self._ending.left() if self._ending is not None else "Nothing of it is active."
        raise OpenAIRunError(f"{Cause.KILLED}. {left}")

    def _progress(self, attempt: BatchAttempt) -> Progress:
        def push(values: Mapping[str, Any]) -> None:
            self._channel.call(lambda: self._ti.xcom_push(key=PROGRESS, value=dict(values)))

        return Progress(attempt, before=self._before, log=self._log, push=push)

    def _say(self, attempt: BatchAttempt) -> None:
        self._progress(attempt).say().join(_SAY_EVERY)
