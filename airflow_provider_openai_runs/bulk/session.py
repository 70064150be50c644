# SPDX-License-Identifier: Apache-2.0
"""A bulk task in a worker: from its journal to a manifest, or to a wait that is handed over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_openai_runs.bulk.batch.endings import Endings
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.driver import DriveEnd
from airflow_provider_openai_runs.bulk.journal import Head
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.work import Concluded, Waits, Work, where_left
from airflow_provider_openai_runs.bulk.worker_loop import WorkerLoop
from airflow_provider_openai_runs.bulk.worker_session import WorkerSession
from airflow_provider_openai_runs.runs.budgets import CANCEL_WAIT
from airflow_provider_openai_runs.runs.end_of_attempt import Cause
from airflow_provider_openai_runs.runs.errors import (
    OpenAIRunError,
    RunCallError,
    RunRequestError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import Totals


class BulkSession(WorkerSession):
    """One attempt of a bulk task whose items are runs of their own."""

    _cause: Cause | None = None
    _work: Work | None = None
    _loop: WorkerLoop | None = None
    _is_replaced = False

    # -- what Airflow calls --------------------------------------------------------------------------------

    def run(self, *, attempt_deadline: float | None = None, may_defer: bool = True) -> Concluded | Waits:
        """Go on from the journal to the end of the items, or to a long wait."""
        try:
            step = self._run(attempt_deadline=self._ends_at(attempt_deadline), may_defer=may_defer)
            self._is_over = isinstance(step, Concluded)
        except BaseException as error:
            # Before its loop: until the retry, a user may fix what paid runs wait for.
            may_retry = self._loop is None or getattr(error, "retryable", True)
            left = self._on_error(error, may_retry=may_retry)
            self._is_over = True
            if not left:
                raise
            if isinstance(error, OpenAIRunError):
                raise error.saying(f"{error} {left}", retryable=may_retry) from error.__cause__
            self._log.error("%s", left)  # Airflow logs the error
            raise
        else:
            return step
        finally:
            self._channel.close()

    def kill(self) -> None:
        """End early; called by a signal's handler, so it takes no lock and asks nothing."""
        if self._is_over:
            return
        self._cause = self._cause or Cause.KILLED
        if self._loop is not None and not self._loop.is_done:
            self._loop.end_early(Cause.KILLED)
        elif self._work is not None and self._work.attempt.active:
            # Nobody ends them from here while Airflow hears that a trigger waits. A log has a lock.
            text = self._work.left()
            threading.Thread(target=self._log.error, args=("%s", text), daemon=True).start()

    # -- its way -------------------------------------------------------------------------------------------

    def _run(self, *, attempt_deadline: float | None, may_defer: bool) -> Concluded | Waits:
        settings = self._settings
        opened = self._opened()
        stored = self._prepared.stored()
        folder = self._prepared.folder(self._prepared.generation, stored)
        folder.check()
        before = Totals()
        if stored is not None and stored.generation != self._prepared.generation:
            before = self._end_earlier_generation(stored)
        source, head = self._begun(opened, folder, before)
        deadline = head.began_at + settings.completion_window
        self._work = work = self._prepared.work(folder, head, self._prepared.generation, deadline=deadline)
        if work.attempt.items.batches.active:
            raise RunRequestError(
                "The task has begun with processing='batch', and has batches: this attempt has sent nothing. "
                "Go back to it, or clear the task to begin anew."
            )
        self._check_account(folder, head, work.attempt.items)
        if not self._prepared.may_create(work.attempt.items):
            work.attempt.stop(StopReason.CEILING)
        if source.error is not None:
            work.attempt.stop(StopReason.INPUT)
        end = self._drive(
            work,
            rows=source.rows,
            may_defer=may_defer and settings.deferrable,
            attempt_deadline=attempt_deadline,
        )
        if end is DriveEnd.OVER:
            return work.concluded(source, retry_left=self._retry_left, unpriced=self._prepared.unpriced)
        if end is DriveEnd.WAITS and self._loop is not None:
            waits = work.waits(settings, attempt_deadline=attempt_deadline, progress=self._loop.progress())
            if self._cause is None and self._is_given_up():  # nobody would take the runs over
                self._cause = Cause.KILLED
            if self._cause is None:
                return waits
        raise self._early_end()

    def _end_earlier_generation(self, stored: Head) -> Totals:
        """
        End what a task has left active that was cleared: its user wants new runs.

        :return: what all runs of before have said.
        """
        work = self._prepared.work_of(stored)
        if work is None:
            return Totals()
        attempt, elsewhere = work.attempt, self._elsewhere(work.head, work.attempt.items)
        if attempt.items.batches.active:
            ending = self._endings.of(attempt.items, work.head, work.folder)
            ending.end_earlier(self._settings, sleep=self._sleep, elsewhere=elsewhere)
            return ending.spent
        if elsewhere:
            self._log.error("The task was cleared, and its runs of before cannot be ended. %s", elsewhere)
        elif attempt.active or work.lost:
            self._log.info("The task was cleared: ending %d runs of before", len(attempt.active))
            self._work = work
            self._drive(work, ends_within=self._settings.delete_within)
            if self._cause is not None:
                raise self._early_end()
        if work.lost:
            self._log.warning("Before the clear, %s", work.lost_named())
        if attempt.active:
            if self._settings.on_unendable == "fail":
                raise RunCallError("The runs of before the clear could not be ended. Nothing was created.")
            self._log.error("%s", work.left())
        self._work = None
        return work.head.before + attempt.items.spent

    @property
    def _endings(self) -> Endings:
        return Endings(
            settings=self._settings,
            prepared=self._prepared,
            ask=self._ask,
            retry_left=self._retry_left,
            log=self._log,
        )

    def _drive(
        self,
        work: Work,
        *,
        rows: Callable[[], Iterator[Row]] = lambda: iter(()),
        may_retry: bool = True,
        **of_loop: Any,
    ) -> DriveEnd:
        self._loop = WorkerLoop(
            work=work,
            settings=self._settings,
            rows=rows,
            ti=self._ti,
            channel=self._channel,
            ask=self._ask,
            log=self._log,
            retry_left=may_retry and self._retry_left,
            ends_early=self._cause,
            **of_loop,
        )
        if self._cause is not None:  # killed in between
            self._loop.end_early(self._cause)
        if (end := self._loop.run()) is DriveEnd.REPLACED:
            self._is_replaced = True
            text = "A later attempt of this task has taken over, and goes on with its runs."
            raise OpenAIRunError(text, retryable=False)
        return end

    def _raise_if_over(self) -> None:
        if self._cause is not None:
            raise self._early_end()

    # -- its end -------------------------------------------------------------------------------------------

    def _early_end(self) -> OpenAIRunError:
        cause = (self._loop.cause if self._loop is not None else None) or self._cause or Cause.KILLED
        kind = RunTimeoutError if cause is Cause.TIMED_OUT else OpenAIRunError
        return kind(f"{cause}.", retryable=True)

    def _on_error(self, error: BaseException, *, may_retry: bool) -> str:
        """
        End what is active, or leave it to a retry, wherever the main thread was when this was raised.

        :return: what may be active after that, and where.
        """
        if self._is_replaced:
            return ""
        self._cause = self._cause or (
            Cause.TIMED_OUT if isinstance(error, AirflowTaskTimeout) else Cause.FAILED
        )
        loop, uri = self._loop, None
        if loop is not None and not loop.is_done:
            loop.end_early(self._cause)
            loop.join(CANCEL_WAIT + 1)
        if loop is None or (loop.is_done and loop.cause is None):
            try:
                if left := self._end_or_leave(may_retry=may_retry):
                    return left
            except Exception as again:  # noqa: BLE001 # what is raised is the first one
                self._log.warning("Nothing could be ended: %s", message_text(again))
                with suppress(OpenAIRunError):
                    uri = (
                        self._prepared.last_uri or self._prepared.folder(self._prepared.generation, None).uri
                    )
        if self._work is not None:
            return self._work.left()
        if uri is None:
            return ""
        return f"What earlier attempts have created may be running and billing. {where_left(uri)}"

    def _end_or_leave(self, *, may_retry: bool) -> str:
        """
        Decide about what is active where no loop has, also if it is only of earlier attempts.

        :return: what is said of batches, which only a task has that has begun with them.
        """
        if self._work is None:
            stored = self._prepared.stored()
            self._work = None if stored is None else self._prepared.work_of(stored, as_it_is=True)
        elif self._loop is not None:
            # The attempt of that loop waits for answers that nobody will bring. All it knew is committed.
            attempt = self._prepared.attempt(
                self._work.journal, self._work.head, items=self._work.attempt.items
            )
            self._work = replace(self._work, attempt=attempt)
        if self._work is not None and self._work.attempt.items.batches.active:
            ending = self._endings.of(self._work.attempt.items, self._work.head, self._work.folder)
            ending.end(self._cause or Cause.FAILED, may_retry=may_retry)
            return ending.left()
        if self._work is not None and self._work.attempt.active:
            self._drive(self._work, may_retry=may_retry)
        return ""
