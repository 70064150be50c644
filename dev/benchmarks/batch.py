# SPDX-License-Identifier: Apache-2.0
"""
What 10,000 items by batch take of a worker: its memory, and its seconds to build, upload, download and split.

``python -m dev.benchmarks.batch [ROWS]`` runs a simulator in a process of its own, and a task in another,
which leaves the worker while its batches are executed. No Airflow runs; its store is a dict here.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dev import ROOT
from dev.benchmarks.bulk_memory import ROW_BYTES, _mb, _status, _written

ROWS = 10_000
MOST_MB = 100.0
MOST_SECONDS = 60.0


class _Store:
    """Airflow's task state store."""

    def __init__(self) -> None:
        self.value: Mapping[str, Any] | None = None

    def load(self) -> Mapping[str, Any] | None:
        return self.value

    def save(self, value: Mapping[str, Any]) -> None:
        self.value = value


def measure(path: str, folder: str) -> dict[str, Any]:
    """Run a task to its end; return seconds in the worker, and megabytes above the start."""
    from airflow_provider_openai_runs.bulk import read_results  # noqa: PLC0415 # brings Airflow
    from airflow_provider_openai_runs.bulk.batch.session import BatchSession  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.inputs import open_input  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.item_request import ItemRequest  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.settings import BulkSettings  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.storage import MANIFEST  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.work import Concluded  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.end_of_attempt import TaskState  # noqa: PLC0415

    log: Any = logging.getLogger(__name__)
    settings = BulkSettings(
        conn_id="openai_default",
        output_path=folder,
        request_of=ItemRequest(arguments={"model": "gpt-4o-mini"}, names=frozenset({"input", "model"})),
        completion_window=26 * 3600.0,
        deferrable=True,
    )
    names = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
    ti = SimpleNamespace(**names, id="ti-1", try_number=1, max_tries=0, xcom_push=lambda **_: None)
    store = _Store()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmHWM")
    steps, cpu = [], time.process_time()
    while True:
        session = BatchSession(
            settings,
            ti=ti,
            store=store,
            ask=lambda: TaskState("running"),
            open_input=lambda: open_input(
                input_path=path, request=lambda row: {"input": row["text"], "custom_id": row["id"]}, log=log
            ),
            log=log,
        )
        began = time.monotonic()
        step = session.run()
        steps.append(round(time.monotonic() - began, 1))
        if isinstance(step, Concluded):
            break
        time.sleep(2)  # the trigger's part
    found = {"peak_mb": _mb(_status("VmHWM") - before), "before_mb": _mb(before)}
    cpu = time.process_time() - cpu
    manifest = step.folder.uri_of(MANIFEST)
    rows = [item["row"] for item in read_results(manifest)]
    return {
        **found,
        "worker_s": round(sum(steps), 1),
        "cpu_s": round(cpu, 1),
        "steps_s": steps,
        "results": len(rows),
        "doubled": len(rows) - len(set(rows)),
    }


def _simulator(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "airflow_provider_openai_runs.simulator", "--port", str(port)]
    return subprocess.Popen(command, cwd=ROOT)  # noqa: S603


def _wait_for(port: int) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models")
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return


def main(rows: int) -> int:
    """Print what a task takes; fail beyond what is promised."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    simulator = _simulator(port)
    try:
        _wait_for(port)
        with tempfile.TemporaryDirectory() as folder:
            path = _written(Path(folder) / "in.jsonl", rows)
            connection = {"conn_type": "openai", "password": "sk", "host": f"http://127.0.0.1:{port}/v1"}
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-m", __spec__.name, "--one", str(path), f"{folder}/out"],
                check=True,
                capture_output=True,
                text=True,
                cwd=ROOT,
                env={**os.environ, "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(connection)},
            )
    finally:
        simulator.terminate()
        simulator.wait()
    line = done.stdout.splitlines()[-1]
    print(json.dumps({"rows": rows, "row_bytes": ROW_BYTES, **json.loads(line)}))
    found_values = json.loads(line)
    is_whole = found_values["results"] == rows and not found_values["doubled"]
    is_small = found_values["peak_mb"] <= MOST_MB and found_values["worker_s"] <= MOST_SECONDS
    return 0 if is_whole and is_small else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], sys.argv[3])))
    else:
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else ROWS))
