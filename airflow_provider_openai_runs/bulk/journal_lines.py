# SPDX-License-Identifier: Apache-2.0
"""
The lines of a journal: an event of many items in each.

The keys are stored, so an attempt of another version of this package reads them too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_openai_runs.bulk.events import (
    Asked,
    BatchCreated,
    BatchIntended,
    BatchRefused,
    Cancelled,
    Created,
    Event,
    Intended,
    JournalError,
    NewRun,
    NotAccepted,
    OfRows,
    OfRuns,
    PartWritten,
    Resubmitted,
    Retried,
    Spent,
)
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.ceiling import Amount
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import amount_of, as_text

_OF_RUNS: dict[str, type[Retried | Cancelled]] = {"retried": Retried, "cancelled": Cancelled}
_OF_ROWS: dict[str, type[NotAccepted | Resubmitted]] = {
    "not_accepted": NotAccepted,
    "resubmitted": Resubmitted,
}
_NAMES: dict[type[OfRows], str] = {kind: name for name, kind in [*_OF_ROWS.items(), *_OF_RUNS.items()]}


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
            return {"event": "intended", "rows": event.rows, **_about(event)}
        case OfRuns():
            return {"event": _NAMES[type(event)], "rows": event.rows, **event.spent.to_json()}
        case PartWritten():
            fates = {"succeeded": event.succeeded, "failed": event.failed, "lost": event.lost}
            rows = {name: rows for name, rows in fates.items() if rows}
            return {"event": "part_written", "name": event.name, **rows, **event.spent.to_json()}
        case BatchIntended(batch=batch):
            about = {"token": batch.token, "file_id": batch.file_id, "ranges": batch.rows, "at": batch.at}
            return {"event": "batch_intended", **about, "size": batch.size, **_about(event)}
        case BatchCreated():
            return {"event": "batch_created", "token": event.token, "id": event.id}
        case BatchRefused():
            limits = {
                "most_rows": event.most_rows,
                "until": event.until,
                "unusable": event.unusable or None,
            }
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
            return Intended(rows=_rows(value["rows"]), **_said_of_rows(value))
        if name in _OF_RUNS:
            return _OF_RUNS[name](rows=_rows(value["rows"]), spent=Spent.from_json(value))
        if name in _OF_BATCHES:
            return _OF_BATCHES[name](value)
        if name == "part_written":
            return PartWritten(
                name=str(value["name"]),
                succeeded=_rows(value.get("succeeded", ())),
                failed=_rows(value.get("failed", ())),
                lost=_rows(value.get("lost", ())),
                spent=Spent.from_json(value),
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
        size=int(value.get("size", 0)),
    )
    return BatchIntended(batch=batch, **_said_of_rows(value))


def _created_batch(value: Mapping[str, Any]) -> BatchCreated:
    return BatchCreated(token=str(value["token"]), id=str(value["id"]))


def _refused_batch(value: Mapping[str, Any]) -> BatchRefused:
    most_rows, until = value.get("most_rows"), value.get("until")
    return BatchRefused(
        token=str(value["token"]),
        most_rows=None if most_rows is None else int(most_rows),
        until=None if until is None else float(until),
        unusable=value.get("unusable") is True,
    )


_OF_BATCHES: dict[str, Callable[[Mapping[str, Any]], Event]] = {
    "batch_intended": _intended_batch,
    "batch_created": _created_batch,
    "batch_refused": _refused_batch,
}


def _about(event: Intended | BatchIntended) -> dict[str, Any]:
    """Return what an intent says of its rows; what says nothing is left out."""
    values = {
        "custom_ids": {str(row): label for row, label in event.custom_ids.items()},
        "asked": _grouped(event.asked),
        "reserved": [
            [row, amount.tokens, None if amount.cost is None else as_text(amount.cost)]
            for row, amount in event.reserved.items()
        ],
    }
    return {name: value for name, value in values.items() if value}


def _said_of_rows(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "custom_ids": {int(row): str(label) for row, label in value.get("custom_ids", {}).items()},
        "asked": {
            row: asked
            for model, processing, rows in value.get("asked", ())
            for asked in [Asked(model=model, processing=processing)]
            for row in _rows(rows)
        },
        "reserved": {
            int(row): Amount(tokens=int(tokens), cost=amount_of(cost))
            for row, tokens, cost in value.get("reserved", ())
        },
    }


def _grouped(asked: Mapping[int, Asked]) -> list[tuple[str | None, str | None, list[int]]]:
    groups: dict[Asked, list[int]] = {}
    for row, one in asked.items():
        groups.setdefault(one, []).append(row)
    return [(one.model, one.processing, rows) for one, rows in groups.items()]


def _rows(value: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(row) for row in value)
