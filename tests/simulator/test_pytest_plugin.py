# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator import Simulator


def test_the_fixture_gives_a_simulator_and_a_connection_to_it(openai_runs_simulator: Simulator) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_OPENAI_DEFAULT"])
    assert connection == {
        "conn_type": "openai",
        "password": "simulator-key",
        "host": openai_runs_simulator.base_url,
    }
    headers = {"Authorization": f"Bearer {connection['password']}"}
    assert httpx2.get(f"{connection['host']}/models", headers=headers).status_code == 200
    openai_runs_simulator.advance(1000)


def test_the_next_test_finds_nothing_of_the_one_before(openai_runs_simulator: Simulator) -> None:
    assert openai_runs_simulator.requests == []
    assert openai_runs_simulator.runs() == []


def test_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys; import airflow_provider_openai_runs.simulator.pytest_plugin; "
        "heavy = {'airflow', 'openai', 'starlette', 'uvicorn', 'pydantic', 'asyncio'}; "
        "sys.exit(str(sorted(heavy & set(sys.modules)) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.stderr.strip() == ""
