# SPDX-License-Identifier: Apache-2.0
"""The row about ``max_total_tokens``: a worker is killed just before or after a create near the ceiling."""

from __future__ import annotations

from typing import Any

from dev.chaos import task_faults
from dev.chaos.trial import Trial

MAX_WRITTEN = 10_000
"""Of one run; its prompt is some hundred bytes."""
HOLDS = 2
CEILING = HOLDS * MAX_WRITTEN + MAX_WRITTEN // 2
"""Holds that many runs, and one less than there are attempts."""

CAPPED: dict[str, Any] = {
    "variant": "capped",
    "seconds": 2.0,
    # Each of them fails, and does not say what it has used: so all of it stays reserved.
    "script": {"ends": "failed", "times": None},
}


def kill_around_a_create(trial: Trial) -> None:
    """Kill the task before, during or right after its first create, or the second one."""
    if trial.dice.random() < 0.5:  # noqa: PLR2004 - in one of two
        trial.until_run()
        trial.until("a second attempt", lambda: trial.attempts > 1)
    trial.dice.choice([task_faults.kill_early, task_faults.kill_after_create])(trial)


def stays_below(trial: Trial) -> str | None:
    """Check that no more was created than the ceiling holds, whatever became of the attempts."""
    if len(trial.runs) > HOLDS:
        return f"{len(trial.runs)} runs of up to {MAX_WRITTEN} tokens, above the ceiling of {CEILING}"
    return None
