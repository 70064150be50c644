# SPDX-License-Identifier: Apache-2.0
"""Ends the run of a task that is killed in its worker."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.attempts.task_state import ENDED, state_among
from airflow_provider_openai_runs.runs.budgets import (
    KILL_ASK_SECONDS,
    KILL_CANCEL_SECONDS,
    KILL_NOTICE_SECONDS,
    KILL_POLL_SECONDS,
)
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind
from airflow_provider_openai_runs.runs.fate import Fate
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.wire import wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

#: A later attempt has the run, or will have it; a user's mark or clear shows as another state.
_GOES_ON = frozenset({"running", "up_for_retry", "scheduled", "queued", "deferred"})


class KillHandler:
    """
    Watches over one attempt in a worker.

    ``kill`` runs in a signal handler on the main thread, which may hold the locks of Airflow's channel to its
    supervisor and of the client's connection pool. So it calls neither: it asks and cancels in threads of
    their own, on a client built beforehand, within the five seconds that Airflow leaves.

    :param cancel: ``cancel_on_kill``.
    :param adoptable: whether a retry would find the run again.
    """

    def __init__(self, *, ti: Any, cancel: bool, adoptable: bool, log: Logger) -> None:
        self._ti = ti
        self._cancel = cancel
        self._adoptable = adoptable
        self._log = log
        self._client: Any = None
        self._client_of: str | None = None
        self._withholds = False
        self._killed = False
        self._fate: str | None = None
        self._ended: RunRef | None = None
        self._ending = threading.Lock()
        self.ref: RunRef | None = None
        #: execution_timeout is over: Airflow then calls ``on_kill`` too, but nobody evicted the worker.
        self.timed_out = False

    def prepare(self, hook: OpenAIRunsHook) -> None:
        """Build the client that a kill will need."""
        if self._client_of != hook.conn_id:
            self._client, self._client_of = hook.get_conn(), hook.conn_id
            self._withholds = hook.withholds

    def watch(self, ref: RunRef) -> None:
        """Watch over this run from now on."""
        self.ref = ref

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
        if not self._killed:
            return
        with self._ending:
            self._end()
        raise OpenAIRunError(f"The task was killed. {self._fate or 'Nothing had been created.'}")

    def raise_if_ended(self) -> None:
        """
        Go no further if the task has been ended: Airflow refuses its defer, and calls nobody's ``on_kill``.

        :raises OpenAIRunError: when it was.
        """
        with suppress(Exception):  # unknown counts as wanted
            self._killed = self._killed or self._state() in ENDED
        self.raise_if_killed()

    def kill(self) -> None:
        """Note that the task is killed, and end its run."""
        self._killed = True
        if self.ref is None:
            return
        thread = threading.Thread(target=self._end_unless_ending, daemon=True)
        thread.start()
        thread.join(KILL_ASK_SECONDS + KILL_CANCEL_SECONDS)

    def _end_unless_ending(self) -> None:
        """Leave it to the main thread where that is at it: the signal handler must not wait for it."""
        if self._ending.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._ending.release()

    def _end(self) -> None:
        ref = self.ref
        # Another one may have been created meanwhile: the response that answers the calls of this one.
        if ref is None or self._ended == ref:
            return
        if not self._cancel:
            self._fate = f"{ref}: {Fate.LEFT_RUNNING.sentence()} (cancel_on_kill=False)"
        elif self._is_left_to_a_retry():
            self._fate = f"{ref}: the worker goes away, not the task; the run is left to the retry."
        else:
            self._fate = f"{ref}: {self._cancelled(ref)}"
        self._ended = ref
        self._log.warning("The task was killed. %s", self._fate)

    def _cancelled(self, ref: RunRef) -> str:
        from airflow_provider_openai_runs.transport import sdk  # noqa: PLC0415 # brings the SDK

        wire = wire_of(ref.kind)
        try:
            polled = sdk.send(self._client, replace(wire.cancel(ref), timeout=KILL_CANCEL_SECONDS))
        except ApiRequestFailed as failed:
            failure = replace(failed.failure, is_withheld=self._withholds)
            not_cancelled = f"{Fate.NOT_CANCELLED.sentence()} ({failure})"
            if failed.failure.kind is not FailureKind.REJECTED:
                return not_cancelled
            try:
                polled = sdk.send(self._client, replace(wire.poll(ref), timeout=KILL_POLL_SECONDS))
            except ApiRequestFailed:
                return not_cancelled
            if polled.status.is_active:
                return not_cancelled
        if polled.status is RunStatus.CANCELLED:
            return Fate.CANCELLED.sentence()
        return (Fate.ENDED if polled.status.is_terminal else Fate.CANCELLING).sentence(
            raw_status=polled.raw_status
        )

    def _is_left_to_a_retry(self) -> bool:
        """
        Ask Airflow: when a worker is shut down or evicted, its task instance stays ``running``.

        One that was silent for too long finds the state of its successor: waiting to be tried again, in the
        queue, running or deferred already. A task that is cleared while it runs is ``restarting`` instead.
        """
        if self.timed_out or not self._adoptable or self._ti.try_number > self._ti.max_tries:
            return False
        found: list[Any] = []

        def ask() -> None:
            with suppress(Exception):  # in whatever state Airflow's channel is
                found.append(self._state())

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(KILL_ASK_SECONDS)
        # Unknown counts as killed by a person: a run ended in vain is better than one nobody ends.
        return bool(found) and found[0] in _GOES_ON

    def _state(self) -> Any:
        ti = self._ti
        states = ti.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        ).get(ti.run_id, {})
        return state_among(states, ti)
