# SPDX-License-Identifier: Apache-2.0
"""A thread: its messages and its runs, of which one at a time is active."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.errors import ApiError, not_found
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.run_results import message_parts

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.run import ThreadRun


@dataclass(slots=True, kw_only=True)
class Thread:
    """A thread; call `settle` before reading `messages`, so that the answers of ended runs are in it."""

    id: str
    created_at: float
    metadata: dict[str, str]
    tool_resources: dict[str, Any]
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, ThreadRun] = field(default_factory=dict)
    _unsettled: ThreadRun | None = None

    def settle(self, now: float) -> None:
        """Write the answer of the latest run once that run has ended."""
        run = self._unsettled
        if run is None or not run.timeline.is_terminal(now):
            return
        self._unsettled = None
        if (key := run.message_id(now)) is not None:
            written = new_message(
                key,
                thread_id=self.id,
                body={"role": "assistant", "content": ""},
                at=run.timeline.since(now),
            )
            named = {"run_id": run.id, "assistant_id": run.assistant_id}
            self.messages[key] = {**written, **named, **message_parts(run)}

    def active_run(self, now: float) -> ThreadRun | None:
        """Give the run that is not over yet."""
        self.settle(now)
        return self._unsettled

    def add_message(self, body: dict[str, Any], now: float) -> dict[str, Any]:
        """Append a message; refused as long as a run is active."""
        if (run := self.active_run(now)) is not None:
            raise ApiError(f"Can't add messages to {self.id} while a run {run.id} is active.")
        message = new_message(new_id("msg"), thread_id=self.id, body=body, at=now)
        self.messages[message["id"]] = message
        return message

    def check_idle(self, now: float) -> None:
        """Refuse a second run next to an active one."""
        if (run := self.active_run(now)) is not None:
            raise ApiError(f"Thread {self.id} already has an active run {run.id}.")

    def add_run(self, run: ThreadRun) -> None:
        """Make a run the active one."""
        self.runs[run.id] = self._unsettled = run

    def run(self, key: str, now: float) -> ThreadRun:
        """Find a run that can be seen, or refuse its id."""
        found = self.runs.get(key)
        if found is None or not found.is_visible(now):
            raise not_found("run", key)
        return found

    def message(self, key: str, now: float) -> dict[str, Any]:
        """Find a message, or refuse its id."""
        self.settle(now)
        if key not in self.messages:
            raise not_found("message", key)
        return self.messages[key]

    def render(self) -> dict[str, Any]:
        """Show the thread as the API does."""
        return {
            "id": self.id,
            "object": "thread",
            "created_at": int(self.created_at),
            "metadata": self.metadata,
            "tool_resources": self.tool_resources,
        }


def new_message(key: str, *, thread_id: str, body: dict[str, Any], at: float) -> dict[str, Any]:
    """Make a message as the API shows it outside of streams: without a status."""
    return {
        "id": key,
        "object": "thread.message",
        "created_at": int(at),
        "assistant_id": None,
        "thread_id": thread_id,
        "run_id": None,
        "role": body["role"],
        "content": _content(body["content"]),
        "attachments": body.get("attachments") or [],
        "metadata": body.get("metadata") or {},
    }


def _content(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return [_part(part) for part in content]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type", "text")
    if kind == "text":
        return {"type": "text", "text": {"value": part["text"], "annotations": []}}
    return {"type": kind, kind: {**part[kind], "detail": part[kind].get("detail", "auto")}}
