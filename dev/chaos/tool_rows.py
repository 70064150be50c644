# SPDX-License-Identifier: Apache-2.0
"""The rows about function calls: two rounds, and a worker that is killed at the wrong moment."""

from __future__ import annotations

from typing import Any

from dev.chaos.trial import Trial

ROUNDS = 2
SECONDS_OF_A_CALL = 2.0
"""Longer than the watch takes to see that a thread run waits for it."""


def one_round(number: int) -> list[dict[str, Any]]:
    """Call both functions of the Dag: one that is done at once, and one that may not come to its end."""
    return [{"name": name, "arguments": {"number": number}} for name in ("look_up", "take_time")]


CALLS: dict[str, Any] = {
    "variant": "calls",
    "seconds": 3.0,
    "script": {"function_calls": [one_round(number) for number in range(ROUNDS)]},
}


def die_after_a_function(trial: Trial) -> None:
    """Let the first attempt kill itself after its first function has run, before anything is submitted."""
    trial.conf["dies_after"] = trial.dice.uniform(0, SECONDS_OF_A_CALL)


def kill_between_rounds(trial: Trial) -> None:
    """Kill the task once the calls of the first round are answered, in the next worker if it has deferred."""
    if trial.kind == "response":
        trial.until_run(2)
    else:
        first = trial.until_run()
        trial.until("asked", lambda: _waits(trial, first.id))
        trial.until("answered", lambda: not _waits(trial, first.id))
    if trial.waits == "deferred":
        trial.until_state("deferred")
        trial.until_state("running")
        trial.task_process()
    trial.pause(0.2, 1.0)
    trial.kill_task()


def _waits(trial: Trial, run_id: str) -> bool:
    return any(run.id == run_id and run.status == "requires_action" for run in trial.runs)


def was_paid_for_once(trial: Trial) -> str | None:
    """Check that there is one thread run, or one response for each round and one for the answer."""
    wanted = 1 if trial.kind == "thread_run" else ROUNDS + 1
    found = [(run.id, run.status) for run in trial.runs]
    right = len(found) == wanted and all(status == "completed" for _, status in found)
    return None if right else f"{wanted} runs should have completed: {found}"


TOOL_ROWS: tuple[dict[str, Any], ...] = (
    {
        "name": "kill -9 between 'function ran' and 'outputs submitted'",
        "prepare": die_after_a_function,
    },
    {"name": "kill -9 between two rounds of calls", "fault": kill_between_rounds},
)
"""What ``dev.chaos.rows`` makes its rows of."""
