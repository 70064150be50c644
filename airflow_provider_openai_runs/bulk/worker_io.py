# SPDX-License-Identifier: Apache-2.0
"""What a driver asks for, done in a worker: requests on its event loop, all that blocks in threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from airflow_provider_openai_runs.bulk.allowance import Allowance
from airflow_provider_openai_runs.bulk.commands import Polled, ReadRows, Send, Sent
from airflow_provider_openai_runs.bulk.events import Event, NewRun
from airflow_provider_openai_runs.bulk.in_thread import in_thread
from airflow_provider_openai_runs.bulk.journal import Folder, Journal
from airflow_provider_openai_runs.bulk.parts import Part
from airflow_provider_openai_runs.bulk.requests import BulkRequests
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.storage import RESULTS
from airflow_provider_openai_runs.runs.budgets import STORAGE_PAUSE
from airflow_provider_openai_runs.runs.end_of_attempt import TaskState
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunRequestError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.request import RunRequest

#: How often an input that storage does not give is opened again.
_TRIES = 6
_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class RowReader:
    """
    Reads rows one after another, and from the start again.

    :param rows: opens the input.
    :param request_of: checks the arguments of a row.
    :param allowance: what its run may take.
    """

    rows: Callable[[], Iterator[Row]]
    request_of: Callable[[Mapping[str, Any]], RunRequest]
    allowance: Allowance = field(default_factory=Allowance)
    sleep: Callable[[float], None] = time.sleep
    _iterator: Iterator[Row] | None = field(default=None, init=False)
    _position: int = field(default=0, init=False)

    def read(self, count: int, *, from_start: bool) -> tuple[list[Row], bool]:
        """
        Return the next rows, and whether they are the last ones.

        :raises OpenAIRunError: if the input cannot be read.
        """
        if from_start:
            self._iterator, self._position = None, 0
        for left in reversed(range(_TRIES)):
            try:
                if self._iterator is None:
                    self._iterator = self.rows()
                    # After a failure: those before are known.
                    next(islice(self._iterator, self._position, self._position), None)
                found = [*islice(self._iterator, count)]
            except OpenAIRunError as error:
                self._iterator = None
                if not error.retryable or not left:
                    raise
                _log.warning("Reading the input again in %.0f s: %s", STORAGE_PAUSE, error)
                self.sleep(STORAGE_PAUSE)
            else:
                self._position += len(found)
                return [self._checked(row) for row in found], len(found) < count
        raise AssertionError  # the last one raises

    def _checked(self, row: Row) -> Row:
        if row.values is None:
            return row
        try:
            return self.allowance.measured(replace(row, values=self.request_of(row.values).body))
        except (RunRequestError, TypeError) as error:
            return replace(row, values=None, error=str(error))


@dataclass(kw_only=True)
class WorkerIO:
    """
    A ``BulkIO``.

    :param ask: asks Airflow for the state of the task instance.
    """

    requests: BulkRequests
    journal: Journal
    folder: Folder
    reader: RowReader
    ask: Callable[[], TaskState]

    async def read_rows(self, command: ReadRows) -> tuple[list[Row], bool]:
        """Return the next rows of the input, and whether they are the last ones."""
        return await in_thread(lambda: self.reader.read(command.count, from_start=command.from_start))

    async def commit(self, events: tuple[Event, ...]) -> None:
        """Commit events to the journal."""
        await in_thread(lambda: self.journal.commit(events))

    @property
    def written_at(self) -> float:
        """When what was to be committed last was written, in Unix seconds."""
        return self.journal.written_at

    async def create(self, command: Send) -> Sent:
        """Send a create, once, if it still may leave."""
        row = command.row
        return await self.requests.create(
            row.number, row.values or {}, token=command.token, leave_by=command.until
        )

    async def poll(self, run: NewRun) -> Polled | RequestFailure:
        """Poll a run, and read it if it has ended."""
        return await self.requests.poll(run)

    async def cancel(self, run: NewRun) -> Run | RequestFailure:
        """End a run, and read it."""
        return await self.requests.cancel(run)

    async def write_part(self, part: Part) -> None:
        """Write a file of results."""
        await in_thread(lambda: self.folder.write(part.content, RESULTS, part.written.name))

    async def task_state(self) -> TaskState:
        """Ask Airflow for the state of the task instance."""
        return await in_thread(self.ask)
