# SPDX-License-Identifier: Apache-2.0
"""
What it costs a worker to write a reply of 100 MB to storage: seconds, and memory beyond an open storage.

``python -m dev.benchmarks.output file`` writes to a folder, ``s3`` to moto's server, in the environment of
``make test-s3``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dev.live.interrupts import raise_interrupts
from dev.live.processes import Process, free_port, stop
from dev.live.rest import fetch_json
from dev.live.simulator import Simulator

PICTURES, BYTES = 4, 18_750_000
"""A hundred megabytes of base64."""
MOST = 64 * 1024 * 1024
"""Bytes above what the worker has once the storage is open."""
SECONDS_TO_START = 60.0


def measure(kind: str, folder: Path) -> dict[str, Any]:
    """Write one reply, and return what it cost."""
    simulator = Simulator()
    process = Process("simulator", simulator.command, os.environ, folder / "simulator.log")
    process.start()
    try:
        simulator.wait_healthy(process)
        os.environ["AIRFLOW_CONN_OPENAI_DEFAULT"] = json.dumps(
            {"conn_type": "openai", "password": "simulator-key", "host": simulator.base_url}
        )
        with _storage(kind, folder) as path:
            return _written(simulator, path)
    finally:
        stop([process])


def _written(simulator: Simulator, path: str) -> dict[str, Any]:
    from airflow_provider_openai_runs.attempts.output_files import OutputFiles  # noqa: PLC0415 # after the environment
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415

    pictures = [{"type": "image_generation", "size": BYTES}] * PICTURES
    simulator.script({"in_progress": 0, "queued": 0, "output": pictures})
    hook = OpenAIRunsHook()
    run = hook.create_background_response(model="gpt-4o-mini", input="Draw.")
    ti = SimpleNamespace(dag_id="bench", run_id="manual", task_id="draw", map_index=-1)
    output = OutputFiles(path=path, ti=ti, text_limit=None, log=logging.getLogger(__name__))  # type: ignore[arg-type]
    output.check()
    output.write_typed(run.ref, "the storage is open")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = _status("VmHWM"), time.monotonic()
    collected = output.collect(hook, run.ref, budget=300)
    seconds, peak = time.monotonic() - began, _status("VmHWM")
    if collected.error is not None:
        raise collected.error
    return {
        "path": path.partition("://")[0],
        "pictures": sum(file.uri is not None for file in collected.run.files),
        "seconds": round(seconds, 1),
        "bytes_before": before,
        "bytes_above": peak - before,
        "most": MOST,
    }


@contextmanager
def _storage(kind: str, folder: Path) -> Iterator[str]:
    if kind == "file":
        yield f"file://{folder}/output"
        return
    with s3(folder) as path:
        yield path


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """Start moto's server with a bucket and a connection ``my_s3`` to it; give a path in the bucket."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    process = Process("moto", command, os.environ, folder / "moto.log")
    process.start()
    try:
        import boto3  # noqa: PLC0415 # in the environment of make test-s3

        extra = {"endpoint_url": address, "region_name": "us-east-1"}
        connection = {"conn_type": "aws", "login": "any-key-id", "password": "any-secret", "extra": extra}
        os.environ["AIRFLOW_CONN_MY_S3"] = json.dumps(connection)
        _wait(process, f"{address}/moto-api/data.json")
        keys = {"aws_access_key_id": "any-key-id", "aws_secret_access_key": "any-secret"}
        client: Any = boto3.client("s3", **keys, **extra)
        client.create_bucket(Bucket="bucket")
        yield "s3://my_s3@bucket/folder"
    finally:
        stop([process])


def _wait(process: Process, address: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        process.check()
        try:
            fetch_json(address)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _status(name: str) -> int:
    """Read a number of bytes of this process as Linux shows it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def main() -> int:
    """Measure, and fail if it was too much."""
    raise_interrupts()
    with tempfile.TemporaryDirectory(prefix="bench-output-") as folder:
        os.environ.setdefault("AIRFLOW_HOME", folder)
        os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
        found = measure(sys.argv[1], Path(folder))
    print(json.dumps(found))
    return int(found["bytes_above"] > MOST or found["pictures"] != PICTURES)


if __name__ == "__main__":
    sys.exit(main())
