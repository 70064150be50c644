# SPDX-License-Identifier: Apache-2.0
"""What may have become of a bulk task between two of its attempts, so that the next one cannot go on."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.storage import OutputStore

if TYPE_CHECKING:
    import pytest

#: Does it to the input, or to the task, and returns what the error says of it.
Unfit = Callable[[Path, Any], str]


def is_gone(path: Path, _task: Any) -> str:
    path.unlink()
    return "there is no such file"


def has_changed(path: Path, _task: Any) -> str:
    path.write_text('"a"\n"c"\n')
    return "The input has changed"


def is_wrong(_path: Path, task: Any) -> str:
    task.completion_window = "soon"  # as a template may be rendered
    return "completion_window"


def input_of(folder: Path) -> Path:
    """Write an input of two rows."""
    path = folder / "questions.jsonl"
    path.write_text('"a"\n"b"\n')
    return path


class _Breaking(io.FileIO):
    """A file on a storage that goes away while it is read."""

    def readinto(self, buffer: Any) -> int:
        if self.tell() > 20_000:
            raise OSError("the storage is away")
        return super().readinto(buffer) or 0


def table_on_storage_that_goes_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a table that can be read once, when the task opens it, and then in its first half only."""
    path = folder / "in.csv"
    path.write_text("\n".join(["input", *(f"Question {number} {'x' * 2_000}" for number in range(20))]))
    opened: list[OutputStore] = []
    opens = OutputStore.open

    def open_again(store: OutputStore, *names: str) -> Any:
        if names:
            return opens(store, *names)
        opened.append(store)
        return opens(store) if len(opened) == 1 else io.BufferedReader(_Breaking(path), 1_000)

    monkeypatch.setattr(OutputStore, "open", open_again)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.worker_io.STORAGE_PAUSE", 0.01)
    return path
