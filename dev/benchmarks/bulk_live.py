# SPDX-License-Identifier: Apache-2.0
"""A bulk task and a mapped one on a live Airflow, from the first create to the last success."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from dev.benchmarks.bulk_contenders import prompt
from dev.live import LiveAirflow

DAGS = Path(__file__).parent / "dags"
_LIMIT = 3600.0
#: After the first cancel: what a worker has before Airflow's SIGKILL, and what a trigger has.
WORKER_SECONDS, TRIGGER_SECONDS = 4.5, 30.0


def measure(
    counts: Callable[[], dict[str, Any]],
    base_url: str,
    *,
    items: int,
    mapped: int,
    options: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """
    Run both, one after the other.

    :param counts: reads what the server was asked so far.
    :param options: of the bulk task.
    :return: by name, seconds, CPU seconds of all components, and the states that the tasks ended in.
    """
    with _airflow(base_url, items=items, mapped=mapped, options=options) as airflow:
        return {name: _play(airflow, counts, name) for name in ("bulk", "mapped")}


def mark(
    counts: Callable[[], dict[str, Any]], base_url: str, *, items: int, options: Mapping[str, Any]
) -> dict[str, list[tuple[float, int]]]:
    """
    Mark the bulk task failed when all of its items are active: in its worker, and once more when it waits.

    :return: by who has the task, seconds since the mark, and how many items had been cancelled by then.
    """
    with _airflow(base_url, items=items, mapped=1, options=options) as airflow:
        airflow.api.wait_for_dag("bulk")
        return {state: _mark(airflow, counts, state, items) for state in ("running", "deferred")}


def cancelled_within(seconds: float, course: list[tuple[float, int]]) -> int:
    """Return how many were cancelled so many seconds after the first cancel was seen."""
    first = next((at for at, count in course if count), float("inf"))
    return max((count for at, count in course if at <= first + seconds), default=0)


def _mark(
    airflow: LiveAirflow, counts: Callable[[], dict[str, Any]], state: str, items: int
) -> list[tuple[float, int]]:
    before = counts()
    run_id = airflow.api.trigger("bulk")
    limit = time.monotonic() + _LIMIT

    def is_ready() -> bool:
        is_there = airflow.api.task_instance("bulk", run_id, "ask")["state"] == state
        return is_there and int(counts()["created"]) - int(before["created"]) >= items

    while not is_ready():
        if time.monotonic() > limit:
            raise TimeoutError(f"the bulk task is not {state} with all of its items")
        time.sleep(0.5)
    marked_at = time.monotonic()
    airflow.api.mark("bulk", run_id, "ask", new_state="failed")
    course = []
    while (at := time.monotonic() - marked_at) < 2 * TRIGGER_SECONDS:
        course.append((at, counts()["cancelled"] - before["cancelled"]))
        if course[-1][1] >= items:
            break
        time.sleep(0.2)
    return course


@contextmanager
def _airflow(base_url: str, *, items: int, mapped: int, options: Mapping[str, Any]) -> Iterator[LiveAirflow]:
    with tempfile.TemporaryDirectory() as folder:
        lines = (json.dumps({"input": prompt(number)}) + "\n" for number in range(items))
        (Path(folder) / "in.jsonl").write_text("".join(lines))
        connection = {"conn_type": "openai", "password": "sk-bench", "host": base_url}
        env = {
            "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(connection),
            "BENCH_BULK": json.dumps({"options": options, "folder": folder, "mapped": mapped}),
        }
        with LiveAirflow(DAGS, parallelism=4, env=env) as airflow:
            yield airflow


def _play(airflow: LiveAirflow, counts: Callable[[], dict[str, Any]], dag_id: str) -> dict[str, Any]:
    airflow.api.wait_for_dag(dag_id)
    known, cpu, began = counts()["created"], _cpu(airflow), time.time()
    run_id = airflow.api.trigger(dag_id)
    while airflow.api.dag_run(dag_id, run_id)["state"] not in {"success", "failed"}:
        if time.time() > began + _LIMIT:
            raise TimeoutError(f"{dag_id} has not ended")
        time.sleep(1)
    ended, found = time.time(), counts()
    states = Counter(str(one["state"]) for one in airflow.api.task_instances(dag_id, run_id))
    first = found["jobs"][known][1]
    return {
        "seconds": round(ended - first, 1),
        "from_trigger": round(ended - began, 1),
        "cpu_s": round(_cpu(airflow) - cpu, 1),
        "created": found["created"] - known,
        "states": dict(states),
    }


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
