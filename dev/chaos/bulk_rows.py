# SPDX-License-Identifier: Apache-2.0
"""The rows about bulk tasks: what is done to them. What must come of each item is in ``bulk_items``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from dev.chaos import cluster_faults, task_faults
from dev.chaos.faulty_storage import FAULT, PROTOCOL
from dev.chaos.trial import LONG, Trial

KIND = "bulk"
ITEMS = 200
ONE_WAVE = 60
"""Items that are all active at once."""
OPTIONS: dict[str, Any] = {"max_active": 80, "max_unrecorded": 25}
WINDOW, TIMEOUT = 40.0, 30.0
STORAGE_FAULT_SECONDS = 60.0
SECONDS = 14.0
SECONDS_DEFERRED = 110.0
"""After a minute of nothing but waiting a worker defers."""


def folder_of(trial: Trial) -> Path:
    """Return where the task writes."""
    return trial.cluster.folder / "bulk" / trial.name


def items(count: int, protocol: str = "file") -> Callable[[Trial], None]:
    """Give each trial so many items."""

    def prepare(trial: Trial) -> None:
        folder_of(trial).mkdir(parents=True, exist_ok=True)
        trial.conf["output"] = f"{protocol}://{folder_of(trial)}/out"
        trial.conf["items"] = [
            {
                "input": f"Trial {trial.name} item {number}",
                "metadata": {"trial": trial.name, "item": str(number)},
            }
            for number in range(count)
        ]

    return prepare


def _until_created(trial: Trial, count: int) -> None:
    trial.until(f"{count} runs", lambda: len(trial.runs) >= count)


def kill_while_creating(trial: Trial) -> None:
    """Kill the task somewhere in its first wave of creates."""
    _until_created(trial, trial.dice.randint(1, 70))
    trial.kill_task()


def kill_between_waves(trial: Trial) -> None:
    """Kill the task while all of its slots are taken."""
    _until_created(trial, OPTIONS["max_active"])
    trial.pause(2, 8)
    trial.kill_task()


def kill_while_collecting(trial: Trial) -> None:
    """Kill the task when its first results are there."""
    trial.until("a result", lambda: any(folder_of(trial).rglob("results/*")))
    trial.pause(0, 3)
    trial.kill_task()


def mark_while_creating(trial: Trial) -> None:
    """Mark the task failed in its first wave."""
    _until_created(trial, trial.dice.randint(10, 70))
    trial.mark("failed")


def mark_while_deferred(trial: Trial) -> None:
    """Mark the task failed while a trigger waits for it."""
    trial.until_waiting()
    trial.pause(1, 5)
    trial.mark("failed")


def clear_while_creating(trial: Trial) -> None:
    """Clear the task in its first wave, and let it succeed."""
    _until_created(trial, trial.dice.randint(10, 70))
    trial.clear()


def evict_under_load(trial: Trial) -> None:
    """Shut the worker down in the middle of the first wave."""
    _until_created(trial, 40)
    task_faults.evict(trial)


def freeze_until_replaced(trial: Trial) -> None:
    """Stop the worker under load until its task has been given to another one."""
    _until_created(trial, 40)
    task_faults.freeze(trial)


def freeze_and_mark(trial: Trial) -> None:
    """Stop the worker under load, mark its task failed, and let it come back to a task that is over."""
    _until_created(trial, 40)
    frozen = (trial.supervisor(), trial.task_process())
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        trial.mark("failed")
        trial.pause(3, 12)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def let_window_pass(trial: Trial) -> None:
    """Expect the end of all runs when the completion window is over."""
    first = trial.until_run()
    trial.excuse(first.created_at + WINDOW - 10)


def let_time_pass(trial: Trial) -> None:
    """Expect the end of all runs when execution_timeout is over."""
    trial.until_run()
    trial.excuse(datetime.fromisoformat(trial.instance["start_date"]).timestamp() + TIMEOUT - 1)


def storage(kind: str) -> Callable[[Trial], None]:
    """Disturb the storage for a minute, in the middle of the first wave."""

    def fault(trial: Trial) -> None:
        _until_created(trial, 40)
        (folder_of(trial) / FAULT).write_text(kind)
        time.sleep(STORAGE_FAULT_SECONDS)
        (folder_of(trial) / FAULT).unlink()

    return fault


FAILED = frozenset({"failed"})
_QUICK: dict[str, Any] = {"trial": {"seconds": SECONDS}, "waits": ("worker",), "prepare": items(ITEMS)}
_LASTING: dict[str, Any] = {"trial": {"seconds": LONG}, "results": FAILED, "prepare": items(ITEMS)}
_DEFERRED: dict[str, Any] = {"waits": ("deferred",), "prepare": items(ONE_WAVE)}

BULK_ROWS: tuple[dict[str, Any], ...] = (
    {"name": "bulk: kill -9 while creating", "fault": kill_while_creating, **_QUICK},
    {"name": "bulk: kill -9 between two waves", "fault": kill_between_waves, **_QUICK},
    {"name": "bulk: kill -9 while collecting", "fault": kill_while_collecting, **_QUICK},
    {"name": "bulk: clear while creating", "fault": clear_while_creating, **_QUICK},
    {"name": "bulk: SIGTERM under load, retry left", "fault": evict_under_load, **_QUICK},
    {"name": "bulk: frozen until replaced, comes back", "fault": freeze_until_replaced, **_QUICK},
    *(
        {
            "name": f"bulk: storage {kind} for a minute",
            "fault": storage(kind),
            **_QUICK,
            "prepare": items(ITEMS, PROTOCOL),
        }
        for kind in ("fails", "slow", "read-only")
    ),
    {
        "name": "bulk: mark failed while creating",
        "fault": mark_while_creating,
        **_LASTING,
        "waits": ("worker",),
    },
    {
        "name": "bulk: frozen and marked failed, comes back",
        "fault": freeze_and_mark,
        **_LASTING,
        "waits": ("worker",),
    },
    {
        "name": "bulk: completion_window over",
        "fault": let_window_pass,
        **_LASTING,
        "waits": ("worker",),
        "trial": {"seconds": LONG, "window": WINDOW},
    },
    {
        "name": "bulk: execution_timeout under load",
        "fault": let_time_pass,
        **_LASTING,
        "waits": ("worker",),
        "trial": {"seconds": LONG, "variant": "timeout"},
    },
    {
        "name": "bulk: mark failed while deferred",
        "fault": mark_while_deferred,
        **_LASTING,
        **_DEFERRED,
    },
    {
        "name": "bulk: kill -9 of a triggerer while deferred",
        "cluster_fault": cluster_faults.kill_triggerer,
        **_DEFERRED,
        "trial": {"seconds": SECONDS_DEFERRED},
    },
)
"""What ``dev.chaos.rows`` makes its rows of."""
