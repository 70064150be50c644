# SPDX-License-Identifier: Apache-2.0
"""The simulator beside the live Airflow: where it listens, how it is started, and what it was asked."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from dev.live.processes import Process, free_port
from dev.live.rest import RestError, fetch_json

if TYPE_CHECKING:
    from collections.abc import Mapping

SPEED = "0.1"
"""Ten seconds a run, as real ones take. After a second, Airflow 3.3.2 can mistake the exit of the worker that
deferred for the end of the task that is queued again by then, and fails it (apache/airflow#67287)."""


class Simulator:
    """Listens on a port of its own; ``command`` starts it, for example ``beside`` a live Airflow."""

    def __init__(self, port: int = 0, speed: str = SPEED, host: str = "127.0.0.1") -> None:
        self.port = free_port(port)
        self.address = f"http://{host}:{self.port}"
        self.base_url = f"{self.address}/v1"
        module = "airflow_provider_openai_runs.simulator"
        where = ("--host", host, "--port", str(self.port))
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

    def requests(self) -> list[dict[str, Any]]:
        """Read what it was asked, oldest first."""
        return list(fetch_json(f"{self.address}/simulator/requests")["data"])

    def runs(self) -> list[dict[str, Any]]:
        """Read all that was ever created, as it is now, oldest first."""
        return list(fetch_json(f"{self.address}/simulator/runs")["data"])

    def polls_of(self, run_id: str) -> int:
        """Count how often a run was asked for."""
        return sum(request["method"] == "GET" and run_id in request["path"] for request in self.requests())

    def advance(self, seconds: float) -> None:
        """Let time pass for its runs."""
        fetch_json(f"{self.address}/simulator/advance", method="POST", body={"seconds": seconds})
