# SPDX-License-Identifier: Apache-2.0
"""The row of a hostile server: it speaks to a few tasks, and fifty others must not notice."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from dev.chaos.cluster import Cluster
from dev.chaos.hostile_server import ENDS, FORGED, KEY, PLACES, UNSEEN
from dev.chaos.trial import Trial

INNOCENTS = 50
INNOCENT = "innocent"
"""The Dag of the fifty, what their runs are called at the simulator, and their name in the prompt."""
SECONDS_OF_AN_INNOCENT = 90.0
SECONDS_TO_START = 300.0
SECONDS_LATE = 30.0
"""A poll comes after a tenth of the run's age, and no event in the first eight seconds."""


def start_innocents(cluster: Cluster, trials: list[Trial]) -> None:
    """Let fifty tasks wait, deferred, for runs of the simulator; only once, however many trials at a time."""
    if INNOCENT in cluster.runs:
        return
    script = {"in_progress": SECONDS_OF_AN_INNOCENT, "times": None, "when": INNOCENT, "expires_after": 6000}
    cluster.ask("/simulator/scenarios", script)
    cluster.watch(INNOCENT)
    trials[0].conf["innocents"] = cluster.trigger(INNOCENT, INNOCENT, {})
    until = time.monotonic() + SECONDS_TO_START
    while len(cluster.runs.get(INNOCENT, [])) < INNOCENTS and time.monotonic() < until:
        time.sleep(0.5)


def limit_time(trial: Trial) -> None:
    """Let the time of those be over soon whose run never ends."""
    trial.conf["window"] = 20 if trial.kind == "hostile_cancel" else 300


def was_carried(trial: Trial) -> str | None:
    """Check how the task ended and what its log shows; of the first trial, also what became of the fifty."""
    wanted = ENDS[trial.kind.removeprefix("hostile_")]
    if trial.state != wanted:
        return f"ended as {trial.state}, not as {wanted}"
    for line in trial.log().splitlines():
        said = _texts(json.loads(line))
        if wrong := [text for text in said if KEY in text or UNSEEN.search(text) or text.startswith(FORGED)]:
            return f"its log shows {wrong[0][:200]!r}"
    for name, component in trial.cluster.airflow.components.items():
        if name.startswith("triggerer") and "has died" in component.log.read_text(errors="replace"):
            return f"{name} has died"
    return _hurt(trial.cluster, trial.conf["innocents"]) if "innocents" in trial.conf else None


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _hurt(cluster: Cluster, run_id: str) -> str | None:
    """Say which of the fifty has not succeeded, or ended late."""
    cluster.forget(INNOCENT)
    until = time.monotonic() + SECONDS_OF_AN_INNOCENT + SECONDS_LATE
    while any(run.ended_at is None for run in cluster.runs[INNOCENT]) and time.monotonic() < until:
        time.sleep(1)
    time.sleep(SECONDS_LATE)
    found = cluster.api.task_instances(INNOCENT, run_id)
    states = [one["state"] for one in found]
    if len(states) != INNOCENTS or set(states) != {"success"}:
        return f"{states.count('success')} of {INNOCENTS} waits beside it succeeded: {set(states)}"
    # Which of the runs is whose does not matter: the n-th end belongs to the n-th run that has ended.
    ends = sorted(datetime.fromisoformat(one["end_date"]).timestamp() for one in found)
    runs = sorted(run.ended_at or 0.0 for run in cluster.runs[INNOCENT])
    late = max(end - run for end, run in zip(ends, runs, strict=True))
    print(
        f"{len(ends)} waits beside the hostile server ended {late:.1f} s after their runs at most", flush=True
    )
    return f"a wait beside it ended {late:.0f} s late" if late > SECONDS_LATE else None


HOSTILE_ROW: dict[str, Any] = {
    "name": "a hostile server, beside fifty waits",
    "prepare": limit_time,
    "early_cluster_fault": start_innocents,
    "check": was_carried,
    "kinds": tuple(f"hostile_{place}" for place in PLACES),
    "results": frozenset(ENDS.values()),
    "runs": 0,
    "trial": {},
    "at_most": 1,
}
"""What ``dev.chaos.rows`` makes its row of."""
