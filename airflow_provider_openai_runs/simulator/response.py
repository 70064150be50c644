# SPDX-License-Identifier: Apache-2.0
"""A response: its statuses, its output and how the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.answers import last_error
from airflow_provider_openai_runs.simulator.ids import child_id
from airflow_provider_openai_runs.simulator.items import output_text, questions
from airflow_provider_openai_runs.simulator.lifecycle import TERMINAL, Status, Timeline

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.answers import Answer
    from airflow_provider_openai_runs.simulator.scenario import Scenario

_ANSWERED = frozenset({Status.COMPLETED, Status.INCOMPLETE})
_KEPT_UNSTORED = 600.0


@dataclass(slots=True, kw_only=True)
class Response:
    """A response; everything but `timeline` is settled when it is created.

    A scenario with calls is carried out by several responses, one for each `turn`: the approval request, each
    round of calls, then the answer. `approved` is the approval request that this response was allowed to go
    ahead with.
    """

    id: str
    created_at: float
    background: bool
    stored: bool
    conversation_id: str | None
    parameters: dict[str, Any]
    metadata: dict[str, str]
    input: list[dict[str, Any]]
    question: str
    scenario: Scenario
    answer: Answer
    speed: float
    turn: int = 0
    approved: dict[str, Any] | None = None
    timeline: Timeline = field(init=False)

    def __post_init__(self) -> None:
        """Plan the time until the end."""
        phases = [(status, seconds / self.speed) for status, seconds in self.scenario.phases]
        ends = Status.COMPLETED if self._asks else self.answer.ends
        self.timeline = Timeline.plan(self.created_at, phases, ends)

    def is_visible(self, now: float) -> bool:
        """Tell whether reads find the response: not too early, and not long after it if it is not stored."""
        if now < self.created_at + self.scenario.hidden_for:
            return False
        return self.stored or (self.background and now < self.timeline.ends_at + _KEPT_UNSTORED)

    def cancel(self, now: float) -> None:
        """Begin the end; cancelling what has ended, or is ending, changes nothing."""
        if self.timeline.is_terminal(now) or self.timeline.last(Status.CANCELLING, now) is not None:
            return
        wait = self.scenario.cancelling
        phases = ((Status.CANCELLING, wait / self.speed),) if wait else ()
        self.timeline = self.timeline.followed_by(now, Timeline.plan(now, phases, self.scenario.cancel_ends))

    def status(self, now: float) -> str:
        """Give the status that clients see: a response has no `cancelling`, it stays in progress."""
        status = self.timeline.status(now)
        return Status.IN_PROGRESS if status == Status.CANCELLING else status

    def output(self, now: float) -> list[dict[str, Any]]:
        """List the items that have been written by `now`: all of them at the end, none before."""
        return self._planned_output() if self.timeline.status(now) in _ANSWERED else []

    def questions(self) -> dict[str, dict[str, Any]]:
        """Index what the response will ask its client by the id that the answer has to name."""
        return questions(self._planned_output()) if self._asks else {}

    def render(self, now: float) -> dict[str, Any]:
        """Show the response as the API does."""
        status = self.status(now)
        shown = {
            "id": self.id,
            "object": "response",
            "created_at": int(self.created_at),
            "status": status,
            "background": self.background,
            "billing": {"payer": "developer"},
            "completed_at": int(self.timeline.since(now)) if status == Status.COMPLETED else None,
            "error": last_error(self.scenario) if status == Status.FAILED else None,
            "incomplete_details": self._incomplete_details(status),
            "output": self.output(now),
            "service_tier": "default" if status in _ANSWERED else "auto",
            "store": self.stored,
            "usage": self._usage(status),
            "metadata": self.metadata if self.scenario.echo_metadata else {},
            **self.parameters,
        }
        if self.conversation_id is not None:
            shown["conversation"] = {"id": self.conversation_id}
        return shown

    def summary(self, now: float) -> dict[str, Any]:
        """Describe the response in one flat object, whatever it shows its clients."""
        return {
            "kind": "response",
            "id": self.id,
            "thread_id": self.conversation_id,
            "model": self.parameters["model"],
            "status": self.status(now),
            "metadata": self.metadata,
            "created_at": self.created_at,
            "ended_at": self.timeline.ended_at(now),
            "background": self.background,
            "previous_response_id": self.parameters["previous_response_id"],
            "text": "" if self._asks else self.answer.text,
        }

    @property
    def _asks(self) -> bool:
        """Whether this response ends with a question to the client instead of an answer."""
        asking = len(self.scenario.function_calls) + (self.scenario.mcp_approval is not None)
        return self.turn < asking

    def _planned_output(self) -> list[dict[str, Any]]:
        """List the items that the response writes if nothing comes between."""
        request = self.scenario.mcp_approval
        if request is not None and self.turn == 0:
            return [
                {
                    "id": child_id("mcpr", self.id, 0),
                    "type": "mcp_approval_request",
                    "arguments": request.arguments_json,
                    "name": request.name,
                    "server_label": self._server_label,
                },
            ]
        if self._asks:
            calls = self.scenario.function_calls[self.turn - (request is not None)]
            return [
                {
                    "id": child_id("fc", self.id, index),
                    "type": "function_call",
                    "status": "completed",
                    "arguments": call.arguments_json,
                    "call_id": child_id("call", self.id, index),
                    "name": call.name,
                }
                for index, call in enumerate(calls)
            ]
        return [*self._approved_call(), self._message()]

    @property
    def _server_label(self) -> str:
        labels = [tool["server_label"] for tool in self.parameters["tools"] if tool.get("type") == "mcp"]
        return str(labels[0]) if labels else "simulated"

    def _approved_call(self) -> list[dict[str, Any]]:
        if self.approved is None:
            return []
        return [
            {
                "id": child_id("mcp", self.id, 0),
                "type": "mcp_call",
                "approval_request_id": self.approved["id"],
                "arguments": self.approved["arguments"],
                "error": None,
                "name": self.approved["name"],
                "output": "simulated",
                "server_label": self.approved["server_label"],
            },
        ]

    def _message(self) -> dict[str, Any]:
        return {
            "id": child_id("msg", self.id, 0),
            "type": "message",
            "status": "incomplete" if self.answer.ends == Status.INCOMPLETE else "completed",
            "content": [output_text(self.answer.text)],
            "role": "assistant",
        }

    def _incomplete_details(self, status: str) -> dict[str, Any] | None:
        return {"reason": self.answer.incomplete_reason} if status == Status.INCOMPLETE else None

    def _usage(self, status: str) -> dict[str, Any] | None:
        shown = status in _ANSWERED or (status in TERMINAL and self.scenario.usage is not None)
        if not shown:
            return None
        read, written = self.answer.prompt_tokens, self.answer.completion_tokens
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        }
