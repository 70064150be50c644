# SPDX-License-Identifier: Apache-2.0
"""The live Airflow and the simulator, watched by two threads so that a hundred trials need not ask."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from dev import ROOT
from dev.chaos.hostile_server import HostileServer
from dev.chaos.verdict import Run
from dev.live import LiveAirflow
from dev.live.processes import members_of
from dev.live.rest import RestError, fetch_json
from dev.live.simulator import Simulator

HERE = Path(__file__).parent
THRESHOLDS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
}
"""Airflow's own: 300, 10, 30, 30, 30 and 300 s."""
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
FIRST_AND_LAST_DAGS = ("response_worker", "thread_run_worker_busy_cancel", "thread_run_deferred_ended")
SECONDS_BETWEEN_POLLS = 0.5
KEY = "any"
_LATE_EVENT = re.compile(
    r"reported that the task instance <TaskInstance: \S+ (\S+) \[queued\] \S+> finished with state success"
)
_STORE_CALL = re.compile(r"path=/execution/store/ti/([\w-]+)/")
ASSISTANTS = {"OpenAI-Beta": "assistants=v2"}


class Cluster:
    """A context manager; ``instances`` and ``runs`` are what was last read, ``lock`` is for who writes."""

    def __init__(self, *, parallelism: int, home: Path | None) -> None:
        self._folder = None if home else tempfile.TemporaryDirectory(prefix="chaos-")
        folder = home.resolve() if home else Path(str(self._folder and self._folder.name))
        self._simulator = self.make_simulator()
        self._hostile = HostileServer()
        connection = {"conn_type": "openai", "password": "simulator-key", "host": self._simulator.base_url}
        env = {
            "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(connection),
            "AIRFLOW_CONN_HOSTILE": self._hostile.connection,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            **THRESHOLDS,
        }
        self.airflow = self.make_airflow(folder, parallelism, env)
        self.api = self.airflow.api
        self.assistant = ""
        self.folder = folder
        self.parallelism = parallelism
        self.down: set[str] = set()
        self.fault_has_begun = threading.Event()
        self.instances: dict[tuple[str, str], dict[str, Any]] = {}
        self.runs: dict[str, list[Run]] = {}
        self.read_at = 0.0
        self.busy_workers = 0
        self._under_way: dict[str, str] = {}
        self._over = threading.Event()
        self.lock = threading.Lock()

    def make_simulator(self) -> Simulator:
        """Make the service, which runs beside Airflow."""
        return Simulator(speed="1")

    def make_airflow(self, folder: Path, parallelism: int, env: dict[str, str]) -> LiveAirflow:
        """Make the Airflow, of which nothing is started yet."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Start everything, and watch it."""
        self.airflow.__enter__()
        try:
            self._simulator.wait_healthy(self.airflow.components["simulator"])
            for dag_id in (
                "response_worker",
                "thread_run_worker_busy_cancel",
                "thread_run_worker_persistent",
            ):
                self.api.wait_for_dag(dag_id, timeout=120)
            self.assistant = self.ask("/v1/assistants", {"model": "gpt-6-luna"})["id"]
        except BaseException:
            self.airflow.stop()
            raise
        for read in (self._start_what_ended, self._read_airflow, self._read_simulator):
            threading.Thread(target=self._poll, args=(read,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self.end()
        self.airflow.stop()
        self._hostile.close()
        if self._folder:
            self._folder.cleanup()

    def trigger(self, dag_id: str, name: str, conf: dict[str, Any]) -> str:
        """Start a Dag run under a name of its own, so that a trigger without an answer can be repeated."""
        run_id = f"{name}__{datetime.now(UTC):%H%M%S%f}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        try:
            self.change(lambda: self.api.call("POST", f"/dags/{dag_id}/dagRuns", body))
        except RestError as error:
            if error.status != HTTPStatus.CONFLICT:  # an earlier call came through
                raise
        return run_id

    def change(self, call: Callable[[], object]) -> None:
        """Change something in Airflow; again if it was busy with itself or down, which our faults cause."""
        for last in (False, False, True):
            try:
                with self.lock:  # several at once lock up the api-server on SQLite
                    call()
            except (OSError, RestError) as error:
                if last or (isinstance(error, RestError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR):
                    raise
            else:
                return

    def watch(self, name: str) -> None:
        """Poll the Dag runs that are triggered from now on, until the trial of that name has ended."""
        self._under_way[name] = datetime.now(UTC).isoformat()

    def forget(self, name: str) -> None:
        """Poll that trial no more."""
        self._under_way.pop(name, None)

    def end(self) -> None:
        """Let every trial notice that it is over."""
        self._over.set()

    def write(self, line: dict[str, Any]) -> None:
        """Write down what became of a trial, for those who cannot wait for the report."""
        with self.lock, (self.folder / "trials.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def failed_by_airflow(self) -> set[str]:
        """
        Name the Dag runs of which Airflow failed an attempt that was queued to go on after the wait.

        Its scheduler heard of the end of the worker that had deferred only after the trigger had fired.
        """
        schedulers = [name for name in self.airflow.components if name.startswith("scheduler")]
        return {found for name in schedulers for found in _LATE_EVENT.findall(self._log_of(name))}

    def store_calls(self) -> Counter[int]:
        """Count the attempts by how often each asked Airflow's API server for its task state store."""
        return Counter(Counter(_STORE_CALL.findall(self._log_of("api-server"))).values())

    def _log_of(self, component: str) -> str:
        return self.airflow.components[component].log.read_text(errors="replace")

    def ask(self, path: str, body: Any = None) -> Any:
        """Call the simulator, its API or its own records."""
        method = "GET" if body is None else "POST"
        return fetch_json(
            f"{self._simulator.address}{path}", method=method, body=body, token=KEY, headers=ASSISTANTS
        )

    @property
    def is_over(self) -> bool:
        """Whether everything has been stopped."""
        return self._over.is_set()

    def process(self, title: str) -> int | None:
        """Find a worker's process by its title."""
        for pid in members_of({self.airflow.pid("scheduler")}):
            with suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0 ") == title:
                    return pid
        return None

    def settle(self) -> None:
        """Wait until what was last read is newer than now."""
        now = time.time()
        while self.read_at < now:
            time.sleep(0.1)

    def _poll(self, read: Callable[[], None]) -> None:
        while not self._over.wait(SECONDS_BETWEEN_POLLS):
            with suppress(OSError, RuntimeError, ValueError, KeyError):  # it may be down, by our own hand
                read()

    def _read_airflow(self) -> None:
        if not (under_way := list(self._under_way.values())):
            return
        found: list[dict[str, Any]] = []
        while True:
            page = self.api.call(
                "GET",
                "/dags/~/dagRuns/~/taskInstances",
                run_after_gte=min(under_way),
                limit=100,
                offset=len(found),
            )
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                break
        self.busy_workers = sum(one["state"] == "running" for one in found)
        self.instances = self.instances | {(one["dag_id"], one["dag_run_id"]): one for one in found}

    def _start_what_ended(self) -> None:
        """Start what has ended by itself, as every deployment does."""
        for name, component in self.airflow.components.items():
            if name not in self.down and not component.is_alive() and not self.is_over:
                print(f"{name} ended by itself and is started again: {component.tail(1)}", flush=True)
                self.airflow.start(name)

    def _read_simulator(self) -> None:
        asked = time.time()
        found = defaultdict(list)
        for run in self.ask("/simulator/runs")["data"]:
            about = run["metadata"] or {}
            # A batch names its Dag run, which has the trial's name in front.
            trial = about.get("trial") or about.get("airflow_run_id", "").partition("__")[0]
            found[trial].append(Run.from_json(run))
        self.runs, self.read_at = dict(found), asked


class LocalCluster(Cluster):
    """
    Everything on one machine, workers beside the scheduler.

    :param database: its address; without one it is SQLite.
    """

    def __init__(self, *, parallelism: int, home: Path | None, database: str | None) -> None:
        self._database = database
        super().__init__(parallelism=parallelism, home=home)

    def make_airflow(self, folder: Path, parallelism: int, env: dict[str, str]) -> LiveAirflow:
        """Make it with two triggerers."""
        # Beside so many processes SQLite's lock may take more than 5 s to get.
        address = self._database or f"sqlite:///{folder}/airflow.db?timeout=60"
        airflow = LiveAirflow(
            HERE / "dags",
            home=folder,
            parallelism=parallelism,
            triggerers=2,
            env={DATABASE: address, **env},
            beside={"simulator": self._simulator.command},
        )
        if self._database is None:
            # Its event loop may wait for a lock that one of its own threads can only give up with its help;
            # who asked asks again after an error.
            server = airflow.components["api-server"]
            server.env = {**server.env, DATABASE: f"sqlite:///{folder}/airflow.db?timeout=1"}
        return airflow
