# SPDX-License-Identifier: Apache-2.0
"""What the demo prints: the story of the Dag runs line by line, and a table of what they brought."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COLUMNS = {
    "task": 60,
    "id": 24,
    "kind": 10,
    "status": 12,
    "seconds": 8,
    "tokens": 8,
    "steps": 6,
    "answer": 50,
}
"""The columns of the table and how wide each may be."""

EXPLAINED = {
    "deferred": "deferred: no worker is held while the run goes on",
    "awaiting_input": "awaiting_input: a person is to decide; no worker and no trigger is held",
    "up_for_retry": "up_for_retry: failed, will be tried again",
}

WAITS = {"deferred": "the triggerer", "awaiting_input": "the person's answer"}
"""States in which no worker is held, and what resumes the task."""


class Story:
    """Prints what happens, with the seconds since the story began."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._waited: dict[str, str] = {}

    @property
    def seconds(self) -> float:
        """How long the story has lasted."""
        return time.monotonic() - self._began

    def tell(self, who: str, what: str) -> None:
        """Print one line."""
        print(f"{self.seconds:7.1f} s  {who:<38} {what}", flush=True)

    def tell_state(self, instance: Mapping[str, Any]) -> None:
        """Print the state that a task instance has come to."""
        state = instance["state"]
        if state in {None, "scheduled"}:  # not yet anywhere; the queue comes next
            return
        what = EXPLAINED.get(state, state)
        if state in WAITS:
            self._waited[instance["id"]] = state
        elif state == "running" and instance["id"] in self._waited:
            what = f"running: resumed by {WAITS[self._waited[instance['id']]]}"
        self.tell(label(instance), what)


def label(instance: Mapping[str, Any]) -> str:
    """Name a task instance: ``dag.task``, or ``dag.task[3]`` for a mapped one."""
    name = f"{instance['dag_id']}.{instance['task_id']}"
    return name if instance["map_index"] < 0 else f"{name}[{instance['map_index']}]"


def row(name: str, run: Mapping[str, Any]) -> tuple[str, ...]:
    """Make a row of the table from what a task pushed."""
    created, completed = run.get("created_at"), run.get("completed_at")
    return (
        name,
        run["ref"]["id"],
        run["ref"]["kind"],
        str(run.get("status")),
        f"{completed - created:.1f}" if created is not None and completed is not None else "-",
        str((run.get("usage") or {}).get("total_tokens", "-")),
        str(len(run.get("steps") or ())),
        " ".join(str(run.get("output_text") or "").split()),
    )


def print_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows under their headings, each column as wide as it must be, long texts cut."""
    cut = [[_cut(cell, most) for cell, most in zip(line, COLUMNS.values(), strict=True)] for line in rows]
    cut.insert(0, list(COLUMNS))
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    print()
    for line in cut:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(flush=True)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
