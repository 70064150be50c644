# SPDX-License-Identifier: Apache-2.0
"""A Dag run of three hundred tasks is marked failed: what Airflow does then keeps its API busy for long."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dev.live.rest import RestError

if TYPE_CHECKING:
    from dev.chaos.cluster import Cluster
    from dev.chaos.trial import Trial

CROWD = "crowd"
"""The name of the Dag, and what the simulator knows its runs by."""
SIZE = 300
SECONDS_OF_A_RUN = 6000
SECONDS_TO_START = 1800.0
SECONDS_TO_BE_KILLED = 40.0
"""A heartbeat, the five seconds that a task has left, the thirty of a trigger, and what a busy API takes."""
ASKERS = 12


def gather(cluster: Cluster, trials: list[Trial]) -> None:
    """Let the three hundred wait; only once, however many trials at a time."""
    if CROWD in cluster.runs:
        return
    scenario = {"in_progress": SECONDS_OF_A_RUN, "times": None, "when": CROWD, "expires_after": 6000}
    cluster.ask("/simulator/scenarios", scenario)
    cluster.watch(CROWD)
    trials[0].conf[CROWD] = cluster.trigger(CROWD, CROWD, {})
    until = time.monotonic() + SECONDS_TO_START
    while len(cluster.runs.get(CROWD, [])) < SIZE and time.monotonic() < until and not cluster.is_over:
        time.sleep(0.5)
    cluster.settle()


def fail_all(cluster: Cluster, trials: list[Trial]) -> None:
    """Mark every Dag run failed at the same time, while others ask so much of the API that it is slow."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with suppress(OSError, RestError):
                cluster.api.call("GET", "/dags/~/dagRuns/~/taskInstances?limit=1000")

    askers = [threading.Thread(target=ask, daemon=True) for _ in range(ASKERS)]
    for asker in askers:
        asker.start()
    try:
        with ThreadPoolExecutor(len(trials) + 1) as pool:
            if CROWD in trials[0].conf:
                run_id = trials[0].conf[CROWD]
                pool.submit(cluster.change, lambda: cluster.api.mark_run(CROWD, run_id, new_state="failed"))
            for trial in trials:
                pool.submit(trial.fail_dag_run)
        time.sleep(SECONDS_TO_BE_KILLED)
    finally:
        over.set()


def nothing_goes_on(trial: Trial) -> str | None:
    """Check, once, that no run of the three hundred is left."""
    if CROWD not in trial.conf:
        return None
    trial.cluster.forget(CROWD)
    runs = trial.cluster.runs[CROWD]
    left = sum(run.ended_at is None for run in runs)
    print(f"of {len(runs)} runs of a Dag run that was marked failed, {left} go on", flush=True)
    return f"{left} of {len(runs)} runs of the crowd go on" if left or len(runs) != SIZE else None


CROWD_ROW: dict[str, Any] = {
    "name": "all Dag runs marked failed, the API is busy",
    "early_cluster_fault": gather,
    "cluster_fault": fail_all,
    "check": nothing_goes_on,
    "results": frozenset({"failed", "skipped"}),
    "trial": {},
}
"""What ``dev.chaos.rows`` makes its row of."""
