# SPDX-License-Identifier: Apache-2.0
"""What a bulk task leaves behind: counts, the list of its files, and its failures as an input."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_openai_runs.bulk import table
from airflow_provider_openai_runs.bulk.inputs import BulkInput
from airflow_provider_openai_runs.bulk.item_errors import most_frequent
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.progress import cost_of
from airflow_provider_openai_runs.bulk.reading import VERSION, lines_of, results_of
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.storage import FAILED, MANIFEST, PARQUET, RESULTS, StorageFolder
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import Totals

_log = logging.getLogger(__name__)

#: What may have become of an item; every item is in one of these counts.
FATES = ("succeeded", "failed", "lost", "skipped", "active", "not_created")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """
    What became of the items of a task. Paths are relative to the manifest's folder.

    :param counts: items by fate, all of ``FATES``. ``skipped`` were left out, since an earlier task may have
        created a run; ``active`` may be going and billing; ``not_created`` cost nothing.
    :param results: what the runs in the results have said.
    :param in_all: with those that another one took the place of, and those of before a clear.
    :param seconds: since the generation began.
    :param parts: files of results.
    :param stopped: why nothing more was created; None where all was.
    :param failed: the items without a success, as an input; None where there is none.
    :param parquet: all items as one table; None without pyarrow, or where that has failed.
    :param frequent_error: of the items that failed or are lost, for people.
    :param input_error: why the input could not be read once more; ``failed`` then lacks what was asked for.
    """

    counts: Mapping[str, int]
    seconds: float
    parts: tuple[str, ...]
    results: Totals = field(default_factory=Totals)
    in_all: Totals = field(default_factory=Totals)
    stopped: str | None = None
    failed: str | None = None
    parquet: str | None = None
    frequent_error: str | None = None
    input_error: str | None = None

    @property
    def rows(self) -> int:
        """How many items the input has."""
        return sum(self.counts.values())

    @property
    def spent(self) -> dict[str, Any]:
        """What was spent, as people read it."""
        usage = self.results.usage
        return {
            "usage": usage.to_json() if usage else {},
            "cost": cost_of(self.results),
            **self.in_all.shown(),
        }

    def to_bytes(self) -> bytes:
        """Return the form that is stored."""
        values = {
            "version": VERSION,
            "rows": self.rows,
            "counts": dict(self.counts),
            **self.spent,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "failed": self.failed,
            "parquet": self.parquet,
            "input_error": self.input_error,
            "parts": self.parts,
        }
        return json.dumps(values, indent=1).encode()


def conclude(
    folder: StorageFolder,
    source: BulkInput,
    items: Items,
    *,
    seconds: float,
    before: Totals | None = None,
    stopped: str | None = None,
    token_of: Callable[[int], str] | None = None,
    as_table: bool | None = None,
    retry_left: bool = False,
) -> Manifest:
    """
    Write ``failed.jsonl``, the table and the manifest, which comes last: where it is, all is.

    It takes one pass over the input, and one over the results.

    :param items: as the journal tells them.
    :param seconds: since the generation began.
    :param before: what the runs of earlier generations have said.
    :param stopped: why nothing more was created.
    :param token_of: of a row whose create may have been sent and has no answer.
    :param as_table: whether to write a Parquet file; None writes one where that is possible.
    :param retry_left: whether another attempt may read an input that its storage does not give now.
    :raises RunStorageError: if the storage does not take it, or does not give the input while a retry is
        left; to do it again writes the same.
    :raises RunRequestError: if a table is asked for, and there is no pyarrow.
    """
    rows = _Rows(source, items, retry_left=retry_left)
    counts = dict.fromkeys(FATES, 0)
    errors = _errors(folder, items)
    with tempfile.NamedTemporaryFile() as file:
        for row in rows:
            fate = _fate(source, items, row)
            counts[fate] += 1
            if fate != "succeeded":
                found = errors.get(row.number, {})
                file.write(row.to_failed_line(_failure(items, row, fate, found, token_of)))
        has_failed = file.tell() > 0
        if has_failed:
            file.flush()
            folder.put(Path(file.name), FAILED)
    parts = tuple(f"{RESULTS}/{part.name}" for part in items.parts)
    has_table = _has_table(folder, parts) if as_table is None else as_table
    if as_table:
        _write_table(folder, parts)
    manifest = Manifest(
        counts=counts,
        seconds=round(seconds, 3),
        parts=parts,
        results=items.results,
        in_all=(before or Totals()) + items.spent,
        stopped=stopped,
        failed=FAILED if has_failed else None,
        parquet=PARQUET if has_table else None,
        frequent_error=most_frequent(found["error"] for found in errors.values() if "error" in found),
        input_error=rows.error,
    )
    folder.write(manifest.to_bytes(), MANIFEST)
    return manifest


def _has_table(folder: StorageFolder, parts: tuple[str, ...]) -> bool:
    """Write the table where that is possible; without it, all that was paid for is there all the same."""
    if not table.is_possible():
        return False
    try:
        _write_table(folder, parts)
    except (OpenAIRunError, FileNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 # of pyarrow
        _log.warning("There is no %s: %s", PARQUET, message_text(f"{type(error).__name__}: {error}"))
        return False
    return True


def _write_table(folder: StorageFolder, parts: tuple[str, ...]) -> None:
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        table.write(Path(file.name), results_of(folder, parts, failed=True))
        folder.put(Path(file.name), PARQUET)


class _Rows:
    """
    The rows of an input, and those beyond it that the journal knows.

    :ivar error: why the input could not be read to its end. What was paid for is listed all the same.
    """

    def __init__(self, source: BulkInput, items: Items, *, retry_left: bool) -> None:
        self._source = source
        self._items = items
        self._retry_left = retry_left
        self.error: str | None = None

    def __iter__(self) -> Iterator[Row]:
        number = -1
        try:
            for row in self._source.source():
                yield row
                number = row.number
        except OpenAIRunError as error:
            if error.retryable and self._retry_left:
                raise
            self.error = message_text(error)
            _log.warning("failed.jsonl lacks what was asked for, the input cannot be read: %s", self.error)
        known = max(self._items.end, self._source.head.rows or 0)
        yield from (Row(number=beyond) for beyond in range(number + 1, known))


def _fate(source: BulkInput, items: Items, row: Row) -> str:
    match items.state(row.number):
        case ItemState.NEW:
            if items.creates(row.number):
                return "failed"
            return "skipped" if source.is_skipped(row) else "not_created"
        case ItemState.INTENDED | ItemState.CREATED:
            return "active"
        case state:
            return state.name.lower()


def _errors(folder: StorageFolder, items: Items) -> dict[int, dict[str, str]]:
    """Return error and token of the items that failed, from the parts that have some."""
    return {
        value["row"]: {name: value[name] for name in ("error", "token") if name in value}
        for part in items.parts
        if part.failed or part.lost
        for value in lines_of(folder, f"{RESULTS}/{part.name}")
        if value["state"] != "succeeded"
    }


def _failure(
    items: Items, row: Row, fate: str, found: Mapping[str, str], token_of: Callable[[int], str] | None
) -> dict[str, Any]:
    """Return what ``failed.jsonl`` says of an item."""
    about: dict[str, Any] = {"row": row.number}
    if fate == "skipped":
        return {**(row.failure or {}), **about}
    if (run := items.runs.get(row.number)) is not None:
        return {**about, "error": "Its run may be going and billing.", "run": run.id}
    if (batch := items.batches.of_row(row.number)) is not None:
        return {**about, "error": f"{batch.name} may be going and billing.", "batch": batch.id or batch.token}
    if fate == "active":
        token = {} if token_of is None else {"token": token_of(row.number)}
        return {**about, "error": "Its create may have been accepted; its answer never came.", **token}
    nothing = (
        "No create was sent." if fate == "not_created" else "Its runs brought nothing, and no other followed."
    )
    return {**about, "error": row.error or nothing, **found}
