# SPDX-License-Identifier: Apache-2.0
"""The files of requests that a batch is created from: written row by row, and uploaded when they are full."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from airflow_provider_openai_runs.bulk.batch.commands import UploadedFile
from airflow_provider_openai_runs.bulk.batch.lines import refusal_of, to_line
from airflow_provider_openai_runs.bulk.batch.recorder import Recorder
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.events import Asked
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.parts import Outcome
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.sent_batches import ranges_of
from airflow_provider_openai_runs.bulk.worker_io import RowReader
from airflow_provider_openai_runs.runs.ceiling import Amount
from airflow_provider_openai_runs.runs.errors import (
    RunCallError,
    RunConnectionError,
    RunRequestError,
    RunStorageError,
)

#: What a batch may have at most.
MAX_ROWS = 50_000
MAX_BYTES = 200_000_000
#: Rows that are read at a time.
_SLICE = 500
#: Of input or server; the end of an attempt, a kill, is none of them.
_FAILURES = (RunCallError, RunConnectionError, RunRequestError, RunStorageError)
#: Files for different models that are written at the same time: a batch has one model.
_MOST_OPEN = 20


class _File:
    """A file of requests for one model, of which nothing but numbers and labels is in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self.rows: list[int] = []
        self.custom_ids: dict[int, str] = {}
        self.asked: dict[int, Asked] = {}
        self.reserved: dict[int, Amount] = {}
        self.takes = Amount()
        self._digest = hashlib.sha256()

    def add(self, row: Row, line: bytes) -> None:
        self.file.write(line)
        self._digest.update(line)
        self.size += len(line)
        self.rows.append(row.number)
        if row.custom_id is not None:
            self.custom_ids[row.number] = row.custom_id
        if row.asked is not None:
            self.asked[row.number] = row.asked
        if row.reserved is not None:
            self.reserved[row.number] = row.reserved
            self.takes += row.reserved

    @property
    def name(self) -> str:
        """The same for the same requests, so that an upload is found again."""
        return f"airflow-{self._digest.hexdigest()[:32]}.jsonl"


class BatchFiles:
    """
    Writes and uploads the files of one attempt, one pass over the input after another.

    :param upload: returns the id of a file, by its path and its name.
    :ivar rows_read: how many rows the input has, as far as it is read.
    :ivar held: why the pass has ended before a row that may not be paid for now.
    :ivar failed_as: what has failed, if that is the input or an upload.
    """

    def __init__(
        self,
        *,
        reader: RowReader,
        items: Items,
        recorder: Recorder,
        upload: Callable[[Path, str], str],
    ) -> None:
        self.rows_read = 0
        self.held: str | None = None
        self.failed_as: StopReason | None = None
        self._reader = reader
        self._items = items
        self._recorder = recorder
        self._upload = upload
        self._pass: Iterator[UploadedFile] | None = None
        #: Whether rows of more models than may be open are left for another pass.
        self._has_skipped = False
        #: What the rows in batches may take, summed up once a file: there may be many.
        self._reserved = Amount()

    def next(self) -> UploadedFile | None:
        """
        Return the next file; None if a pass has come to the end of the input, or of what may be paid for.

        :raises OpenAIRunError: if the input cannot be read, or the file not be uploaded.
        """
        self._reserved = self._items.reserved_in_all
        while True:
            self._pass = self._pass or self._files()
            if (found := next(self._pass, None)) is not None:
                return found
            self._pass = None
            if not self._has_skipped or self.held is not None:
                return None

    def _files(self) -> Iterator[UploadedFile]:
        self.held, self._has_skipped = None, False
        with ExitStack() as stack:
            files: dict[Any, _File] = {}
            for row in self._new_rows():
                if self._refusal(row, files) is not None:
                    while files:
                        yield self._uploaded(files.pop(next(iter(files))))
                    self.held = self._refusal(row, files)
                    if self.held is not None:
                        break
                line = to_line(row.number, row.values or {})
                model = (row.values or {}).get("model")
                file = files.get(model)
                if file is not None and self._is_full(file, len(line)):
                    yield self._uploaded(files.pop(model))
                    file = None
                if file is None:
                    if len(files) >= _MOST_OPEN:
                        self._has_skipped = True
                        continue
                    file = files[model] = _File(stack.enter_context(tempfile.NamedTemporaryFile()))
                file.add(row, line)
            self._recorder.flush()
            for file in files.values():
                yield self._uploaded(file)

    def _refusal(self, row: Row, files: Mapping[Any, _File]) -> str | None:
        """Return why a row may not be paid for beside all that is in a batch, or about to be."""
        if row.reserved is None:
            return None
        more = sum((file.takes for file in files.values()), row.reserved)
        return self._reader.allowance.refusal(
            self._items, reserved=self._reserved, more=more, asked=row.asked
        )

    def _is_full(self, file: _File, size: int) -> bool:
        most_rows = min(MAX_ROWS, self._items.most_rows or MAX_ROWS)
        return len(file.rows) >= most_rows or file.size + size > MAX_BYTES

    def _new_rows(self) -> Iterator[Row]:
        """Yield the rows that are in no batch; one that cannot be sent gets its final word."""
        is_last, from_start = False, True
        while not is_last:
            try:
                rows, is_last = self._reader.read(_SLICE, from_start=from_start)
            except _FAILURES:
                self.failed_as = StopReason.INPUT
                raise
            from_start = False
            for row in rows:
                self.rows_read = max(self.rows_read, row.number + 1)
                if self._items.state(row.number) is not ItemState.NEW:
                    continue
                error = row.error if row.values is None else refusal_of(row.values)
                if error is not None:
                    failed = ItemState.FAILED
                    self._recorder.add(
                        Outcome(row=row.number, custom_id=row.custom_id, state=failed, error=error)
                    )
                else:
                    yield row

    def _uploaded(self, file: _File) -> UploadedFile:
        file.file.flush()
        try:
            file_id = self._upload(Path(file.file.name), file.name)
        except _FAILURES:
            self.failed_as = StopReason.UPLOAD
            raise
        file.file.close()
        return UploadedFile(
            id=file_id,
            rows=ranges_of(file.rows),
            size=file.size,
            custom_ids=file.custom_ids,
            asked=file.asked,
            reserved=file.reserved,
        )
