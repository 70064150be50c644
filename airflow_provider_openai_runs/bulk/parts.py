# SPDX-License-Identifier: Apache-2.0
"""
Results on their way to storage: gathered until they fill a file, or have waited long enough.

No I/O and no clock. A line is one item: its row, its label, its state, and its result or its error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.bulk.events import PartWritten, Spent
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.runs.usage import Usage, amount_of

#: When a part is closed: items, bytes, seconds after its first item.
MAX_ITEMS = 1_000
MAX_BYTES = 8 * 1024 * 1024
MAX_SECONDS = 2.0
#: Made once: there is a line for each of a hundred thousand items.
_JSON = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    The final word on an item.

    :param state: a final one.
    :param result: as docs/result.md; None of an item without a run.
    :param error: why it is no success.
    :param token: of a lost create, by which its run can be found.
    :param may_be_billed: whether a run of it may have taken something, where no result says so.
    """

    row: int
    state: ItemState
    custom_id: str | None = None
    result: Mapping[str, Any] | None = None
    error: str | None = None
    token: str | None = None
    may_be_billed: bool = True

    @property
    def spent(self) -> Spent:
        """What its run has said, if there was one."""
        result = self.result or {}
        usage = Usage.from_json(result.get("usage"))
        if usage is not None and usage.is_known:
            return Spent(usage=usage, cost=amount_of(result.get("cost")))
        is_silent = self.may_be_billed and self.state is not ItemState.LOST
        return Spent(silent=(self.row,) if is_silent else ())

    def to_line(self) -> bytes:
        """Return its line in a part."""
        values = {
            "row": self.row,
            "custom_id": self.custom_id,
            "state": self.state.name.lower(),
            "result": self.result,
            "error": self.error,
            "token": self.token,
        }
        found = {key: value for key, value in values.items() if value is not None}
        return _JSON.encode(found).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    A file to write.

    :param written: what the journal says once it is there.
    """

    content: bytes
    written: PartWritten


class Parts:
    """
    The results of one attempt.

    :param writer: id of the attempt; the names of its files begin with it.
    :param closed: how many of its files there are.
    """

    def __init__(self, *, writer: str, closed: int = 0) -> None:
        self._writer = writer
        self._closed = closed
        self._lines: list[bytes] = []
        self._bytes = 0
        self._rows: dict[ItemState, list[int]] = {}
        self._spent: list[Spent] = []
        self._closes_at: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._lines

    def add(self, outcome: Outcome, *, now: float) -> None:
        """Take the final word on an item."""
        line = outcome.to_line()
        self._lines.append(line)
        self._bytes += len(line)
        self._rows.setdefault(outcome.state, []).append(outcome.row)
        self._spent.append(outcome.spent)
        if self._closes_at is None:
            self._closes_at = now + MAX_SECONDS

    def due_at(self) -> float | None:
        """Return when the part has to be written, in the seconds of ``add``; None if there is nothing."""
        is_full = len(self._lines) >= MAX_ITEMS or self._bytes >= MAX_BYTES
        return float("-inf") if is_full else self._closes_at

    def close(self) -> Part:
        """Return what was gathered, and begin anew."""
        self._closed += 1
        written = PartWritten(
            name=f"{self._writer}-{self._closed:05d}.jsonl",
            succeeded=tuple(self._rows.get(ItemState.SUCCEEDED, ())),
            failed=tuple(self._rows.get(ItemState.FAILED, ())),
            lost=tuple(self._rows.get(ItemState.LOST, ())),
            spent=Spent.sum(self._spent),
        )
        part = Part(content=b"".join(self._lines), written=written)
        self._lines, self._bytes, self._rows, self._spent = [], 0, {}, []
        self._closes_at = None
        return part
