# SPDX-License-Identifier: Apache-2.0
"""The watched Airflow of many hosts, and what may happen to one of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired

from dev.chaos.cluster import HERE, Cluster
from dev.live.airflow import LiveAirflow
from dev.live.celery import API_SERVER, BROKER, DATABASE, SIMULATOR, CeleryAirflow
from dev.live.hosts import Hosts
from dev.live.processes import ProcessEndedError, signal_sessions
from dev.live.simulator import Simulator

THRESHOLDS = {
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "90",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
    # After so many Airflow fails a task for good, whatever its retries.
    "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "20",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "3600",
}
"""Airflow's own: 600 and 120 s, 2 times, 86400 s."""
VISIBILITY = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"


class CeleryCluster(Cluster):
    """
    Two workers with ``parallelism / 2`` slots each, and two of all that there can be two of.

    :param hosts: of the names in ``dev.live.celery``.
    """

    airflow: CeleryAirflow

    def __init__(self, *, hosts: Hosts, parallelism: int, home: Path | None) -> None:
        self.hosts = hosts
        self._sessions_left: set[int] = set()
        super().__init__(parallelism=parallelism, home=home)

    def __exit__(self, *error: object) -> None:
        """Stop everything, what a killed main process has left behind, too."""
        super().__exit__(*error)
        signal_sessions(self._sessions_left, signal.SIGKILL)

    def make_simulator(self) -> Simulator:
        """Make the service on its own host."""
        return Simulator(speed="1", host=self.hosts.address(SIMULATOR))

    def make_airflow(self, folder: Path, parallelism: int, env: dict[str, str]) -> LiveAirflow:
        """Make it, each component on its own host."""
        return CeleryAirflow(
            HERE / "dags",
            hosts=self.hosts,
            home=folder,
            slots=parallelism // 2,
            env={**env, **THRESHOLDS},
            beside={SIMULATOR: self._simulator.command},
        )

    # -- what may happen ----------------------------------------------------------------------------------

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Let nobody start these inside the block; they are running again after it."""
        self.down.update(names)
        try:
            yield
        finally:
            for name in names:
                if not self.airflow.components[name].is_alive():
                    if name == DATABASE:
                        self.airflow.start_database()
                    else:
                        self.airflow.start(name)
            self.down.difference_update(names)
            if API_SERVER in names or DATABASE in names:
                self._wait_healthy()

    @contextmanager
    def cut(self, name: str, *others: str) -> Iterator[None]:
        """Let no packet pass between a host and others (all, if none is named) inside the block."""
        self.hosts.cut(name, others)
        try:
            yield
        finally:
            self.hosts.restore(name)

    def kill(self, name: str, seconds: float) -> None:
        """Kill all of a component, as if its machine had died, and start it after some seconds."""
        with self.without(name):
            self.airflow.kill(name)
            time.sleep(seconds)

    def kill_main_process(self, name: str, seconds: float) -> None:
        """Kill the process that the component began with, and leave what it has forked."""
        with self.without(name):
            self._sessions_left.add(self.airflow.pid(name))
            self.airflow.components[name].signal(signal.SIGKILL)
            self.airflow.components[name].wait(timeout=10)
            time.sleep(seconds)

    def shut_down(self, name: str, signum: int, grace: float, *, whole: bool = False) -> None:
        """Ask a component to end, kill it when the grace period is over, and start it again."""
        component = self.airflow.components[name]
        with self.without(name):
            if whole:
                component.signal_all(signum)
            else:
                component.signal(signum)
            with suppress(TimeoutExpired):
                component.wait(grace)
            self.airflow.kill(name)

    def stop_database(self, signum: int, seconds: float) -> None:
        """Stop PostgreSQL for some seconds."""
        with self.without(DATABASE):
            self.airflow.stop_database(signum)
            time.sleep(seconds)

    def empty_broker(self, seconds: float) -> None:
        """Kill Redis, which keeps nothing on disk."""
        self.kill(BROKER, seconds)

    def reconfigure(self, names: Sequence[str], changes: Mapping[str, str]) -> None:
        """Restart components with other variables in their environment."""
        self.down.update(names)
        try:
            self.airflow.reconfigure(names, changes)
        finally:
            self.down.difference_update(names)
        self._wait_healthy()

    def _wait_healthy(self) -> None:
        """Wait until all is well; what has ended meanwhile is started by the watch."""
        while not self.is_over:
            with suppress(ProcessEndedError):
                self.airflow.wait_healthy()
                return
            time.sleep(1)
