# SPDX-License-Identifier: Apache-2.0
"""The rows about bulk tasks by batches: what is done to them. What must come of it is in ``batch_items``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.chaos import cluster_faults
from dev.chaos.trial import LONG, Trial

KIND = "batch"
ITEMS = 100
ITEMS_OF_A_BATCH = 20
BATCHES = ITEMS // ITEMS_OF_A_BATCH
WINDOW = 60.0
SECONDS = 20.0
CANCELLING = 5.0
SECONDS_TO_COLLECT = 60.0


def folder_of(trial: Trial) -> Path:
    """Return where the task writes."""
    return trial.cluster.folder / "batch" / trial.name


def _prepared(seconds: float, **first: Any) -> Callable[[Trial], None]:
    """
    Prepare the items, and how long a batch of them is in progress.

    :param first: what is different about the first one.
    """

    def prepare(trial: Trial) -> None:
        trial.conf["output"] = f"file://{folder_of(trial)}/out"
        trial.conf["items"] = [f"Trial {trial.name} item {number}" for number in range(ITEMS)]
        of_all = {"when": f"^{trial.name}__", "in_progress": seconds, "cancelling": CANCELLING}
        if first:
            trial.cluster.ask("/simulator/batch-scenarios", {**of_all, **first, "times": 1})
        trial.cluster.ask("/simulator/batch-scenarios", {**of_all, "times": None})

    return prepare


def _until_journal_says(trial: Trial, words: str, times: int = 1) -> None:
    def says() -> bool:
        segments = folder_of(trial).rglob("journal/*/*.jsonl")
        return sum(path.read_text().count(words) for path in segments) >= times

    trial.until(f"{words} in the journal", says)


def _until_created(trial: Trial, count: int) -> None:
    trial.until(f"{count} batches", lambda: len(trial.runs) >= count)


def kill_while_building(trial: Trial) -> None:
    """Kill the task somewhere between the first file and the create of the last batch."""
    trial.until("a head", lambda: any(folder_of(trial).rglob("head.json")))
    trial.pause(0, 3)
    trial.kill_task()


def kill_before_create(trial: Trial) -> None:
    """Kill the task when the intent of a create is written down, and its answer perhaps not there."""
    _until_journal_says(trial, '"batch_intended"', trial.dice.randint(1, BATCHES))
    trial.kill_task()


def kill_after_create(trial: Trial) -> None:
    """Kill the task when the server has a batch of which the journal perhaps says nothing yet."""
    _until_created(trial, trial.dice.randint(1, BATCHES))
    trial.pause(0, 0.3)
    trial.kill_task()


def kill_waiting(trial: Trial) -> None:
    """Kill the task while it waits in its worker."""
    _until_journal_says(trial, '"batch_created"', BATCHES)
    trial.pause(2, 8)
    trial.kill_task()


def kill_while_collecting(trial: Trial) -> None:
    """Kill the task when its first results are there."""
    trial.until("a result", lambda: any(folder_of(trial).rglob("results/*")))
    trial.pause(0, 0.5)
    trial.kill_task()


def mark_while_waiting(trial: Trial) -> None:
    """Mark the task failed while it waits where it is meant to, for all of its batches."""
    _until_journal_says(trial, '"batch_created"', BATCHES)
    trial.until_waiting()
    trial.pause(1, 5)
    trial.mark("failed")


def clear_while_waiting(trial: Trial) -> None:
    """Clear the task while it waits, and let it succeed."""
    _until_journal_says(trial, '"batch_created"', BATCHES)
    trial.until_waiting()
    trial.pause(1, 5)
    trial.clear()


def let_window_pass(trial: Trial) -> None:
    """Expect the end of all batches when the completion window is over, and their results after it."""
    first = trial.until_run()
    trial.excuse(first.created_at + WINDOW - 30)


def stop_what_is_left(trial: Trial) -> None:
    """Mark the task, and wait until its batches have had the time to end."""
    mark_while_waiting(trial)
    time.sleep(CANCELLING)


FAILED = frozenset({"failed"})
_OPTIONS: dict[str, Any] = {"seconds": SECONDS}
_QUICK: dict[str, Any] = {"trial": _OPTIONS, "prepare": _prepared(SECONDS)}
_WORKER: dict[str, Any] = {**_QUICK, "waits": ("worker",)}
_LASTING: dict[str, Any] = {"trial": {"seconds": LONG}, "results": FAILED, "prepare": _prepared(LONG)}

BATCH_ROWS: tuple[dict[str, Any], ...] = (
    {"name": "batch: kill -9 between upload and create", "fault": kill_while_building, **_QUICK},
    {"name": "batch: kill -9 around a create", "fault": kill_before_create, **_QUICK},
    {"name": "batch: kill -9 between create and record", "fault": kill_after_create, **_QUICK},
    {"name": "batch: kill -9 while waiting", "fault": kill_waiting, **_WORKER},
    {
        "name": "batch: kill -9 of a triggerer while waiting",
        "cluster_fault": cluster_faults.kill_triggerer,
        **_QUICK,
        "waits": ("deferred",),
        "prepare": _prepared(SECONDS_TO_COLLECT),
    },
    {"name": "batch: kill -9 while collecting", "fault": kill_while_collecting, **_QUICK},
    {"name": "batch: mark failed while waiting", "fault": stop_what_is_left, **_LASTING},
    {
        "name": "batch: clear while waiting",
        "fault": clear_while_waiting,
        **_QUICK,
        "prepare": _prepared(SECONDS_TO_COLLECT),
    },
    {
        "name": "batch: completion_window over",
        "fault": let_window_pass,
        **_LASTING,
        "trial": {"seconds": LONG, "window": WINDOW},
    },
    {
        "name": "batch: one expires in the middle",
        **_QUICK,
        "prepare": _prepared(SECONDS, expires_after=SECONDS / 2),
    },
)
"""What ``dev.chaos.rows`` makes its rows of."""
