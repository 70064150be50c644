# SPDX-License-Identifier: Apache-2.0
"""What an attempt of a bulk task works on, and the two things that it can end well with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.bulk import waiting
from airflow_provider_openai_runs.bulk.attempt import BulkAttempt
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.head import TaskHead
from airflow_provider_openai_runs.bulk.inputs import BulkInput
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.journal import Journal
from airflow_provider_openai_runs.bulk.manifest import Manifest, conclude
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.storage import WAITING, StorageFolder
from airflow_provider_openai_runs.runs.errors import CeilingReachedError, OpenAIRunError
from airflow_provider_openai_runs.runs.failure import RequestFailure

#: Lost creates that a line of the log names.
_NAMED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Concluded:
    """
    Every item has its fate, or nothing more is to be created.

    :param refusal: why nothing more may be paid for, or could be sent.
    :param denied: how the server refused the last create, where the connection is to blame.
    """

    manifest: Manifest
    folder: StorageFolder
    stopped: StopReason | None
    refusal: OpenAIRunError | None = None
    denied: RequestFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """
    All that is left is to wait; the file says for what.

    :param path: URI of the file.
    :param count: of the runs in it.
    :param deadline: end of the completion window, in Unix seconds.
    :param wake_at: Unix seconds at which a worker is needed in any case, for what it could not create yet.
    """

    path: str
    conn_id: str
    count: int
    deadline: float
    attempt_deadline: float | None
    wake_up: waiting.WakeUp
    progress: Mapping[str, Any]
    wake_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """
    An attempt, and where it is written down.

    :param head: what its generation began with.
    """

    attempt: BulkAttempt
    journal: Journal
    folder: StorageFolder
    head: TaskHead

    @property
    def lost(self) -> dict[int, str]:
        """The rows whose create may have been accepted, and has no answer, with its token."""
        items = self.attempt.items
        rows = sorted({*items.rows(ItemState.INTENDED), *items.rows(ItemState.LOST)})
        return {row: self._token_of(row) for row in rows if row not in self._new_rows}

    def lost_named(self) -> str:
        """Name the lost creates, for a line of the log."""
        lost = self.lost
        named = ", ".join(f"row {row} (token {token})" for row, token in [*lost.items()][:_NAMED])
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        return (
            f"{len(lost)} creates may have been accepted, and runs of them may be going and billing: "
            f"{named}{more}. {self.folder.uri} names them all."
        )

    def left(self) -> str:
        """Say what may be active, where the results are, and how to end it."""
        runs, uri = self.attempt.active, self.folder.uri
        items = self.attempt.items
        intended = {row for row in items.rows(ItemState.INTENDED) if items.batches.of_row(row) is None}
        unanswered = len(intended - self._new_rows)
        may_run = []
        if runs:
            may_run.append(f"{len(runs)} runs may be running and billing: {waiting.names_of(runs)}.")
        if unanswered:
            may_run.append(f"{unanswered} creates have no answer, and runs of them may be billing.")
        if batches := self.attempt.items.batches.active:
            named = ", ".join(f"{batch.name} (input {batch.file_id})" for batch in batches)
            may_run.append(f"{len(batches)} batches may be going and billing: {named}.")
        if not may_run:
            return f"No run of it is active. {where_left(uri)}"
        named = f"The journal in {uri} names them all. The next attempt goes on with them."
        return " ".join([*may_run, named, where_left(uri)])

    def waits(
        self, settings: BulkSettings, *, attempt_deadline: float | None, progress: Mapping[str, Any]
    ) -> Waits:
        """
        Write down what there is to wait for.

        :raises RunStorageError: if the storage does not take it.
        """
        attempt, limits, runs = self.attempt, settings.limits, self.attempt.active
        name = f"{self.journal.writer}-{self.journal.segments}.jsonl"
        self.folder.write(waiting.to_lines(runs), WAITING, name)
        # Where a ceiling holds the next ones back, a quarter of what is active may make room for them.
        quarter, is_held = limits.max_active // 4, len(runs) < limits.max_active - limits.max_active // 4
        missing = max(1, len(runs) // 4 if is_held else quarter - (limits.max_active - len(runs)))
        max_failed = limits.max_failed
        if isinstance(max_failed, float):
            max_failed = None if attempt.rows is None else max_failed * attempt.rows
        return Waits(
            path=self.folder.uri_of(WAITING, name),
            conn_id=self.head.conn_id,
            count=len(runs),
            deadline=self.head.began_at + settings.completion_window,
            attempt_deadline=attempt_deadline,
            wake_up=waiting.WakeUp(
                ends=missing if attempt.has_ready else None,
                failures=None if max_failed is None else max(0, int(max_failed) - attempt.failed),
                collect_within=settings.collect_within,
            ),
            progress=progress,
        )

    def concluded(
        self, source: BulkInput, *, retry_left: bool = False, unpriced: OpenAIRunError | None = None
    ) -> Concluded:
        """
        Write the manifest.

        :param retry_left: whether another attempt may read an input that its storage does not give now.
        :param unpriced: why nobody knows what a run costs.
        :raises RunStorageError: if the storage does not take it, or does not give the input.
        """
        items, head = self.attempt.items, self.head
        manifest = conclude(
            self.folder,
            source,
            items,
            before=head.before,
            seconds=time.time() - head.began_at,
            stopped=self.attempt.stopped,
            token_of=self._token_of,
            retry_left=retry_left,
        )
        why = self.attempt.refusal
        return Concluded(
            manifest=manifest,
            folder=self.folder,
            stopped=self.attempt.stopped,
            refusal=unpriced if why is None else CeilingReachedError(why),
            denied=self.attempt.denied,
        )

    @property
    def _new_rows(self) -> set[int]:
        return {run.row for run in self.attempt.new_runs}

    def _token_of(self, row: int) -> str:
        items = self.attempt.items
        return self.head.token_of(row, items.creates(row))


def where_left(uri: str) -> str:
    """Say what a person can do about a folder that has no manifest."""
    return (
        f"Without a next attempt, 'python -m airflow_provider_openai_runs stop --path {uri}' ends what is "
        "active, and lists the results so far in a manifest."
    )
