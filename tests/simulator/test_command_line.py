# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import socket
import subprocess
import sys

import httpx2
import pytest

COMMAND = [sys.executable, "-m", "airflow_provider_openai_runs.simulator"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_serves_and_ends_cleanly(number: signal.Signals) -> None:
    command = [
        *COMMAND,
        "--port",
        "0",
        "--base-path",
        "/api",
        "--require-key",
        "sk-right",
        "--speed",
        "10",
        "--tokens-per-minute",
        "9",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        assert base_url.startswith("http://127.0.0.1:")
        assert base_url.endswith("/api")
        answer = httpx2.get(f"{base_url}/models", headers={"Authorization": "Bearer sk-right"}, timeout=60)
        assert answer.status_code == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_taken_port_is_named_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert done.stderr.startswith(f"Cannot serve on 127.0.0.1:{port}: ")
    assert "Traceback" not in done.stderr


def test_the_simulator_does_not_import_airflow_nor_openai() -> None:
    code = (
        "import sys; from airflow_provider_openai_runs.simulator import Simulator; "
        "sys.exit(str(sorted({'airflow', 'openai'} & set(sys.modules)) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.stderr.strip() == ""
