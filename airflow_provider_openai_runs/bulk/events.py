# SPDX-License-Identifier: Apache-2.0
"""
What happened to the items of a bulk task, as values and as lines of its journal.

An item is named by the number of its row in the input. A line holds one event of many items; the keys are
stored, so an attempt of another version of this package reads them too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.text import message_text


class JournalError(Exception):
    """A line of a journal that cannot be read; to skip it could mean to pay twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRows:
    """Something that happened to these rows."""

    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intended:
    """
    Creates of these rows may be sent once this is committed.

    :param custom_ids: their labels, for an attempt that has not read the input yet.
    """

    rows: tuple[int, ...]
    custom_ids: Mapping[int, str] = field(default_factory=dict)


class NotAccepted(OfRows):
    """The server has certainly not taken these creates, or they were not sent."""


class Retried(OfRows):
    """The runs of these rows ended badly, and another one is to be created."""


class Cancelled(OfRows):
    """The runs of these rows were ended with their attempt, and the next one creates others."""


class Resubmitted(OfRows):
    """Creates of these rows may have been accepted, and they may be sent again all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """
    The run of an item.

    :param created_at: when its create returned, in Unix seconds by our clock.
    """

    row: int
    id: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """These creates were answered with a run."""

    runs: tuple[NewRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWritten:
    """
    A file with the final word on some items is complete; one that no event names does not count.

    :param name: of the file, relative to the folder of results.
    :param succeeded: rows whose result is in it.
    :param failed: rows whose error is in it.
    :param lost: rows of which nobody knows whether a run was created.
    :param usage: sums of tokens of the runs in it, by the name in a result's ``usage``.
    """

    name: str
    succeeded: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[int, ...]:
        """All items in the file."""
        return (*self.succeeded, *self.failed, *self.lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchIntended:
    """
    The create of a batch with these rows may be sent once this is committed.

    :param custom_ids: labels of its rows, where they have one.
    """

    batch: SentBatch
    custom_ids: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCreated:
    """The create of a batch was answered, or the batch was found by its token."""

    token: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRefused:
    """
    A batch was certainly not created, or was refused as a whole and executed nothing.

    :param most_rows: what the next ones may have at most, where it was too large for the account's queue.
    :param until: Unix seconds; no batch before that.
    """

    token: str
    most_rows: int | None = None
    until: float | None = None


Event = (
    Intended
    | Created
    | NotAccepted
    | Retried
    | Cancelled
    | Resubmitted
    | PartWritten
    | BatchIntended
    | BatchCreated
    | BatchRefused
)


def resolved(event: Event) -> tuple[int, ...]:
    """Return the rows that are no longer intended after an event."""
    match event:
        case Created():
            return tuple(run.row for run in event.runs)
        case NotAccepted() | Resubmitted():
            return event.rows
        case PartWritten():
            return event.lost
        case _:
            return ()


def merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return neighbours of the same kind as one event: a line for each of a hundred would be long to read."""
    merged: list[Event] = []
    for event in events:
        last = merged[-1] if merged else None
        if isinstance(event, Created) and isinstance(last, Created):
            merged[-1] = Created(runs=(*last.runs, *event.runs))
        elif isinstance(event, OfRows) and isinstance(last, OfRows) and type(event) is type(last):
            merged[-1] = type(event)(rows=(*last.rows, *event.rows))
        else:
            merged.append(event)
    return tuple(merged)


_OF_ROWS: dict[str, type[NotAccepted | Retried | Cancelled | Resubmitted]] = {
    "not_accepted": NotAccepted,
    "retried": Retried,
    "cancelled": Cancelled,
    "resubmitted": Resubmitted,
}
_NAMES = {kind: name for name, kind in _OF_ROWS.items()}


def to_lines(events: Iterable[Event]) -> bytes:
    """Return events as JSON, one a line, each line with its end."""
    return b"".join(json.dumps(_to_json(event), separators=(",", ":")).encode() + b"\n" for event in events)


def from_lines(content: bytes) -> list[Event]:
    """
    Read what ``to_lines`` wrote.

    :raises JournalError: if a line is cut off, damaged, or of an event that this version does not know.
    """
    if content and not content.endswith(b"\n"):
        raise JournalError("The last line is cut off.")
    return [_from_line(line) for line in content.splitlines()]


def _to_json(event: Event) -> dict[str, Any]:
    match event:
        case Created():
            return {"event": "created", "runs": [[run.row, run.id, run.created_at] for run in event.runs]}
        case Intended():
            labels = {"custom_ids": {str(row): label for row, label in event.custom_ids.items()}}
            return {"event": "intended", "rows": event.rows, **(labels if event.custom_ids else {})}
        case PartWritten():
            fates = {"succeeded": event.succeeded, "failed": event.failed, "lost": event.lost}
            rows = {name: rows for name, rows in fates.items() if rows}
            return {"event": "part_written", "name": event.name, **rows, "usage": dict(event.usage)}
        case BatchIntended(batch=batch):
            labels = {"custom_ids": {str(row): label for row, label in event.custom_ids.items()}}
            about = {"token": batch.token, "file_id": batch.file_id, "ranges": batch.rows, "at": batch.at}
            return {"event": "batch_intended", **about, **(labels if event.custom_ids else {})}
        case BatchCreated():
            return {"event": "batch_created", "token": event.token, "id": event.id}
        case BatchRefused():
            limits = {"most_rows": event.most_rows, "until": event.until}
            said = {name: value for name, value in limits.items() if value is not None}
            return {"event": "batch_refused", "token": event.token, **said}
        case _:
            return {"event": _NAMES[type(event)], "rows": event.rows}


def _from_line(line: bytes) -> Event:
    try:
        value = json.loads(line)
        name = value["event"]
        if name == "created":
            runs = [
                NewRun(row=int(row), id=str(run_id), created_at=float(at))
                for row, run_id, at in value["runs"]
            ]
            return Created(runs=tuple(runs))
        if name == "intended":
            return Intended(rows=_rows(value["rows"]), custom_ids=_labels(value))
        if name in _OF_BATCHES:
            return _OF_BATCHES[name](value)
        if name == "part_written":
            return PartWritten(
                name=str(value["name"]),
                succeeded=_rows(value.get("succeeded", ())),
                failed=_rows(value.get("failed", ())),
                lost=_rows(value.get("lost", ())),
                usage={str(key): int(number) for key, number in value.get("usage", {}).items()},
            )
        return _OF_ROWS[name](rows=_rows(value["rows"]))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise JournalError(f"A line cannot be read ({message_text(error)}): {message_text(line)}") from None


def _intended_batch(value: Mapping[str, Any]) -> BatchIntended:
    batch = SentBatch(
        token=str(value["token"]),
        file_id=str(value["file_id"]),
        rows=tuple((int(first), int(last)) for first, last in value["ranges"]),
        at=float(value["at"]),
    )
    return BatchIntended(batch=batch, custom_ids=_labels(value))


def _created_batch(value: Mapping[str, Any]) -> BatchCreated:
    return BatchCreated(token=str(value["token"]), id=str(value["id"]))


def _refused_batch(value: Mapping[str, Any]) -> BatchRefused:
    most_rows, until = value.get("most_rows"), value.get("until")
    return BatchRefused(
        token=str(value["token"]),
        most_rows=None if most_rows is None else int(most_rows),
        until=None if until is None else float(until),
    )


_OF_BATCHES: dict[str, Callable[[Mapping[str, Any]], Event]] = {
    "batch_intended": _intended_batch,
    "batch_created": _created_batch,
    "batch_refused": _refused_batch,
}


def _labels(value: Mapping[str, Any]) -> dict[int, str]:
    return {int(row): str(label) for row, label in value.get("custom_ids", {}).items()}


def _rows(value: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(row) for row in value)
