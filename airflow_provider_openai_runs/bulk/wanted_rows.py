# SPDX-License-Identifier: Apache-2.0
"""
The rows that an attempt has read, and those that it has to read: again, where an item needs another create.

No I/O and no clock. A row is kept from its reading until its create is answered, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_openai_runs.bulk.commands import ReadRows
from airflow_provider_openai_runs.bulk.rows import Row

#: Seconds between two passes over the input for the rows that are needed again.
PASS_EVERY = 10.0


class WantedRows:
    """
    The rows of one attempt.

    :param is_new: whether an item may be created, as far as the journal tells.
    """

    def __init__(self, *, is_new: Callable[[int], bool], now: float) -> None:
        self._is_new = is_new
        self._rows: dict[int, Row] = {}
        self._sizes: dict[int, int] = {}
        self._again: set[int] = set()
        self._is_reading = False
        self._pass_began_at = now
        #: Whether the first pass has come to the end of the input.
        self.is_read_whole = False
        #: How many rows the input has, as far as it is read.
        self.count = 0

    @property
    def has_more(self) -> bool:
        """Whether rows are still to be read."""
        return not self.is_read_whole or bool(self._again)

    @property
    def is_reading(self) -> bool:
        """Whether a command to read is under way."""
        return self._is_reading

    @property
    def mean_size(self) -> float:
        """How long the arguments of the rows in hand are, in characters."""
        # Each is measured once: a row may have megabytes, and this is asked for many times a second.
        self._sizes = {
            number: self._sizes.get(number) or len(str(row.values)) for number, row in self._rows.items()
        }
        return sum(self._sizes.values()) / len(self._sizes) if self._sizes else 0.0

    def to_read(self, count: int, now: float) -> ReadRows | None:
        """Return what to read now, if at most ``count`` rows are wanted."""
        if self._is_reading or not count:
            return None
        if self.is_read_whole:
            is_due = now >= self._pass_began_at + PASS_EVERY
            if not is_due or not any(map(self._is_new, self._again)):
                return None
            self._pass_began_at = now
        self._is_reading = True
        return ReadRows(count=count, from_start=self.is_read_whole)

    def on_read(self, *, is_last: bool) -> None:
        """Take note that a command to read has been answered."""
        self._is_reading = False
        self.is_read_whole = is_last

    def see(self, row: Row) -> bool:
        """Take note of a row that was read; return whether it is not in hand yet."""
        self.count = max(self.count, row.number + 1)
        return row.number not in self._rows

    def keep(self, row: Row) -> None:
        """Keep a row until its create is answered."""
        self._again.discard(row.number)
        self._rows[row.number] = row

    def read_again(self, row: int) -> None:
        """Have a row read once more."""
        self._rows.pop(row, None)
        self._again.add(row)

    def forget(self, row: int) -> None:
        """Keep a row no more."""
        self._rows.pop(row, None)
        self._again.discard(row)

    def forget_all_but(self, rows: frozenset[int]) -> None:
        """Keep these rows and no others, and read nothing again."""
        self._rows = {row: self._rows[row] for row in rows if row in self._rows}
        self._again.clear()

    def __getitem__(self, row: int) -> Row:
        return self._rows[row]

    def get(self, row: int) -> Row | None:
        """Return a row that is in hand."""
        return self._rows.get(row)
