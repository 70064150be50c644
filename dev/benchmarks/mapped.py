# SPDX-License-Identifier: Apache-2.0
"""
A Dag of mapped runs on a live Airflow, finished by workers and finished by the triggerer.

    python -m dev.benchmarks.mapped

All runs end at the same moment, when all tasks are deferred. Worker seconds are what the workers of the
LocalExecutor are busy for, read every tenth of a second; CPU seconds are those of all components.
"""

from __future__ import annotations

import argparse
import os
import platform
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_openai_runs.simulator import Scenario, Simulator
from dev.live import LiveAirflow
from dev.live.interrupts import raise_interrupts

DAGS = Path(__file__).parent / "dags"
_READ_INTERVAL = 0.1
_FAR = 100_000.0


class Workers:
    """Adds up how long the workers are busy, in a thread."""

    def __init__(self, scheduler: int) -> None:
        self.busy_seconds = 0.0
        self._scheduler = psutil.Process(scheduler)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(_READ_INTERVAL)
            now = time.monotonic()
            self.busy_seconds += self._busy() * (now - before)
            before = now

    def _busy(self) -> int:
        try:
            found = self._scheduler.children()
            titles = [" ".join(child.cmdline()) for child in found]
        except psutil.Error:
            return 0
        return sum("LocalExecutor" in title and "<idle>" not in title for title in titles)


def play(airflow: LiveAirflow, simulator: Simulator, workers: Workers, dag_id: str) -> dict[str, Any]:
    """Run one Dag; return what it took before and after the end of its runs."""
    simulator.script(Scenario(queued=0, in_progress=_FAR, times=None))
    airflow.api.wait_for_dag(dag_id)
    busy, began = workers.busy_seconds, time.time()
    run_id = airflow.api.trigger(dag_id)
    states = _wait(airflow, dag_id, run_id, "deferred")
    time.sleep(10)  # an event that is delayed after a deferral would count otherwise
    created, started = time.time() - began - 10, workers.busy_seconds - busy
    busy, cpu = workers.busy_seconds, _cpu(airflow)
    ended = time.time()
    simulator.advance(_FAR)
    states = _wait(airflow, dag_id, run_id, "success")
    seconds = time.time() - ended
    time.sleep(2)
    return {
        "create_wall": created,
        "create_busy": started,
        "end_wall": seconds,
        "end_busy": workers.busy_seconds - busy,
        "end_cpu": _cpu(airflow) - cpu,
        "states": dict(states),
        "xcom": airflow.api.xcom(dag_id, run_id, "ask", map_index=7),
    }


def _wait(airflow: LiveAirflow, dag_id: str, run_id: str, state: str, timeout: float = 1800) -> Counter[str]:
    deadline = time.monotonic() + timeout
    while True:
        states = Counter(str(found["state"]) for found in airflow.api.task_instances(dag_id, run_id))
        # One instance stands for all until the task is mapped.
        if states.total() > 1 and set(states) <= {state, "success", "failed"}:
            return states
        if time.monotonic() > deadline:
            raise TimeoutError(f"{dag_id} is not {state}: {states}")
        time.sleep(1)


def _cpu(airflow: LiveAirflow) -> float:
    total = 0.0
    for name in airflow.components:
        process = psutil.Process(airflow.pid(name))
        for one in [process, *process.children(recursive=True)]:
            try:
                times = one.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system + times.children_user + times.children_system
    return total


def main() -> None:
    """Play both Dags and print what they took."""
    parser = argparse.ArgumentParser(description="Mapped runs, finished by workers and by the triggerer")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--parallelism", type=int, default=4, help="workers")
    arguments = parser.parse_args()
    raise_interrupts()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    with Simulator() as simulator:
        env = {
            "AIRFLOW_CONN_OPENAI_DEFAULT": simulator.connection_json,
            "BENCH_RUNS": str(arguments.runs),
        }
        with LiveAirflow(DAGS, parallelism=arguments.parallelism, env=env) as airflow:
            workers = Workers(airflow.pid("scheduler"))
            for dag_id in ("ended_by_worker", "ended_by_trigger"):
                found = play(airflow, simulator, workers, dag_id)
                print(
                    f"{dag_id:17} until all are deferred {found['create_wall']:6.1f} s, worker seconds "
                    f"{found['create_busy']:6.1f} | last end to last success {found['end_wall']:6.1f} s, "
                    f"worker seconds {found['end_busy']:6.1f}, CPU {found['end_cpu']:6.1f} s | "
                    f"{found['states']}, XCom is a {type(found['xcom']).__name__} of {len(found['xcom'])}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
