# SPDX-License-Identifier: Apache-2.0
"""The simulator beside the live Airflow, and the connections that the example Dags use."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from demo.processes import Process, free_port
from demo.rest import RestError, fetch_json

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTED = {
    "runs created": re.compile(r"^POST .*/(runs|responses)$"),
    "looks": re.compile(r"^GET .*/(runs|responses)/\w+$"),
    "cancelled": re.compile(r"^POST .*/cancel$"),
}
SPEED = "0.1"
"""Ten seconds a run, as real ones take. After a second, Airflow 3.3.2 can mistake the exit of the worker that
deferred for the end of the task that is queued again by then, and fails it (apache/airflow#67287)."""

KEY, BASE_URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"


class Simulator:
    """Where the simulator listens, how it is started, and what it was asked."""

    def __init__(self, port: int = 0, speed: str = SPEED) -> None:
        self.port = free_port(port)
        self.address = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.address}/v1"
        module = "airflow_provider_openai_runs.simulator"
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        self.command = (sys.executable, "-m", module, *where, "--speed", speed)

    def wait_healthy(self, process: Process, timeout: float = 30) -> None:
        """Wait until it answers; ``process`` is the one that runs the command."""
        deadline = time.monotonic() + timeout
        while True:
            process.check()
            try:
                fetch_json(f"{self.address}/simulator/health")
            except (OSError, RestError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def script(self, scenario: Mapping[str, Any]) -> None:
        """Say what its runs are to do; the keys are those of ``simulator.Scenario``."""
        fetch_json(f"{self.address}/simulator/scenarios", method="POST", body=scenario)

    def asked(self) -> str:
        """Sum up what it was asked."""
        requests = fetch_json(f"{self.address}/simulator/requests")["data"]
        lines = [f"{request['method']} {request['path']}" for request in requests]
        return ", ".join(
            f"{sum(map(bool, map(asked.match, lines)))} {what}" for what, asked in COUNTED.items()
        )


def real_service() -> bool:
    """Tell whether the environment has a key, so that ``openai_default`` is not the simulator."""
    return bool(os.environ.get(KEY))


def service_name(simulator: Simulator) -> str:
    """Say what ``openai_default`` points to."""
    if real_service():
        return os.environ.get(BASE_URL) or f"OpenAI ({KEY} is set)"
    return f"{simulator.base_url} (the simulator; set {KEY} to use a real service)"


def environment(simulator: Simulator) -> dict[str, str]:
    """Define the connections; let operators wait in the triggerer, and retries come soon.

    ``openai_threads`` always is the simulator: OpenAI itself has removed the API that thread runs need.
    """
    simulated = _connection("simulator-key", simulator.base_url)
    default = _connection(os.environ[KEY], os.environ.get(BASE_URL)) if real_service() else simulated
    return {
        "AIRFLOW_CONN_OPENAI_DEFAULT": default,
        "AIRFLOW_CONN_OPENAI_THREADS": simulated,
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
    }


def _connection(key: str, base_url: str | None) -> str:
    return json.dumps({"conn_type": "openai", "password": key, "host": base_url or ""})
