# SPDX-License-Identifier: Apache-2.0
"""An Airflow of the test's own, as its REST API shows it, and the command line asking it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest

from airflow_provider_openai_runs.cli import connections, stop
from airflow_provider_openai_runs.cli import main as command_line
from tests.support.scene import Scene
from tests.support.scripted_server import Answer, Asked, ScriptedServer

NOT_FOUND: Answer = (404, {"detail": "not found"})


@dataclass
class FakeAirflow:
    """
    What Airflow's API says of task instances, by task id; all are of the Dag ``nightly``.

    :ivar records: what is in the task state store; None is an Airflow without one.
    :ivar on_mark: what the worker or the triggerer does about a mark.
    """

    server: ScriptedServer
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: dict[str, Any] | None = field(default_factory=dict)
    xcoms: dict[str, Any] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    triggerer: str | None = "healthy"
    version: str = "3.3.2"
    marks: list[str] = field(default_factory=list)
    mark_status: int = 200
    on_mark: Callable[[str], object] = str

    def add(
        self,
        task_id: str,
        state: str,
        *,
        record: Any = None,
        ref: Any = None,
        operator: str = "CreateResponseOperator",
        **rendered: Any,
    ) -> None:
        """Add a task instance, and what it has left behind."""
        self.tasks[task_id] = {
            "dag_id": "nightly",
            "dag_run_id": "manual__2026",
            "task_id": task_id,
            "map_index": -1,
            "state": state,
            "operator": operator,
            "start_date": "2026-11-26T01:00:00Z",
            "rendered_fields": rendered,
        }
        if record is not None and self.records is not None:
            self.records[task_id] = record
        if ref is not None:
            self.xcoms[task_id] = ref

    def answer(self, asked: Asked) -> Answer:  # noqa: C901, PLR0911, PLR0912 - a route a line
        path = unquote(asked.path).removeprefix("/api/v2")
        match path.strip("/").split("/"):
            case ["auth", "token"]:
                return (201, {"access_token": "t"}) if asked.body else (403, {})
            case ["version"]:
                return 200, {"version": self.version}
            case ["monitor", "health"]:
                parts = {"metadatabase": "healthy", "scheduler": "healthy", "triggerer": self.triggerer}
                return 200, {name: {"status": status} for name, status in parts.items()}
            case ["dags", _, "tasks"]:
                fields = {
                    task_id: [] if task_id in self.others else ["completion_window"] for task_id in self.tasks
                }
                tasks = [{"task_id": task_id, "template_fields": names} for task_id, names in fields.items()]
                return 200, {"tasks": tasks}
            case ["dags", "nightly"]:
                return 200, {"dag_id": "nightly"}
            case ["dags", "~", *_, "taskInstances"]:
                return 200, {"task_instances": list(self.tasks.values())}
            case [*_, "taskInstances", task_id] if asked.method == "PATCH":
                return self._mark(task_id)
            case [*_, "taskInstances", task_id]:
                return 200, self.tasks[task_id]
            case [*_, task_id, "state-store", _]:
                found = (self.records or {}).get(task_id)
            case [*_, "state-store"]:
                return NOT_FOUND if self.records is None else (200, {"task_state_store": []})
            case [*_, task_id, "xcomEntries", "ref"]:
                found = self.xcoms.get(task_id)
            case [*_, _, "links"]:
                return 200, {"OpenAI run": "https://airflow.example/link"}
            case _:
                return NOT_FOUND
        return NOT_FOUND if found is None else (200, {"value": found})

    def _mark(self, task_id: str) -> Answer:
        if self.mark_status == 200:
            self.marks.append(task_id)
            self.tasks[task_id]["state"] = "failed"
            self.on_mark(task_id)
        return self.mark_status, {"task_instances": []}


@pytest.fixture
def airflow(scripted: ScriptedServer) -> FakeAirflow:
    fake = FakeAirflow(scripted)
    scripted.play(fake.answer)
    return fake


@dataclass
class Terminal:
    """The command line, called with the address of the fake Airflow and a token."""

    airflow: FakeAirflow
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Return the exit status, and what stands on the standard output."""
        where = ("--airflow-url", self.airflow.server.url, "--token", "t")
        status = command_line.main([*arguments, *where])
        return status, self.capsys.readouterr().out

    def json(self, *arguments: str) -> tuple[int, Any]:
        """Return the exit status, and the JSON on the standard output."""
        status, text = self(*arguments, "--json")
        return status, json.loads(text)


@pytest.fixture
def terminal(
    airflow: FakeAirflow, scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    del scene  # the connection openai_default
    monkeypatch.setattr(stop, "_PAUSE", 0.01)
    monkeypatch.setattr(connections, "CLI_CANCEL_WAIT", 0.1)
    return Terminal(airflow, capsys)
