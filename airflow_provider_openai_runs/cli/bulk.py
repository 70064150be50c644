# SPDX-License-Identifier: Apache-2.0
"""What the folder of a bulk task has left going: named, ended, and its results listed in a manifest."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.bulk.elsewhere import leads_elsewhere
from airflow_provider_openai_runs.bulk.events import (
    JournalError,
    NewRun,
    PartWritten,
)
from airflow_provider_openai_runs.bulk.head import TaskHead
from airflow_provider_openai_runs.bulk.inputs import BulkInput, open_input
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.journal_lines import to_lines
from airflow_provider_openai_runs.bulk.judging import RunJudge
from airflow_provider_openai_runs.bulk.manifest import Manifest, conclude
from airflow_provider_openai_runs.bulk.parts import Outcome, Parts
from airflow_provider_openai_runs.bulk.recovered import Recovered, read_journal, recover
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.bulk.storage import HEAD, JOURNAL, MANIFEST, RESULTS, StorageFolder
from airflow_provider_openai_runs.cli.airflow_api import AirflowApi, AirflowApiError, TaskInstance
from airflow_provider_openai_runs.cli.batches import BatchStopper
from airflow_provider_openai_runs.cli.connections import Connections
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunRequestError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.fate import Fate
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Runs that are ended at a time.
_THREADS = 50
_NOT_FOUND = 404
_STOPPED = "It was cancelled by stop --path."
_LOST = "Nobody knows whether its create was accepted. A run of it may be going and billing."


class BulkFolderError(OpenAIRunError):
    """The folder cannot be read as that of a bulk task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """
    A run that may be going.

    :param note: why it could not be ended.
    """

    run: NewRun
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the form for scripts."""
        return {"id": self.run.id, "row": self.run.row, "note": self.note}


class BulkFolder:
    """
    The folder of one generation of a bulk task.

    :param path: which holds its ``head.json``.
    :raises BulkFolderError: if there is none, or what is there cannot be read.
    """

    def __init__(self, path: str, *, log: Logger) -> None:
        self._log = log
        try:
            self._folder = StorageFolder.at(path, log=log)
            self.head = TaskHead.from_bytes(self._folder.read(HEAD))
            self._recovered: Recovered = recover(read_journal(self._folder))
        except FileNotFoundError:
            raise BulkFolderError(
                f"There is no {HEAD} in {path}. Give the folder of one generation: "
                "<output_path>/<dag>/<run>/<task>[/<map index>]/<generation>."
            ) from None
        except (OpenAIRunError, JournalError, ValueError) as error:
            raise BulkFolderError(f"{path}: {error}") from None

    @property
    def active(self) -> list[NewRun]:
        """The runs that may be going, as far as the journal tells."""
        return [*self._recovered.items.runs.values(), *self._recovered.others]

    @property
    def lost(self) -> dict[int, str]:
        """The rows whose create may have been accepted, with its token."""
        items = self._recovered.items
        rows = [row for row in items.rows(ItemState.INTENDED) if items.batches.of_row(row) is None]
        return {row: self.head.token_of(row, items.creates(row)) for row in rows}

    @property
    def batches(self) -> list[SentBatch]:
        """The batches that may be going, or whose results nobody has collected."""
        return self._recovered.items.batches.active

    @property
    def manifest_uri(self) -> str:
        """The path of the manifest."""
        return self._folder.uri_of(MANIFEST)

    def live_task(self, api: Callable[[], AirflowApi]) -> tuple[str | None, str]:
        """
        Return its task as long as that may create more, and what a person should know about that.

        :param api: makes a client; without an Airflow that answers nobody can tell.
        """
        task = self.head.task
        try:
            where = TaskInstance.from_json(
                {
                    "dag_id": task["dag_id"],
                    "dag_run_id": task["run_id"],
                    "task_id": task["task_id"],
                    "map_index": task["map_index"],
                    "state": None,
                }
            )
            found = api().task_instance(where)
        except (AirflowApiError, KeyError) as error:
            if getattr(error, "status", None) == _NOT_FOUND:
                return None, ""
            return None, f"Nobody can tell whether its task still creates runs; mark it failed first: {error}"
        if not found.is_live:
            return None, ""
        return str(found), (
            f"Its task {found} is {found.state}, and would create more: mark it failed first. That ends its "
            "runs, too; then stop what is left here."
        )

    def stop(self, connections: Connections, *, say: Callable[[str], None]) -> tuple[Manifest, list[Left]]:
        """
        End what is going, keep the results of what has ended, and write the manifest.

        :return: with the runs that may be going all the same.
        :raises OpenAIRunError: if the storage does not take it.
        """
        parts, left = _Written(self._folder), [*self._stop_batches(connections, say)]
        items = self._recovered.items
        mine = {run.id for run in items.runs.values()}
        for run, ended in self._ended(connections, self.active):
            if isinstance(ended, str):
                left.append(Left(run=run, note=ended))
                continue
            say(f"{run.id} of row {run.row}: {ended.error or 'It had succeeded; its result is kept.'}")
            if run.id in mine:
                parts.add(ended)
        for row, token in self.lost.items():
            label = items.custom_ids.get(row)
            parts.add(Outcome(row=row, custom_id=label, state=ItemState.LOST, error=_LOST, token=token))
        for written in parts.close():
            items.apply(written)
        seconds = time.time() - self.head.began_at
        manifest = conclude(
            self._folder, self._source(), items, seconds=seconds, before=self.head.before, stopped="stopped"
        )
        return manifest, left

    def _stop_batches(self, connections: Connections, say: Callable[[str], None]) -> Iterator[Left]:
        if not self.batches:
            return
        conn_id, hook = self.head.conn_id, connections.hook(self.head.conn_id)
        items = self._recovered.items
        note = connections.unusable.get(conn_id, "")
        if hook is None or (note := leads_elsewhere(hook, hook.account, self.head.account, items)):
            for batch in self.batches:
                yield Left(run=_as_run(batch), note=note)
            return
        stopper = BatchStopper(
            folder=self._folder,
            items=items,
            runner=hook,
            conn_id=conn_id,
            say=say,
            log=self._log,
        )
        for batch, note in stopper.stop():
            yield Left(run=_as_run(batch), note=note)

    def _ended(
        self, connections: Connections, runs: Iterable[NewRun]
    ) -> Iterator[tuple[NewRun, Outcome | str]]:
        """End runs: what each is worth, or why it may be going."""
        judge = RunJudge()

        def end(run: NewRun) -> tuple[NewRun, Outcome | str]:
            ref = RunRef(kind=RunKind.RESPONSE, id=run.id, conn_id=self.head.conn_id)
            label = self._recovered.items.custom_ids.get(run.row)
            result = connections.cancel(ref, self.head.account)
            if result is None:
                return run, connections.unusable.get(ref.conn_id, "")
            if not result.has_ended:
                text = result.fate.sentence(raw_status=result.raw_status)
                return run, f"{text} {result.failure or ''}".strip()
            found = None if result.is_gone else connections.read(ref)
            if result.is_gone or found is None or isinstance(found, RequestFailure):
                error = f"{result.fate.sentence(raw_status=result.raw_status)} {found or ''}".strip()
                return run, Outcome(row=run.row, custom_id=label, state=ItemState.FAILED, error=error)
            outcome = judge(run.row, label, found).outcome
            return run, replace(outcome, error=_STOPPED) if result.fate is Fate.CANCELLED else outcome

        with ThreadPoolExecutor(_THREADS) as threads:
            yield from threads.map(end, runs)

    def _source(self) -> BulkInput:
        """Return the input, as far as it can be read here."""
        head = self.head.input

        def nothing() -> Iterator[Row]:
            raise RunRequestError(why)

        why = "The task was given its items by Airflow; they are not in its folder"
        if head.path is not None:
            try:
                source = open_input(input_path=head.path, log=self._log)
            except OpenAIRunError as error:
                why = str(error)
            else:
                if source.head == head:
                    return source
                why = f"{head.path} has changed since the task began"
        return BulkInput(head=head, source=nothing)


def _as_run(batch: SentBatch) -> NewRun:
    return NewRun(row=batch.rows[0][0], id=batch.id or batch.token, created_at=batch.at)


class _Written:
    """
    Parts of results, and the segment of the journal that names them: an attempt of its own.

    Its id comes after those of task instances, which begin with a number of hexadecimal digits.
    """

    def __init__(self, folder: StorageFolder) -> None:
        self._folder = folder
        self._writer = f"stop-{int(time.time()):010d}-{secrets.token_hex(4)}"
        self._parts = Parts(writer=self._writer)
        self._written: list[PartWritten] = []

    def add(self, outcome: Outcome) -> None:
        """Take the final word on an item."""
        self._parts.add(outcome, now=0.0)
        if self._parts.due_at() == float("-inf"):
            self._write()

    def close(self) -> list[PartWritten]:
        """Return what was written, once the journal says so."""
        if not self._parts.is_empty:
            self._write()
        if self._written:
            self._folder.write(to_lines(self._written), JOURNAL, self._writer, "000001.jsonl")
        return self._written

    def _write(self) -> None:
        part = self._parts.close()
        self._folder.write(part.content, RESULTS, part.written.name)
        self._written.append(part.written)
