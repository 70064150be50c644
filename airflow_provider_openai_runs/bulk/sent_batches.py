# SPDX-License-Identifier: Apache-2.0
"""Which rows are in which batch of the Batch API, as far as the journal tells; four bytes a row."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBatch:
    """
    A batch that may have been created.

    :param token: in its metadata; it names the batch from its intent on.
    :param file_id: of the uploaded requests, in the order of ``rows``.
    :param rows: ranges of rows, each from its first to its last.
    :param at: Unix seconds of its intent.
    :param size: bytes of its file; 0 if an earlier version has not written it down.
    :param id: None as long as the answer to its create is not known.
    """

    token: str
    file_id: str
    rows: tuple[tuple[int, int], ...]
    at: float
    size: int = 0
    id: str | None = None

    def __iter__(self) -> Iterator[int]:
        for first, last in self.rows:
            yield from range(first, last + 1)

    @property
    def count(self) -> int:
        """How many rows it has."""
        return sum(last - first + 1 for first, last in self.rows)

    @property
    def name(self) -> str:
        """What a person finds it by."""
        return self.id or f"the batch with airflow_token {self.token}"


def ranges_of(rows: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return rows, which come in their order, as ranges."""
    found: list[tuple[int, int]] = []
    for row in rows:
        if found and found[-1][1] == row - 1:
            found[-1] = (found[-1][0], row)
        else:
            found.append((row, row))
    return tuple(found)


class SentBatches:
    """
    The batches of one generation of a task.

    :ivar count: how many there ever were.
    """

    def __init__(self) -> None:
        self.count = 0
        self._active: dict[int, SentBatch] = {}
        #: Rows of each that have neither a final word nor another chance.
        self._left: dict[int, int] = {}
        #: The number of each row's batch, from 1; 0 is none.
        self._numbers = array("I")

    @property
    def active(self) -> list[SentBatch]:
        """Those that still have rows to wait for, in the order of their intents."""
        return [*self._active.values()]

    def of_row(self, row: int) -> SentBatch | None:
        """Return the batch that a row waits for."""
        return self._active.get(self._numbers[row]) if row < len(self._numbers) else None

    def rows_left(self, batch: SentBatch) -> list[int]:
        """Return the rows that wait for a batch."""
        number = self._number(batch.token)
        return [row for row in batch if self._numbers[row] == number]

    def add(self, batch: SentBatch) -> None:
        """Take in a batch that is intended."""
        self.count += 1
        self._active[self.count] = batch
        for row in batch:
            self._grow(row)
            self._numbers[row] = self.count
        self._left[self.count] = batch.count

    def created(self, token: str, batch_id: str) -> SentBatch:
        """
        Take note that one was created, and return it.

        :raises LookupError: if there is none with this token.
        """
        number = self._number(token)
        self._active[number] = replace(self._active[number], id=batch_id)
        return self._active[number]

    def by_token(self, token: str) -> SentBatch:
        """
        Return an active batch.

        :raises LookupError: if there is none with this token.
        """
        return self._active[self._number(token)]

    def leave(self, rows: Sequence[int]) -> None:
        """Take note that rows wait for no batch any more."""
        for row in rows:
            number = self._numbers[row] if row < len(self._numbers) else 0
            if number:
                self._numbers[row] = 0
                self._left[number] -= 1
                if not self._left[number]:
                    del self._left[number], self._active[number]

    def _number(self, token: str) -> int:
        for number, batch in self._active.items():
            if batch.token == token:
                return number
        raise LookupError(token)

    def _grow(self, row: int) -> None:
        missing = row + 1 - len(self._numbers)
        if missing > 0:
            self._numbers.extend(array("I", bytes(self._numbers.itemsize * max(missing, len(self._numbers)))))
