# SPDX-License-Identifier: Apache-2.0
"""Watches over one attempt in a worker: whatever ends it, its run is ended, left to a retry, or named."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.sdk import exceptions

from airflow_provider_openai_runs.attempts.end_run import EndedRun, RunEnding
from airflow_provider_openai_runs.attempts.last_requests import LastRequests, Watched
from airflow_provider_openai_runs.runs.budgets import (
    CANCEL_WAIT,
    KILL_NOTICE_SECONDS,
    KILL_SECONDS,
    NOT_FOUND_GRACE,
)
from airflow_provider_openai_runs.runs.end_of_attempt import ENDED, Cause, has_retry_left
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.tool_calls.worker_thread import Job, Worker
from airflow_provider_openai_runs.wire import Flow

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook


def _known(*names: str) -> tuple[type[BaseException], ...]:
    """Return those of Airflow's exceptions that this Airflow has."""
    return tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))


#: By these the task leaves its worker and comes back.
_LEAVES: tuple[type[BaseException], ...] = (
    TaskDeferred,
    *_known("TaskAwaitingInput", "AirflowRescheduleException"),
)
#: After these Airflow does not try again, whatever is left.
_FINAL: tuple[type[BaseException], ...] = (
    AirflowFailException,
    AirflowSkipException,
    *_known("AirflowTaskTerminated"),
)


class KillHandler:
    """
    Watches over what one attempt has paid for.

    ``kill`` runs in a signal handler on the main thread, which may be in the middle of a question to
    Airflow's supervisor: there is one socket, and one lock. So it takes no lock, sets a flag, starts a thread
    and returns. What the main thread has asked is answered then, the thread asks its own question, and the
    main thread waits for it before it leaves the task, within the five seconds that Airflow leaves.

    :param requests: how Airflow, the store and the server are asked.
    :param cancels: whether the user wants the run cancelled, by cause, and what the argument is called.
    """

    def __init__(
        self, *, requests: LastRequests, cancels: Mapping[Cause, tuple[str, bool]], log: Logger
    ) -> None:
        self._requests = requests
        self._cancels = cancels
        self._log = log
        self._killed_at: float | None = None
        self._watched: Watched | None = None
        self._raised: OpenAIRunError | None = None
        self._handled: tuple[Watched, EndedRun] | None = None
        self._one_at_a_time = threading.Lock()
        self._creates = Worker(name="openai-run-create")

    # -- what is watched ----------------------------------------------------------------------------------

    def prepare(self, hook: OpenAIRunsHook) -> None:
        """Build the client that a kill will need."""
        self._requests.prepare(hook.conn_id, hook.get_conn)

    def watch(self, ref: RunRef, *, close: Callable[[], Flow[str | None]] | None = None) -> None:
        """
        Watch over this run from now on.

        :param close: the flow that answers the calls that it waits for with an error.
        """
        watched = self._watched
        if watched is None or watched.ref != ref or watched.fate or close is not None:
            self._watched = Watched(kind=ref.kind, conn_id=ref.conn_id, ref=ref, close=close)

    def settle(self, ref: RunRef | None = None, fate: str = "") -> None:
        """
        Watch no longer: the run has ended, or the error of its wait says what became of it.

        :param fate: what a kill says of ``ref`` from now on, in a sentence.
        :raises OpenAIRunError: when it was a kill that has ended it.
        """
        is_said = self._raised is not None
        if self._killed_at is not None and not is_said and self._ended(Cause.KILLED).touched:
            self._raise_killed()
        self._watched = Watched(kind=ref.kind, conn_id=ref.conn_id, ref=ref, fate=fate) if ref else None

    def send(
        self, kind: str, conn_id: str, intent: Record, send: Callable[[], Run | RequestFailure]
    ) -> Run | RequestFailure:
        """
        Send a create in a thread of its own: its answer arrives whatever is raised on the main thread.

        :param intent: as it stands on record.
        """
        before, job = self._watched, Job(send, contextvars.copy_context())
        watched = Watched(kind=kind, conn_id=conn_id, intent=intent, create=job)
        self._watched = watched
        self._creates.start(job)
        job.done.wait()
        if job.error is not None:
            raise job.error
        reply: Run | RequestFailure = job.result
        if isinstance(reply, Run):
            self._watched = replace(watched, ref=reply.ref, visible_by=time.time() + NOT_FOUND_GRACE)
        elif reply.not_accepted:
            self._watched = before
        return reply

    # -- a kill -------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Note that the task is killed, and have its run ended."""
        self._killed_at = self._killed_at or time.monotonic()
        if self._is_open():
            self._start(Cause.KILLED)

    def sleep(self, seconds: float) -> None:
        """
        Sleep, unless the task is killed.

        :raises OpenAIRunError: when it was.
        """
        ends = time.monotonic() + seconds
        while True:
            self.raise_if_killed()
            left = ends - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, KILL_NOTICE_SECONDS))

    def raise_if_killed(self) -> None:
        """
        Go no further once the task is killed; a run that was created meanwhile is ended first.

        :raises OpenAIRunError: when it was.
        """
        if self._killed_at is not None:
            self._raise_killed()

    def raise_if_ended(self) -> None:
        """
        Go no further if the task has been ended: Airflow refuses its defer, and calls nobody's ``on_kill``.

        :raises OpenAIRunError: when it was.
        """
        with suppress(Exception):  # unknown counts as wanted
            if self._requests.state().name in ENDED:
                self._killed_at = self._killed_at or time.monotonic()
        self.raise_if_killed()

    # -- any other end ------------------------------------------------------------------------------------

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Whatever ends the attempt, see that its run is ended, left to a retry, or named in the log."""
        try:
            yield
        except _LEAVES:
            if self._killed_at is not None and self._ended(Cause.KILLED).touched:
                self._raise_killed()
            raise
        except BaseException as error:
            self._end_after(error)
            raise
        else:
            if self._killed_at is not None:
                self._ended(Cause.KILLED)
        finally:
            # Its traceback holds the attempt and its clients, which would hold it in turn.
            self._raised = None

    def _end_after(self, error: BaseException) -> None:
        if error is self._raised:
            return
        watched = self._watched
        why = f"{Cause.FAILED} ({type(error).__name__}: {message_text(error)})"
        if self._killed_at is not None:
            # Of a run that is cancelled here, the wait may say that somebody else has done it.
            if self._ended(Cause.KILLED).touched and isinstance(error, Exception):
                self._raise_killed()
        elif isinstance(error, AirflowTaskTimeout):
            self._ended(Cause.TIMED_OUT)
        elif not isinstance(error, OpenAIRunError):
            self._ended(Cause.FAILED, why=why, may_retry=not isinstance(error, _FINAL))
        elif watched is not None and watched.ref is not None and not watched.fate:
            # Foreseen: whoever raised it means the run to go on, for a fixed connection or another answer.
            self._log.warning("%s. %s was left as it is and may be running and billing", why, watched.ref)

    # -- how ----------------------------------------------------------------------------------------------

    def _raise_killed(self) -> NoReturn:
        self._raised = OpenAIRunError(f"{Cause.KILLED}. {self._ended(Cause.KILLED).text}")
        self._raised.is_logged = True  # by the end of its run
        raise self._raised from None

    def _is_open(self) -> bool:
        watched, handled = self._watched, self._handled
        if watched is None or handled is None:
            return watched is not None
        return watched is not handled[0] and (watched.ref is None or watched.ref != handled[1].ref)

    def _ended(self, cause: Cause, *, why: str = "", may_retry: bool = True) -> EndedRun:
        """End what is watched, in a thread, since it asks Airflow; and wait for it."""
        if self._is_open():
            # Without a kill nobody sends SIGKILL, and a cancel that fails for now is sent again.
            more = 0.0 if cause is Cause.KILLED else CANCEL_WAIT
            thread = self._start(cause, why=why, may_retry=may_retry)
            thread.join(self._began() + KILL_SECONDS + more - time.monotonic())
        if self._handled is not None and not self._is_open():
            return self._handled[1]
        return EndedRun(text="Nothing had been created." if self._watched is None else _TOO_LATE)

    def _start(self, cause: Cause, *, why: str = "", may_retry: bool = True) -> threading.Thread:
        def end() -> None:
            with self._one_at_a_time:
                if (watched := self._watched) is not None and self._is_open():
                    ending = RunEnding(
                        requests=self._requests,
                        watched=watched,
                        cause=cause,
                        cancels=self._cancels[cause],
                        retry_left=may_retry and has_retry_left(self._requests.ti),
                        began=self._began(),
                    )
                    said = f"{watched.ref}: {watched.fate}"
                    ended = EndedRun(ref=watched.ref, text=said) if watched.fate else ending.end()
                    (self._log.error if ended.is_loud else self._log.warning)(
                        "%s. %s", why or cause, ended.text
                    )
                    self._handled = (watched, ended)

        thread = threading.Thread(target=end, name="openai-run-end", daemon=True)
        thread.start()
        return thread

    def _began(self) -> float:
        """Return when the seconds that are left began; after a kill that did not come, they begin anew."""
        now = time.monotonic()
        killed_at = self._killed_at
        return now if killed_at is None or now >= killed_at + KILL_SECONDS else killed_at


_TOO_LATE = "What became of its run is not known yet: see the line above, or the log of the next attempt."
