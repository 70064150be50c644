# SPDX-License-Identifier: Apache-2.0
"""A response: its statuses, its output and how the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator import citations
from airflow_provider_openai_runs.simulator.answers import last_error
from airflow_provider_openai_runs.simulator.ids import child_id
from airflow_provider_openai_runs.simulator.include import without_extras
from airflow_provider_openai_runs.simulator.items import output_text, questions, refusal
from airflow_provider_openai_runs.simulator.lifecycle import TERMINAL, Status, Timeline
from airflow_provider_openai_runs.simulator.output_items import (
    mcp_call_item,
    message_item,
    preamble_item,
    tool_items,
)

if TYPE_CHECKING:
    from collections.abc import Collection

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
    container_id: str
    service_tier: str | None
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

    def end_at(self, at: float) -> str:
        """Let the response end at once, at a moment of its batch; give the status with which it ends."""
        ends = self.timeline.changes[-1][1]
        self.created_at = at
        self.timeline = Timeline.plan(at, (), ends)
        return ends

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

    def is_answered(self, now: float) -> bool:
        """Tell whether the response has ended with an answer."""
        return self.timeline.status(now) in _ANSWERED

    def output(self, now: float) -> list[dict[str, Any]]:
        """List the items that have been written by `now`, complete: all of them at the end, none before."""
        return self._planned_output() if self.is_answered(now) else []

    def questions(self) -> dict[str, dict[str, Any]]:
        """Index what the response will ask its client by the id that the answer has to name."""
        return questions(self._planned_output()) if self._asks else {}

    def render(self, now: float, include: Collection[str] = ()) -> dict[str, Any]:
        """Show the response as the API does to a reader who asked for `include`."""
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
            "output": [without_extras(item, include) for item in self.output(now)],
            "service_tier": self._service_tier(status),
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
        preamble = self.scenario.preamble
        said = [] if preamble is None else [preamble_item(self.id, preamble)]
        return [*said, *(self._questions_asked() if self._asks else self._answer_given())]

    def _questions_asked(self) -> list[dict[str, Any]]:
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
        calls = self.scenario.function_calls[self.turn - (request is not None)]
        return [
            {
                "id": child_id("fc", self.id, index),
                "type": "function_call",
                "status": "completed",
                "arguments": call.arguments_json,
                "call_id": call.id or child_id("call", self.id, index),
                "name": call.name,
            }
            for index, call in enumerate(calls)
        ]

    def _answer_given(self) -> list[dict[str, Any]]:
        messages = [self._message(copy) for copy in range(self.scenario.message_copies)]
        results = tool_items(self.id, self.container_id, self.scenario.output)
        return [*results, *self._approved_call(), *messages]

    @property
    def _server_label(self) -> str:
        labels = [tool["server_label"] for tool in self.parameters["tools"] if tool.get("type") == "mcp"]
        return str(labels[0]) if labels else "simulated"

    def _approved_call(self) -> list[dict[str, Any]]:
        if self.approved is None:
            return []
        return [
            mcp_call_item(
                child_id("mcp", self.id, "approved"),
                name=self.approved["name"],
                arguments=self.approved["arguments"],
                server_label=self.approved["server_label"],
                approval_request_id=self.approved["id"],
            )
        ]

    def _message(self, copy: int) -> dict[str, Any]:
        return message_item(
            child_id("msg", self.id, copy),
            self._content(),
            phase=None if self.scenario.preamble is None else "final_answer",
            status="incomplete" if self.answer.ends == Status.INCOMPLETE else "completed",
        )

    def _content(self) -> list[dict[str, Any]]:
        if self.scenario.refusal is not None:
            return [refusal(self.scenario.refusal)]
        cited = citations.of_response(self.id, self.container_id, self.scenario.output)
        *first, last = self.answer.texts
        marked = [one for one in cited if one.marker]
        return [
            *(output_text(text, citations.annotations_in(text, marked)) for text in first),
            output_text(last, citations.annotations_in(last, cited)),
        ]

    def _service_tier(self, status: str) -> str:
        """Give the tier that was asked for until the end, then the one that was used."""
        asked = self.service_tier or "auto"
        if status not in _ANSWERED:
            return asked
        return self.scenario.service_tier or ("default" if asked == "auto" else asked)

    def _incomplete_details(self, status: str) -> dict[str, Any] | None:
        return {"reason": self.answer.incomplete_reason} if status == Status.INCOMPLETE else None

    def _usage(self, status: str) -> dict[str, Any] | None:
        shown = status in _ANSWERED or (status in TERMINAL and self.scenario.usage is not None)
        if not shown:
            return None
        read, written = self.answer.prompt_tokens, self.answer.completion_tokens
        details = {"cached_tokens": self.scenario.cached_tokens}
        if self.scenario.cache_write_tokens is not None:
            details["cache_write_tokens"] = self.scenario.cache_write_tokens
        return {
            "input_tokens": read,
            "input_tokens_details": details,
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": self.scenario.reasoning_tokens},
            "total_tokens": read + written,
        }
