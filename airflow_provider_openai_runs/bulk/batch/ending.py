# SPDX-License-Identifier: Apache-2.0
"""Ends the batches of an attempt that ends before them, or leaves them to a retry, and names them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.bulk.batch.requests import BatchRequests
from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.budgets import CANCEL_WAIT
from airflow_provider_openai_runs.runs.end_of_attempt import UNKNOWN, Cause, Ending, TaskState, ending_of
from airflow_provider_openai_runs.runs.errors import RunCallError
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import Totals
from airflow_provider_openai_runs.wire import flows
from airflow_provider_openai_runs.wire.batches import Batch

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

_CANCELS = frozenset({Ending.CANCEL, Ending.CANCEL_IF_OURS})
_AT_ONCE = 10
_PAUSE = 2.0
#: Batches that a message names.
_NAMED = 20


@dataclass(kw_only=True)
class BatchEnding:
    """
    Ends the batches that the journal names, and before a clear the single runs of another ``processing``.

    :param before: what the runs of earlier generations have said.
    :param hook: of its own: another thread may use it.
    :param ask: asks Airflow for the state of the task instance.
    :param cancels: whether the user wants them cancelled, by cause.
    :param folder: where the journal lies.
    """

    hook: OpenAIRunsHook
    conn_id: str
    items: Items
    before: Totals
    folder: str
    log: Logger
    ask: Callable[[], TaskState]
    cancels: Mapping[Cause, bool]
    retry_left: bool
    #: Tokens of batches whose cancel was taken or that had ended, and ids of such runs.
    _ended: set[str] = field(default_factory=set, init=False)
    #: Tokens of batches that the server did not know when it was asked last.
    _unknown: set[str] = field(default_factory=set, init=False)
    _decided: Ending = field(default=Ending.LEAVE, init=False)

    @property
    def has_active(self) -> bool:
        """Whether anything may be going."""
        return bool(self._active or self._runs)

    @property
    def spent(self) -> Totals:
        """What all runs have said, also those of earlier generations."""
        return self.before + self.items.spent

    def end(self, cause: Cause, *, may_retry: bool = True) -> None:
        """End the batches after a mark or a clear, and where no retry goes on with them; say what is left."""
        if not self.has_active:
            return
        retry_left = may_retry and self.retry_left
        if self.cancels[cause]:
            self._decided = ending_of(cause, self._state(), retry_left=retry_left, adoptable=True)
        self.go_on()
        self.log.error("%s. %s", cause, self.left())

    def go_on(self) -> None:
        """End also what is known by now, as it was decided."""
        if self._decided in _CANCELS:
            self._cancel_each()

    def end_earlier(
        self, settings: BulkSettings, *, sleep: Callable[[float], None], elsewhere: str = ""
    ) -> None:
        """
        Ask the batches of before a clear to end, again where that fails.

        :param sleep: takes seconds.
        :param elsewhere: why nothing can be ended by this connection.
        :raises RunCallError: if something may go on, and the user wants nothing created then.
        """
        ends = time.monotonic() + (0.0 if elsewhere else settings.delete_within)
        if not elsewhere:
            self._cancel_each()
        while self.has_active and time.monotonic() + _PAUSE < ends:
            sleep(_PAUSE)
            self._cancel_each()
        self._ended |= self._unknown
        why = f"{elsewhere}. " if elsewhere else ""
        text = f"The task was cleared, and of before the clear: {why}{self.left()}"
        if self.has_active and settings.on_unendable == "fail":
            raise RunCallError(f"{text} Nothing was created.")
        (self.log.error if self.has_active else self.log.warning)("%s", text)

    def left(self) -> str:
        """Say what may be going, by the ids of batches and files, and what to do about it."""
        every = self.items.batches.active
        runs = [run.id for run in self._runs]
        if not every and not runs:
            return "Nothing of it is active."
        names = [f"{batch.name} (input {batch.file_id}{self._note(batch)})" for batch in every]
        named = ", ".join((names + runs)[:_NAMED])
        return (
            f"Not collected: {named}. Those that were not asked to end may be going, and what has finished "
            f"is billed; the journal in {self.folder} names them all. The next attempt goes on with them; "
            f"without one, 'python -m airflow_provider_openai_runs stop --path {self.folder}' ends them and "
            "keeps their results."
        )

    @property
    def _active(self) -> list[SentBatch]:
        return [batch for batch in self.items.batches.active if batch.token not in self._ended]

    @property
    def _runs(self) -> list[NewRun]:
        return [run for run in self.items.runs.values() if run.id not in self._ended]

    def _note(self, batch: SentBatch) -> str:
        return ", asked to end" if batch.token in self._ended else ""

    def _state(self) -> TaskState:
        try:
            return self.ask()
        except Exception as error:  # noqa: BLE001 # in whatever state Airflow's channel is
            self.log.warning("Airflow does not say whether the task goes on: %s", message_text(error))
            return UNKNOWN

    def _cancel_each(self) -> None:
        requests = BatchRequests(runner=self.hook)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            batches = {batch.token: threads.submit(_cancelled, requests, batch) for batch in self._active}
            runs = {run.id: threads.submit(self._has_ended, run) for run in self._runs}
        self._ended.update(name for name, ended in (batches | runs).items() if ended.result())
        self._unknown = {token for token, ended in batches.items() if ended.result() is None}

    def _has_ended(self, run: NewRun) -> bool:
        """End a single run; return whether it has."""
        ref = RunRef(kind=RunKind.RESPONSE, id=run.id, conn_id=self.conn_id)
        return self.hook.run_flow(flows.cancel(ref, wait=CANCEL_WAIT)).has_ended


def _cancelled(requests: BatchRequests, batch: SentBatch) -> bool | None:
    """Ask a batch to end; return whether it is ending or has ended, None if the server does not know it."""
    batch_id = batch.id
    if batch_id is None:
        found = requests.find(batch)
        if not isinstance(found, Batch):
            return False
        batch_id = found.id
    answer = requests.cancel(batch_id)
    if isinstance(answer, Batch):
        return True
    polled = requests.poll(batch_id)
    if isinstance(polled, Batch):
        return polled.has_ended
    return None if polled.says_gone else False
