# SPDX-License-Identifier: Apache-2.0
"""What an attempt that ends before its run asks of Airflow, of the store and of the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.attempts.task_state import state_in_worker
from airflow_provider_openai_runs.runs.end_of_attempt import TaskState
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.record import NoLongerOwnerError, Record
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.tool_calls.worker_thread import Job
from airflow_provider_openai_runs.wire import Flow, flows

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watched:
    """
    What an attempt has paid for and not seen the end of.

    :param ref: the run; None while its create is not answered.
    :param visible_by: until this Unix time a 404 means that the run is not visible yet.
    :param intent: of a create of this attempt.
    :param create: the create under way, or the one that was not answered.
    :param close: the flow that answers the calls of the run with an error, as long as they are not answered.
    :param fate: what became of the run, where the wait for it is over: there is nothing to end, only to say.
    """

    kind: str
    conn_id: str
    ref: RunRef | None = None
    visible_by: float = 0.0
    intent: Record | None = None
    create: Job | None = None
    close: Callable[[], Flow[str | None]] | None = None
    fate: str = ""


@dataclass(kw_only=True)
class LastRequests:
    """
    What an attempt asks of Airflow, of the store and of the server before it ends.

    In threads: there is one channel to Airflow, and who asks may wait for ever.

    :param ti: Airflow's task instance.
    :param withholds: repeat nothing that the server says of an error: it may quote a prompt or an answer.
    """

    ti: Any
    store: RecordStore
    withholds: bool = False
    _clients: dict[str, Any] = field(default_factory=dict)

    def prepare(self, conn_id: str, client: Callable[[], Any]) -> None:
        """Build the client that will be needed, while there is time."""
        if conn_id not in self._clients:
            self._clients[conn_id] = client()

    def state(self) -> TaskState:
        """Ask Airflow for the state of the task instance."""
        return state_in_worker(self.ti)

    def keep(self, watched: Watched, ref: RunRef) -> bool:
        """See that the run of a create is on record; False if another attempt has taken over without it."""
        record = self.store.load()
        return (record is not None and record.ref == ref) or self.mark(watched, ref)

    def mark(self, watched: Watched, ref: RunRef | None, **marks: bool) -> bool:
        """Write down what is about to be done to the run; False if the record is another attempt's by now."""
        record = self.store.load()
        if record is None:
            return True
        if record.run is not None:
            is_ours = record.run.ref == ref
        else:
            is_ours = watched.intent is not None and record.token == watched.intent.token
        if not is_ours:
            return False
        if ref is not None and record.run is None:
            run = TrackedRun(ref=ref, created_at=time.time(), deadline=record.deadline, rounds=record.rounds)
            record = record.with_run(run)
        try:
            self.store.save(replace(record, **(marks if ref else {})))  # type: ignore[arg-type]  # flags only
        except NoLongerOwnerError:
            return False
        return True

    def run_flow(self, flow: Flow[T], conn_id: str, *, budget: float) -> T:
        """
        Run a flow on a client of one's own.

        :raises ApiRequestFailed: for the caller to decide about.
        """
        from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook  # noqa: PLC0415 # brings the SDK
        from airflow_provider_openai_runs.transport import driver, sdk  # noqa: PLC0415

        self.prepare(conn_id, lambda: OpenAIRunsHook(conn_id).get_conn())
        flow = flows.with_retries(flow, budget=budget)
        return driver.run(
            flows.withholding(flow) if self.withholds else flow,
            send=partial(sdk.send, self._clients[conn_id]),
            sleep=time.sleep,
            refresh_connection=lambda: None,
        )


def started(ask: Callable[[], T]) -> Future[T]:
    """Ask in a thread of its own, which may wait for its answer for ever."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:  # noqa: BLE001 # in whatever state Airflow's channel is
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def answer_of(asked: Future[T], until: float) -> T | None:
    """Wait until then, on the monotonic clock; None if nobody knows."""
    try:
        return asked.result(max(0.0, until - time.monotonic()))
    except BaseException:  # noqa: BLE001 # it failed, whatever it is, or is late
        return None
