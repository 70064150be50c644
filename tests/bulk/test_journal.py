# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk.events import Event, Intended, JournalError, NotAccepted
from airflow_provider_openai_runs.bulk.journal import Journal


class MemoryFolder:
    def __init__(self) -> None:
        self.files: dict[tuple[str, ...], bytes] = {}
        self.fails = False

    def write(self, content: bytes, *names: str) -> None:
        if self.fails:
            raise OSError("read-only")
        assert self.files.get(names, content) == content, "a file of another attempt was overwritten"
        self.files[names] = content

    def read(self, *names: str) -> bytes:
        try:
            return self.files[names]
        except KeyError:
            raise FileNotFoundError(names) from None


class MemoryStore:
    def __init__(self) -> None:
        self.value: Mapping[str, Any] | None = None
        self.fails: Exception | None = None
        self.saves_before_it_fails = False

    def load(self) -> Mapping[str, Any] | None:
        return copy.deepcopy(self.value)

    def save(self, value: Mapping[str, Any]) -> None:
        if self.fails is None or self.saves_before_it_fails:
            self.value = copy.deepcopy(value)
        if self.fails is not None:
            raise self.fails


@pytest.fixture
def folder() -> MemoryFolder:
    return MemoryFolder()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def _attempt(folder: MemoryFolder, store: MemoryStore, *, writer: str, generation: int = 0) -> Journal:
    return Journal(folder=folder, store=store, generation=generation, writer=writer)


FIRST, SECOND, THIRD = Intended(rows=(1, 2)), NotAccepted(rows=(1,)), Intended(rows=(3,))


def test_a_retry_reads_what_the_attempts_before_it_have_committed(
    folder: MemoryFolder, store: MemoryStore
) -> None:
    one = _attempt(folder, store, writer="ti-1")
    assert one.load() == []
    one.commit([FIRST])
    one.commit([SECOND])
    two = _attempt(folder, store, writer="ti-2")
    assert two.load() == [FIRST, SECOND]
    two.commit([THIRD])
    assert _attempt(folder, store, writer="ti-3").load() == [FIRST, SECOND, THIRD]
    assert sorted(folder.files) == [
        ("journal", "ti-1", "000001.jsonl"),
        ("journal", "ti-1", "000002.jsonl"),
        ("journal", "ti-2", "000001.jsonl"),
    ]


def test_a_task_that_comes_back_from_its_trigger_goes_on_with_its_own_numbers(
    folder: MemoryFolder, store: MemoryStore
) -> None:
    journal = _attempt(folder, store, writer="ti-1")
    journal.load()
    journal.commit([FIRST])
    resumed = _attempt(folder, store, writer="ti-1")
    assert resumed.load() == [FIRST]
    resumed.commit([SECOND])
    assert resumed.load() == [FIRST, SECOND]


def test_a_segment_whose_number_is_not_stored_does_not_count(
    folder: MemoryFolder, store: MemoryStore
) -> None:
    journal = _attempt(folder, store, writer="ti-1")
    journal.load()
    store.fails = ConnectionError("no answer")
    with pytest.raises(ConnectionError):
        journal.commit([FIRST])
    assert _attempt(folder, store, writer="ti-2").load() == []


@pytest.mark.parametrize("saved", [False, True], ids=["not stored", "stored, and the answer lost"])
def test_a_commit_that_failed_is_tried_again_without_a_hole(
    folder: MemoryFolder, store: MemoryStore, *, saved: bool
) -> None:
    journal = _attempt(folder, store, writer="ti-1")
    journal.load()
    store.fails, store.saves_before_it_fails = ConnectionError("no answer"), saved
    with pytest.raises(ConnectionError):
        journal.commit([FIRST])
    store.fails = None
    journal.commit([FIRST])
    journal.commit([SECOND])
    assert _attempt(folder, store, writer="ti-2").load() == [FIRST, SECOND]


def test_storage_that_fails_commits_nothing(folder: MemoryFolder, store: MemoryStore) -> None:
    journal = _attempt(folder, store, writer="ti-1")
    journal.load()
    folder.fails = True
    with pytest.raises(OSError, match="read-only"):
        journal.commit([FIRST])
    assert store.value is None


def test_a_clear_begins_anew(folder: MemoryFolder, store: MemoryStore) -> None:
    journal = _attempt(folder, store, writer="ti-1")
    journal.load()
    journal.commit([FIRST])
    assert _attempt(folder, store, writer="ti-2", generation=1).load() == []


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_committed_segment_that_is_damaged_is_an_error_that_names_it(
    folder: MemoryFolder, store: MemoryStore, damage: str
) -> None:
    journal = _attempt(folder, store, writer="ti-1")
    journal.load()
    events: list[Event] = [FIRST, SECOND]
    journal.commit(events)
    name, content = folder.files.popitem()
    if damage == "cut off":
        folder.files[name] = content[:-4]
    with pytest.raises(JournalError, match=r"journal/ti-1/000001\.jsonl is committed"):
        _attempt(folder, store, writer="ti-2").load()


@pytest.mark.parametrize("value", [{}, {"cycle": 0}, {"cycle": 0, "writers": [["a"]]}, {"writers": []}])
def test_a_stored_value_that_cannot_be_read_is_never_an_empty_journal(
    folder: MemoryFolder, store: MemoryStore, value: dict[str, Any]
) -> None:
    store.value = value
    with pytest.raises(JournalError, match="openai_bulk"):
        _attempt(folder, store, writer="ti-1").load()


def test_a_long_journal_is_read_many_segments_at_once_and_in_its_order(store: MemoryStore) -> None:
    class SlowFolder(MemoryFolder):
        def read(self, *names: str) -> bytes:
            time.sleep(0.02)
            return super().read(*names)

    folder = SlowFolder()
    for writer in ("ti-1", "ti-2"):
        journal = _attempt(folder, store, writer=writer)
        journal.load()
        for row in range(80):
            journal.commit([Intended(rows=(row,))])
    began_at = time.monotonic()
    events = _attempt(folder, store, writer="ti-3").load()
    assert time.monotonic() - began_at < 160 * 0.02 / 2
    assert [event.rows for event in events if isinstance(event, Intended)] == [
        (row,) for _ in range(2) for row in range(80)
    ]
