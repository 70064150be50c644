# SPDX-License-Identifier: Apache-2.0
"""One task instance, and what can be done to it."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

from dev.chaos.cluster import Cluster
from dev.chaos.verdict import History, Run
from dev.live.rest import RestError

T = TypeVar("T")

ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
DELETED = "deleted"
SECONDS_TO_HAPPEN = 180.0
WINDOW = 1800
LONG = 3000.0
"""Longer than a trial may take: a run that is to be ended by somebody."""


class LateError(Exception):
    """Something did not happen in time."""


@dataclass(eq=False)
class Trial:
    """
    A Dag run of one task.

    :param variant: the end of the Dag's name.
    :param seconds: how long its runs take; ``script`` is what else the simulator is to do with them.
    :param window: its ``completion_window``.
    :param role: what a user does to it besides the fault of its row.
    :param deadline: when its time is over, in Unix seconds.
    """

    cluster: Cluster
    name: str
    kind: str
    waits: str
    dice: random.Random
    variant: str = ""
    seconds: float = LONG
    script: dict[str, Any] = field(default_factory=dict)
    window: float = WINDOW
    conf: dict[str, Any] = field(default_factory=dict)
    role: str = ""
    run_id: str = ""
    deadline: float | None = None
    state: str | None = None
    history: History = field(default_factory=History)
    complaints: list[str] = field(default_factory=list)

    @property
    def dag_id(self) -> str:
        """The Dag that this is a run of."""
        return "_".join(filter(None, (self.kind, self.waits, self.variant)))

    @property
    def runs(self) -> list[Run]:
        """Every run that was created for it, oldest first."""
        return self.cluster.runs.get(self.name, [])

    @property
    def instance(self) -> dict[str, Any]:
        """The task instance as last seen; empty when there is none."""
        return self.cluster.instances.get((self.dag_id, self.run_id), {})

    @property
    def attempts(self) -> int:
        """How often it was tried, as last seen."""
        return int(self.instance.get("try_number") or 0)

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a run where it is meant to."""
        state = "deferred" if self.waits == "deferred" else "running"
        return bool(self.runs) and self.instance.get("state") == state

    # -- watching -----------------------------------------------------------------------------------------

    def until(self, what: str, happened: Callable[[], T | None], timeout: float = SECONDS_TO_HAPPEN) -> T:
        """Wait until a function returns something true, and return that."""
        deadline = time.monotonic() + timeout
        while not (found := happened()):
            if self.instance.get("state") in ENDED and not happened():
                raise LateError(f"the task ended as {self.instance['state']} before {what}")
            if time.monotonic() > deadline or self.cluster.is_over:
                raise LateError(f"not {what} after {timeout:.0f} s, state {self.instance.get('state')}")
            time.sleep(0.05)
        return found

    def until_state(self, *states: str) -> None:
        """Wait until the task instance is in one of the states."""
        self.until(" or ".join(states), lambda: self.instance.get("state") in states)

    def until_run(self, number: int = 1) -> Run:
        """Wait until that many runs were created, and return the last one."""
        return self.until(f"run {number}", lambda: self.runs[number - 1 : number])[0]

    def until_waiting(self) -> Run:
        """Wait until it waits for its first run where it is meant to."""
        run, asked_at = self.until_run(), datetime.now(UTC)
        if self.waits == "deferred":
            # Airflow tells nobody of a mark or clear that comes while no triggerer has the wait. A dead one
            # is shown with it until another one takes it over: so it must have been heard of since.
            self.until("with a triggerer", lambda: self.is_waiting and self._triggerer_seen_at > asked_at)
        else:
            self.until_state("running")
        return run

    @property
    def _triggerer_seen_at(self) -> datetime:
        """When the triggerer that has its wait was alive last."""
        job = self.instance.get("triggerer_job") or {}
        return datetime.fromisoformat(job.get("latest_heartbeat") or "0001-01-01T00:00:00Z")

    def until_deadline_is_known(self) -> float:
        """Wait until its time is limited, and return the end of it."""
        return self.until("a deadline", lambda: self.deadline)

    def until_ended(self, timeout: float) -> None:
        """Wait until nothing happens any more."""
        if not self.run_id:
            self.state = "not started"
            return
        deadline = time.monotonic() + timeout
        while self.instance.get("state") not in ENDED and self.state != DELETED:
            if self.cluster.is_over:
                return
            if time.monotonic() > deadline:
                self.state = f"still {self.instance.get('state')}"
                break
            time.sleep(0.2)
        else:
            self.history.ended_at = time.time()
        self.state = self.state or self.instance["state"]
        self.cluster.forget(self.name)

    def pause(self, shortest: float, longest: float) -> None:
        """Let a random time pass."""
        time.sleep(self.dice.uniform(shortest, longest))

    # -- doing --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Tell the simulator what is to come, and trigger the Dag run."""
        when = {"when": rf"{self.name}\b"}
        expires = {"expires_after": 2 * LONG}
        if self.script:
            self.cluster.ask(
                "/simulator/scenarios", {"in_progress": self.seconds, **when, **expires, **self.script}
            )
        later = {"in_progress": self.seconds, "times": None, **when, **expires}
        self.cluster.ask("/simulator/scenarios", later)
        conf = {
            "prompt": f"Trial {self.name}",
            "trial": self.name,
            "assistant": self.cluster.assistant,
            "window": self.window,
            **self.conf,
        }
        self.cluster.watch(self.name)
        self.run_id = self.cluster.trigger(self.dag_id, self.name, conf)

    def excuse(self, since: float | None = None) -> None:
        """Its runs may be cancelled from now on."""
        since = time.time() if since is None else since
        self.history.excused_from = min(since, self.history.excused_from)

    def task_process(self) -> int:
        """Wait for the process of the task itself."""
        return self.until("a task process", lambda: self._process("airflow worker -- {id}"))

    def supervisor(self) -> int:
        """Wait for the process that watches over the task's."""
        return self.until("a supervisor", lambda: self._process("airflow worker -- LocalExecutor: {id}"))

    def _process(self, title: str) -> int | None:
        return self.cluster.process(title.format(**self.instance)) if self.instance.get("id") else None

    def kill_task(self) -> None:
        """Kill -9 the process of the task, if it is still there."""
        pid = self._process("airflow worker -- {id}")
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def mark(self, state: str) -> None:
        """Set the task instance to a state, as a user does."""
        self.excuse()
        self.cluster.change(lambda: self.cluster.api.mark(self.dag_id, self.run_id, "t", new_state=state))

    def clear(self) -> None:
        """Clear the task instance."""
        self.history.clears.append(time.time())
        self.cluster.change(lambda: self.cluster.api.clear(self.dag_id, self.run_id, "t"))

    def delete(self) -> None:
        """Fail the Dag run, because Airflow refuses to delete a running one, and delete it."""
        self.fail_dag_run()
        self.cluster.change(
            lambda: self.cluster.api.call("DELETE", f"/dags/{self.dag_id}/dagRuns/{quote(self.run_id)}")
        )
        self.state = DELETED

    def fail_dag_run(self) -> None:
        """Fail the Dag run, as a user does."""
        self.excuse()
        self.cluster.change(lambda: self.cluster.api.mark_run(self.dag_id, self.run_id, new_state="failed"))

    def cancel_run(self) -> None:
        """Cancel its run at the server, as somebody else."""
        self.excuse()
        [found] = [
            one for one in self.cluster.ask("/simulator/runs")["data"] if one["id"] == self.runs[-1].id
        ]
        thread = "" if self.kind == "response" else f"/threads/{found['thread_id']}"
        self.cluster.ask(f"/v1{thread}/{'responses' if not thread else 'runs'}/{found['id']}/cancel", {})

    # -- reporting ----------------------------------------------------------------------------------------

    def log(self) -> str:
        """Read the logs of all its attempts, one JSON object a line, exceptions included."""
        lines: list[Any] = []
        path = f"/dags/{self.dag_id}/dagRuns/{quote(self.run_id)}/taskInstances/t/logs"
        for number in range(1, self.instance.get("try_number", 1) + 1):
            with suppress(RestError, OSError):
                lines += self.cluster.api.call("GET", f"{path}/{number}", full_content=True)["content"]
        return "\n".join(json.dumps(line) for line in lines)

    def write(self, row: str) -> None:
        """Write down what became of it."""
        runs = [asdict(run) for run in self.runs]
        line = {"row": row, "trial": self.name, "dag_run": self.run_id, "state": self.state, "runs": runs}
        self.cluster.write(
            {**line, "role": self.role, "attempts": self.attempts, "complaints": self.complaints}
        )
