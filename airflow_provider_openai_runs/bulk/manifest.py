# SPDX-License-Identifier: Apache-2.0
"""What a bulk task leaves behind: counts, the list of its files, and its failures as an input."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_openai_runs.bulk.inputs import BulkInput
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.reading import VERSION
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.storage import FAILED, MANIFEST, RESULTS, StorageFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """
    What became of the items of a task.

    :param rows: in the input; ``succeeded``, ``failed``, ``lost``, ``skipped``, ``active`` and
        ``not_created`` sum to it.
    :param skipped: left out: their create was lost in an earlier task.
    :param active: with a run that may be going and billing.
    :param not_created: without a final word and without a run.
    :param usage: sums of tokens.
    :param seconds: since the generation began.
    :param parts: files of results, below the manifest's folder.
    :param stopped: why nothing more was created; None where all was.
    """

    rows: int
    succeeded: int
    failed: int
    lost: int
    skipped: int
    active: int
    not_created: int
    seconds: float
    parts: tuple[str, ...]
    usage: Mapping[str, int] = field(default_factory=dict)
    stopped: str | None = None
    failed_path: str | None = None
    parquet_path: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The counts by their names; all but the first sum to the first."""
        names = ("rows", "succeeded", "failed", "lost", "skipped", "active", "not_created")
        return {name: getattr(self, name) for name in names}

    def to_bytes(self) -> bytes:
        """Return the form that is stored."""
        values = {
            "version": VERSION,
            "counts": self.counts,
            "usage": dict(self.usage),
            "seconds": self.seconds,
            "stopped": self.stopped,
            "failed": self.failed_path,
            "parquet": self.parquet_path,
            "parts": self.parts,
        }
        return json.dumps(values, indent=1).encode()


def conclude(
    folder: StorageFolder, source: BulkInput, items: Items, *, seconds: float, stopped: str | None = None
) -> Manifest:
    """
    Write ``failed.jsonl`` and the manifest, which comes last: where it is, all is.

    :param items: as the journal tells them.
    :param seconds: since the generation began.
    :param stopped: why nothing more was created.
    :raises RunStorageError: if the storage does not take it; to do it again writes the same.
    """
    counts: Counter[str] = Counter()
    errors = _errors(folder, items)
    with tempfile.NamedTemporaryFile() as file:
        for row in source.source():
            fate = _fate(source, items, row)
            counts[fate] += 1
            if fate not in {"succeeded", "skipped"}:
                file.write(_failed_line(row, fate, *errors.get(row.number, (None, None))))
        file.flush()
        has_failed = file.tell() > 0
        if has_failed:
            folder.put(Path(file.name), FAILED)
    manifest = Manifest(
        rows=counts.total(),
        succeeded=counts["succeeded"],
        failed=counts["failed"],
        lost=counts["lost"],
        skipped=counts["skipped"],
        active=counts["active"],
        not_created=counts["not_created"],
        seconds=round(seconds, 3),
        parts=tuple(f"{RESULTS}/{part.name}" for part in items.parts),
        usage=dict(items.usage),
        stopped=stopped,
        failed_path=FAILED if has_failed else None,
    )
    folder.write(manifest.to_bytes(), MANIFEST)
    return manifest


def _fate(source: BulkInput, items: Items, row: Row) -> str:
    match items.state(row.number):
        case ItemState.NEW:
            return "skipped" if source.is_skipped(row) else "not_created"
        case ItemState.INTENDED | ItemState.CREATED:
            return "active"
        case state:
            return state.name.lower()


def _errors(folder: StorageFolder, items: Items) -> dict[int, tuple[str | None, str | None]]:
    """Return error and token of the items without a success, from the parts that have some."""
    return {
        value["row"]: (value.get("error"), value.get("token"))
        for part in items.parts
        if part.failed or part.lost
        for value in _lines(folder.read(RESULTS, part.name))
        if value["state"] != "succeeded"
    }


def _lines(content: bytes) -> Iterator[dict[str, Any]]:
    return map(json.loads, content.splitlines())


def _failed_line(row: Row, fate: str, error: str | None, token: str | None) -> bytes:
    error = error or row.error or fate
    lost = {"lost": {"token": token, "reason": error}} if fate == "lost" else {}
    label = {} if row.custom_id is None else {"custom_id": row.custom_id}
    line = {**(row.values or {}), **label, "row": row.number, "error": error, **lost}
    return json.dumps(line, separators=(",", ":"), default=str).encode() + b"\n"
