# SPDX-License-Identifier: Apache-2.0
"""What the demo does to its tasks in front of the audience, and what must have become of their runs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dev.live.processes import members_of

if TYPE_CHECKING:
    from dev.demo.show import Show
    from dev.live import LiveAirflow
    from dev.live.simulator import Simulator

DAG_ID = "never_twice"
SECONDS = 3_000
"""How long its runs take, if nobody lets time pass: longer than the demo lasts on any machine."""
SCRIPT = {
    "when": "long report",
    "times": None,
    "queued": 0.0,
    "in_progress": SECONDS,
    "text": "A long report.",
}
THRESHOLDS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
}
"""How soon Airflow takes a silent worker or triggerer for dead; its own are 300, 10 and 30 s."""

Instance = Mapping[str, Any]
Run = Mapping[str, Any]


class Incident:
    """
    One thing that is done to one task.

    :ivar task_id: of the task.
    :ivar promise: what must hold, in the words of the audience.
    :ivar done: whether it has been done.
    :ivar held: whether the promise has held; it is looked after once more at the end.
    """

    task_id = ""
    promise = ""

    def __init__(self, airflow: LiveAirflow, simulator: Simulator, show: Show) -> None:
        self.airflow = airflow
        self.simulator = simulator
        self.show = show
        self.done = False
        self.held = False

    def advance(self, instance: Instance, runs: list[Run]) -> None:
        """Do it when it is time, or see whether the promise has held."""
        if not self.done:
            self.done = len(runs) == 1 and self.act(instance, runs[0])
        elif not self.held and self.holds(instance, runs):
            self.held = True
            self.tell(f"{self.promise} [{', '.join(run['id'][:14] + '… ' + run['status'] for run in runs)}]")

    def tell(self, what: str) -> None:
        """Tell the audience."""
        self.show.tell(self.task_id, what)

    def act(self, instance: Instance, run: Run) -> bool:
        """Do it if it is time; tell whether it was done."""
        raise NotImplementedError

    def holds(self, instance: Instance, runs: list[Run]) -> bool:
        """Tell whether what must come after it has come."""
        raise NotImplementedError

    def ended_well(self, instance: Instance, runs: list[Run]) -> bool:
        """Tell whether the task has ended as it must, after all."""
        statuses = [run["status"] for run in runs]
        return self.held and instance["state"] == "success" and statuses == ["completed"]


class ClearTask(Incident):
    """A user clears a task while it waits."""

    task_id = "cleared"
    promise = "old run cancelled, one new"

    def act(self, instance: Instance, run: Run) -> bool:
        """Clear it once a triggerer waits for it: on Airflow 3.4 nobody else knows of its run then."""
        if instance["state"] != "deferred" or not self.simulator.polls_of(run["id"]):
            return False
        self.tell(f"IS CLEARED while {run['id'][:14]}… is at work")
        self.airflow.api.clear(instance["dag_id"], instance["dag_run_id"], instance["task_id"])
        return True

    def holds(self, instance: Instance, runs: list[Run]) -> bool:
        """See the end of the old run, and a new one."""
        return [run["status"] for run in runs] == ["cancelled", "in_progress"] and instance[
            "state"
        ] == "deferred"

    def ended_well(self, instance: Instance, runs: list[Run]) -> bool:
        """Count the cancelled one, too."""
        statuses = [run["status"] for run in runs]
        return self.held and instance["state"] == "success" and statuses == ["cancelled", "completed"]


class KillWorker(Incident):
    """A worker dies with its task, as if its machine had."""

    task_id = "worker_dies"
    promise = "same run, paid once"
    attempt = 1

    def act(self, instance: Instance, _run: Run) -> bool:
        """Kill the worker when its task is known to wait."""
        where = (instance["dag_id"], instance["dag_run_id"], instance["task_id"])
        if instance["state"] != "running" or self.airflow.api.xcom(*where, key="ref") is None:
            return False
        pids = processes_of(instance, session=self.airflow.pid("scheduler"))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if pids:
            self.attempt = instance["try_number"]
            timeout = THRESHOLDS["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"]
            self.tell(f"ITS WORKER IS KILLED (kill -9). Airflow notices after {timeout} s (lowered from 300)")
        return bool(pids)

    def holds(self, instance: Instance, runs: list[Run]) -> bool:
        """See the next attempt go on with the run."""
        if instance["try_number"] <= self.attempt or instance["state"] != "running":
            return False
        where = (instance["dag_id"], instance["dag_run_id"], instance["task_id"])
        ref = self.airflow.api.xcom(*where, key="ref") or {}
        return [run["id"] for run in runs] == [ref.get("id")]


class KillTriggerer(Incident):
    """The one triggerer dies with all the waits in it."""

    task_id = "triggerer_dies"
    promise = "same run, paid once"

    def __init__(self, airflow: LiveAirflow, simulator: Simulator, show: Show, *, after: Incident) -> None:
        super().__init__(airflow, simulator, show)
        self._after = after
        self._polls = 0

    def act(self, instance: Instance, run: Run) -> bool:
        """Kill it and start another one, when what needs the first one has happened."""
        polls = self.simulator.polls_of(run["id"])
        if instance["state"] != "deferred" or not polls or not self._after.held:
            return False
        threshold = THRESHOLDS["AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD"]
        self.tell(
            f"THE TRIGGERER IS KILLED (kill -9). Another takes over after {threshold} s (lowered from 30)"
        )
        self.airflow.kill("triggerer-1")
        self.airflow.start("triggerer-1")
        self._polls = self.simulator.polls_of(run["id"])
        return True

    def holds(self, _instance: Instance, runs: list[Run]) -> bool:
        """See the same run polled again."""
        return len(runs) == 1 and self.simulator.polls_of(runs[0]["id"]) > self._polls


def incidents(airflow: LiveAirflow, simulator: Simulator, show: Show) -> list[Incident]:
    """Return all of them; the clear needs a triggerer that lives."""
    cleared = ClearTask(airflow, simulator, show)
    return [
        cleared,
        KillWorker(airflow, simulator, show),
        KillTriggerer(airflow, simulator, show, after=cleared),
    ]


def processes_of(instance: Instance, *, session: int) -> list[int]:
    """Return the processes of a task: the worker that watches over it, and its own."""
    asked = ["ps", "-o", "ppid=", "-p", str(instance["pid"])]
    parent = subprocess.run(asked, capture_output=True, check=False, text=True).stdout.strip()  # noqa: S603
    pids = [int(parent or 0), int(instance["pid"] or 0)]
    # The scheduler itself is no worker, and nothing that is not of this demo is killed.
    return pids if set(pids) <= set(members_of({session})) - {session} else []


def runs_of(task_id: str, runs: Iterable[Run]) -> list[Run]:
    """Return the runs of one task, oldest first."""
    return [run for run in runs if run["metadata"].get("task") == task_id]
