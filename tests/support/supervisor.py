# SPDX-License-Identifier: Apache-2.0
"""Airflow's supervisor at the other end of a task's channel: one socket, with Airflow's lock before it."""

# ruff: noqa: PLC0415 - Airflow reads its environment when it is imported

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass
class Supervisor:
    """
    Answers a task's questions, one after the other.

    :param state: of the task instance; None as long as Airflow's API does not answer.
    :param delays: seconds before the answer, by the type of the question.
    """

    dag_id: str = "a_dag"
    run_id: str = "manual__2026-11-21"
    task_id: str = "ask"
    state: str | None = "running"
    delays: dict[str, float] = field(default_factory=dict)
    stored: dict[str, Any] = field(default_factory=dict)
    #: The types of the questions that have arrived.
    asked: list[str] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, question: str, times: int = 1) -> None:
        """Wait until a question has arrived so often."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.asked.count(question) >= times, timeout=60)

    def _answer(self, body: dict[str, Any]) -> dict[str, Any] | None:
        match body["type"]:
            case "GetTaskStates":
                states = {self.run_id: {self.task_id: self.state}}
                return {"type": "TaskStatesResult", "task_states": states}
            case "GetTaskStateStore":
                value = self.stored.get(body["key"])
                if value is None:
                    return {"type": "ErrorResponse", "error": "TASK_STORE_NOT_FOUND"}
                return {"type": "TaskStateStoreResult", "value": value}
            case "SetTaskStateStore":
                self.stored[body["key"]] = body["value"]
            case "DeleteTaskStateStore":
                self.stored.pop(body["key"], None)
        return {"type": "OKResponse", "ok": True}

    def serve(self, end: socket.socket) -> None:
        """Serve until the task closes its end."""
        with suppress(OSError), end.makefile("rb") as stream:
            while header := stream.read(4):
                frame_id, body = msgspec.msgpack.decode(stream.read(int.from_bytes(header, "big")))[:2]
                with self.arrived:
                    self.asked.append(body["type"])
                    self.arrived.notify_all()
                time.sleep(self.delays.get(body["type"], 0.0))
                while body["type"] == "GetTaskStates" and self.state is None:
                    time.sleep(0.01)  # its API does not answer, and it waits
                content = msgspec.msgpack.encode([frame_id, self._answer(body), None])
                end.sendall(len(content).to_bytes(4, "big") + content)


@contextmanager
def channel(supervisor: Supervisor, monkeypatch: Any) -> Iterator[None]:
    """Connect this process to a supervisor as Airflow connects a task."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import CommsDecoder

    ours, its = socket.socketpair()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", CommsDecoder(socket=ours), raising=False)
    thread = threading.Thread(target=supervisor.serve, args=(its,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        supervisor.state = supervisor.state or "running"  # so that it comes to an end
        ours.close()
        thread.join(60)
        its.close()
