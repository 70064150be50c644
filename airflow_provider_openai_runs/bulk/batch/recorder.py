# SPDX-License-Identifier: Apache-2.0
"""Final words on items, written in parts and committed: each counts exactly once, whatever is killed when."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_openai_runs.bulk.events import BatchRefused, Cancelled, Event, Retried, Spent
from airflow_provider_openai_runs.bulk.parts import Outcome, Part, Parts

#: Rows with another chance that are kept until they are committed.
_MOST_RETRIES = 1_000


class Recorder:
    """
    Takes final words, and rows that get another chance.

    :param commit: commits events, and folds them into the items.
    :param write_part: writes a file of results.
    """

    def __init__(
        self,
        *,
        parts: Parts,
        commit: Callable[[tuple[Event, ...]], None],
        write_part: Callable[[Part], object],
    ) -> None:
        self._parts = parts
        self._commit = commit
        self._write_part = write_part
        self._retries: list[Outcome] = []
        self._cancelled: list[int] = []

    def add(self, outcome: Outcome) -> None:
        """Take the final word on an item."""
        self._parts.add(outcome, now=0.0)
        if self._parts.due_at() == float("-inf"):
            self.flush()

    def retry(self, outcome: Outcome) -> None:
        """Let a row be sent again that was to fail."""
        self._retries.append(outcome)
        if len(self._retries) >= _MOST_RETRIES:
            self.flush()

    def cancelled(self, row: int) -> None:
        """Let a row be sent again that was cut off before its turn: no try of it is used up."""
        self._cancelled.append(row)
        if len(self._cancelled) >= _MOST_RETRIES:
            self.flush()

    def refused(self, token: str) -> None:
        """Let all rows be sent again that are left of a batch after what was taken: no try is used up."""
        self.flush()
        self._commit((BatchRefused(token=token),))

    def flush(self) -> None:
        """Write and commit what was taken."""
        events: list[Event] = []
        if not self._parts.is_empty:
            part = self._parts.close()
            self._write_part(part)
            events.append(part.written)
        if self._retries:
            spent = sum((outcome.spent for outcome in self._retries), Spent())
            events.append(Retried(rows=tuple(outcome.row for outcome in self._retries), spent=spent))
            self._retries = []
        if self._cancelled:
            events.append(Cancelled(rows=tuple(self._cancelled)))
            self._cancelled = []
        if events:
            self._commit(tuple(events))
