# SPDX-License-Identifier: Apache-2.0
"""A bulk task and a mapped one on a live Airflow, from the first create to the last success."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from dev.benchmarks.bulk_contenders import prompt
from dev.live import LiveAirflow

DAGS = Path(__file__).parent / "dags"
_LIMIT = 3600.0


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
    with tempfile.TemporaryDirectory() as folder:
        lines = (json.dumps({"input": prompt(number)}) + "\n" for number in range(items))
        (Path(folder) / "in.jsonl").write_text("".join(lines))
        connection = {"conn_type": "openai", "password": "sk-bench", "host": base_url}
        env = {
            "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(connection),
            "BENCH_BULK": json.dumps({"options": options, "folder": folder, "mapped": mapped}),
        }
        with LiveAirflow(DAGS, parallelism=4, env=env) as airflow:
            return {name: _play(airflow, counts, name) for name in ("bulk", "mapped")}


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
