# SPDX-License-Identifier: Apache-2.0
"""
The journal of a bulk task: numbered files on storage, and their number in Airflow's task state store.

A segment counts once its number is in the store: that is the commit. The store refuses a writer whose task
instance is gone, so a commit also proves that no later attempt has taken over. Each attempt writes in a
folder of its own, so no file is ever written by two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from airflow_provider_openai_runs.bulk.events import (
    Event,
    JournalError,
)
from airflow_provider_openai_runs.bulk.journal_lines import from_lines, to_lines

#: The key in the task state store. Stored, so it stays.
KEY = "openai_bulk"
#: Segments that are read at once: there may be one for each second of a day, each a request to a store.
_READS_AT_ONCE = 16


class Folder(Protocol):
    """Where the journal lies; the names are parts of a path below it. Threads may share it."""

    def write(self, content: bytes, *names: str) -> object:
        """Write a file whole, so that it outlives this machine; the same content may be written again."""

    def read(self, *names: str) -> bytes:
        """
        Read a file.

        :raises FileNotFoundError: if there is none.
        """


class StateStore(Protocol):
    """
    Airflow's task state store, as far as it is used here.

    Whatever it raises is passed on: without a commit nothing may be sent.
    """

    def load(self) -> Mapping[str, Any] | None:
        """Return what is stored; None if nothing is."""

    def save(self, value: Mapping[str, Any]) -> None:
        """
        Store a value.

        :raises NoLongerOwnerError: if a later attempt has taken over.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """
    An attempt that has written.

    :param id: of its task instance, which is another one in each attempt.
    :param segments: how many of its segments are committed.
    """

    id: str
    segments: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """
    What is committed.

    :param generation: a clear begins another one, in a place of its own; stored as ``cycle``.
    :param writers: the attempts of this generation, in their order.
    :param folder: URI of the generation's folder; None where an earlier version has written this.
    """

    generation: int
    writers: tuple[Writer, ...] = ()
    folder: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored."""
        return {
            "cycle": self.generation,
            "writers": [[writer.id, writer.segments] for writer in self.writers],
            **({} if self.folder is None else {"folder": self.folder}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Head:
        """
        Read the stored form.

        :raises JournalError: if it cannot be read; to begin anew could mean to pay twice.
        """
        try:
            writers = tuple(Writer(id=str(name), segments=int(count)) for name, count in value["writers"])
            folder = value.get("folder")
            return cls(
                generation=int(value["cycle"]),
                writers=writers,
                folder=None if folder is None else str(folder),
            )
        except (ValueError, TypeError, LookupError, AttributeError):
            raise JournalError(f"The stored value {KEY!r} is not of this version, or damaged.") from None


@dataclass(kw_only=True)
class Journal:
    """
    The journal of one generation, and one attempt that goes on with it.

    :param writer: id of this attempt's task instance.
    :param uri: of the folder; a clear ends what is left there, wherever it writes itself.
    :param clock: Unix seconds.
    :ivar written_at: when the last segment was written for the first time, in Unix seconds; its commit may
        have taken longer.
    """

    folder: Folder
    store: StateStore
    generation: int
    writer: str
    uri: str | None = None
    clock: Callable[[], float] = time.time
    written_at: float = field(default=float("inf"), init=False)
    _written: int = field(default=0, init=False)
    _head: Head | None = field(default=None, init=False)

    def load(self) -> list[Event]:
        """
        Return all that is committed in this generation.

        :raises JournalError: if a committed segment is missing or damaged.
        """
        stored = self.store.load()
        head = Head(generation=self.generation) if stored is None else Head.from_json(stored)
        if head.generation != self.generation:
            head = Head(generation=self.generation)
        self._head = head
        return [*self._events(head.writers)]

    @property
    def segments(self) -> int:
        """How many segments this attempt has committed."""
        last = self._head.writers[-1] if self._head is not None and self._head.writers else None
        return last.segments if last is not None and last.id == self.writer else 0

    @property
    def earlier_attempts(self) -> int:
        """How many attempts have written before this one."""
        writers = self._head.writers if self._head is not None else ()
        return sum(writer.id != self.writer for writer in writers)

    def uncommitted(self) -> list[Event]:
        """
        Return what the last attempt before this one has written and not committed, as far as it can be read.

        Its creates were sent; of what they were answered with, this may be the only trace.
        """
        assert self._head is not None  # noqa: S101 # for mypy: it is loaded first
        last = self._head.writers[-1] if self._head.writers else None
        if last is None or last.id == self.writer:
            return []
        try:
            return from_lines(self.folder.read(*_segment(last.id, last.segments + 1)))
        except (FileNotFoundError, JournalError):
            return []

    def commit(self, events: Iterable[Event]) -> None:
        """
        Write events as the next segment, and commit it; after a failure the same events may be given again.

        :raises NoLongerOwnerError: if a later attempt has taken over.
        """
        head = self._head
        assert head is not None  # noqa: S101 # for mypy: it is loaded first
        last = head.writers[-1] if head.writers else None
        number = 1 + (last.segments if last is not None and last.id == self.writer else 0)
        earlier = [writer for writer in head.writers if writer.id != self.writer]
        self.folder.write(to_lines(events), *_segment(self.writer, number))
        if self._written != number:
            self._written, self.written_at = number, self.clock()
        changed = Head(
            generation=head.generation,
            writers=(*earlier, Writer(id=self.writer, segments=number)),
            folder=self.uri,
        )
        self.store.save(changed.to_json())
        self._head = changed

    def _events(self, writers: Iterable[Writer]) -> Iterator[Event]:
        numbered = ((writer.id, number) for writer in writers for number in range(1, writer.segments + 1))
        with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="openai-bulk-journal") as pool:
            while some := [*islice(numbered, 4 * _READS_AT_ONCE)]:
                for events in pool.map(self._committed, some):
                    yield from events

    def _committed(self, segment: tuple[str, int]) -> list[Event]:
        names = _segment(*segment)
        try:
            return from_lines(self.folder.read(*names))
        except FileNotFoundError:
            raise JournalError(f"{'/'.join(names)} is committed, and is not there.") from None
        except JournalError as error:
            raise JournalError(f"{'/'.join(names)} is committed, and cannot be read: {error}") from None


def _segment(writer: str, number: int) -> tuple[str, ...]:
    return ("journal", writer, f"{number:06d}.jsonl")
