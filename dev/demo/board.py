# SPDX-License-Identifier: Apache-2.0
"""What the tasks of the demo do just now, a line each; and what they have cost in workers so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

STATES = {
    "queued": "queued",
    "running": "in a worker",
    "deferred": "waiting, holds no worker",
    "awaiting_input": "a person is to decide; holds no worker",
    "up_for_retry": "will be tried again",
    "success": "done",
    "failed": "FAILED",
    "upstream_failed": "FAILED before it",
    "skipped": "skipped",
}
"""Airflow's states in the words of the demo; one that is not here is not shown."""

WAITING = frozenset({"deferred", "awaiting_input"})
MAPPED = ("queued", "in a worker", "waiting", "done")
"""What the bar of a mapped task counts, in this order."""
_OF_A_MAPPED_TASK = {
    "running": "in a worker",
    "deferred": "waiting",
    "awaiting_input": "waiting",
    "success": "done",
}


@dataclass(frozen=True)
class Line:
    """A task that is not mapped: its state in words, and how often it was tried again."""

    name: str
    state: str
    tries: int = 1

    def __str__(self) -> str:
        return self.state if self.tries < 2 else f"{self.state} (attempt {self.tries})"  # noqa: PLR2004


@dataclass(frozen=True)
class Bar:
    """A mapped task: how many of its instances are where."""

    name: str
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """How many instances there are."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        return ", ".join(f"{self.counts.get(what, 0)} {what}" for what in MAPPED) + f" of {self.total}"


@dataclass
class Board:
    """
    What was read last, and the seconds that were spent.

    :ivar held: the workers that are held by any task.
    :ivar worker_seconds: what deferrable tasks have held a worker, as far as sampling tells.
    :ivar waiting_seconds: what they have waited without one.
    """

    lines: dict[str, Line] = field(default_factory=dict)
    bars: dict[str, Bar] = field(default_factory=dict)
    held: int = 0
    worker_seconds: float = 0.0
    waiting_seconds: float = 0.0

    def update(self, instances: Iterable[Mapping[str, Any]], *, seconds: float) -> None:
        """
        Take over what was read.

        :param seconds: since the last time.
        """
        mapped: dict[str, Counter[str]] = {}
        self.held = 0
        for instance in instances:
            state = instance["state"]
            self.held += state == "running"
            # The one that waits in a worker does so to have it killed.
            if (instance["operator"] or "").startswith("Create") and instance["task_id"] != "worker_dies":
                self.worker_seconds += seconds * (state == "running")
                self.waiting_seconds += seconds * (state in WAITING)
            name = label(instance, with_index=False)
            if instance["map_index"] >= 0:
                what = _OF_A_MAPPED_TASK.get(state, STATES.get(state, "queued"))
                mapped.setdefault(name, Counter())[what if what in MAPPED else "queued"] += 1
            elif state in STATES:
                self.lines[name] = Line(name, STATES[state], instance["try_number"])
        for name, counts in mapped.items():
            self.lines.pop(name, None)  # until it is expanded it has one instance
            self.bars[name] = Bar(name, dict(counts))


def label(instance: Mapping[str, Any], *, with_index: bool = True) -> str:
    """Name a task instance: ``dag.task``, or ``dag.task[3]`` for a mapped one."""
    name = f"{instance['dag_id']}.{instance['task_id']}"
    return name if instance["map_index"] < 0 or not with_index else f"{name}[{instance['map_index']}]"
