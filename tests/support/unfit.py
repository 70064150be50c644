# SPDX-License-Identifier: Apache-2.0
"""What may have become of a bulk task between two of its attempts, so that the next one cannot go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
