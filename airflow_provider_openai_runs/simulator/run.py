# SPDX-License-Identifier: Apache-2.0
"""A run on a thread: its statuses, its calls, its steps and how the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.answers import last_error
from airflow_provider_openai_runs.simulator.errors import ApiError
from airflow_provider_openai_runs.simulator.ids import child_id
from airflow_provider_openai_runs.simulator.lifecycle import TERMINAL, Status, Timeline
from airflow_provider_openai_runs.simulator.run_tool_calls import tool_calls

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.answers import Answer
    from airflow_provider_openai_runs.simulator.scenario import Scenario

_ANSWERED = frozenset({Status.COMPLETED, Status.INCOMPLETE})
_UNSTOPPABLE = TERMINAL | {Status.CANCELLING}


@dataclass(slots=True, kw_only=True)
class ThreadRun:
    """A run; everything but `timeline`, `outputs` and `metadata` is settled when it is created.

    `parameters` are the fields that the API merely echoes; `outputs` holds what was submitted, one mapping
    from call id to output for each round of calls.
    """

    id: str
    thread_id: str
    assistant_id: str
    created_at: float
    parameters: dict[str, Any]
    metadata: dict[str, str]
    scenario: Scenario
    answer: Answer
    speed: float
    timeline: Timeline = field(init=False)
    outputs: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Plan the time until the first stop."""
        self.timeline = self._leg(self.created_at)

    def is_visible(self, now: float) -> bool:
        """Tell whether reads find the run already."""
        return now >= self.created_at + self.scenario.hidden_for

    def cancel(self, now: float) -> None:
        """Begin the end; a run that has ended, or is ending, is refused as OpenAI does."""
        status = self.timeline.status(now)
        if status in _UNSTOPPABLE:
            raise ApiError(f"Cannot cancel run with status '{status}'.")
        wait = self.scenario.cancelling
        phases = ((Status.CANCELLING, wait / self.speed),) if wait else ()
        ending = Timeline.plan(now, phases, self.scenario.cancel_ends)
        self.timeline = self.timeline.followed_by(now, ending).expiring(self._expires_at)

    def submit(self, now: float, outputs: dict[str, str]) -> None:
        """Take the outputs of the pending calls, all of them at once, and queue the run again."""
        status = self.timeline.status(now)
        if status != Status.REQUIRES_ACTION:
            raise ApiError(f'Runs in status "{status}" do not accept tool outputs.')
        expected = [call["id"] for call in self._calls(len(self.outputs))]
        if set(expected) != set(outputs):
            raise ApiError(f"Expected tool outputs for call_ids {expected}, got {list(outputs)}")
        self.outputs.append(outputs)
        self.timeline = self.timeline.followed_by(now, self._leg(now))

    def render(self, now: float) -> dict[str, Any]:
        """Show the run as the API does."""
        status = self.timeline.status(now)
        since = int(self.timeline.since(now))
        started = self.timeline.last(Status.IN_PROGRESS, now)
        return {
            "id": self.id,
            "object": "thread.run",
            "created_at": int(self.created_at),
            "assistant_id": self.assistant_id,
            "thread_id": self.thread_id,
            "status": status,
            "started_at": None if started is None else int(started),
            "expires_at": None if status in TERMINAL else int(self._expires_at),
            "cancelled_at": since if status == Status.CANCELLED else None,
            "failed_at": since if status == Status.FAILED else None,
            "completed_at": since if status == Status.COMPLETED else None,
            "required_action": self._required_action(status),
            "last_error": last_error(self.scenario) if status == Status.FAILED else None,
            "incomplete_details": self._incomplete_details(status),
            "usage": self._usage(status),
            "metadata": self.metadata if self.scenario.echo_metadata else {},
            **self.parameters,
        }

    def summary(self, now: float) -> dict[str, Any]:
        """Describe the run in one flat object, whatever it shows its clients."""
        return {
            "kind": "thread_run",
            "id": self.id,
            "thread_id": self.thread_id,
            "assistant_id": self.assistant_id,
            "model": self.parameters["model"],
            "status": self.timeline.status(now),
            "metadata": self.metadata,
            "created_at": self.created_at,
            "ended_at": self.timeline.ended_at(now),
            "text": self.answer.text,
        }

    def is_answered(self, now: float) -> bool:
        """Tell whether the run has ended with an answer."""
        return self.timeline.status(now) in _ANSWERED

    def message_id(self, now: float) -> str | None:
        """Give the id of the message with the answer, None as long as there is none."""
        return child_id("msg", self.id, "answer") if self.is_answered(now) else None

    def steps(self, now: float) -> list[dict[str, Any]]:
        """List the steps taken by `now`, oldest first: rounds of calls, extra steps, the answer."""
        found = [self._calls_step(index, at, end) for index, (at, end) in enumerate(self._stops(now))]
        started = self.timeline.last(Status.IN_PROGRESS, now)
        if started is not None and len(self.outputs) == len(self.scenario.function_calls):
            extra = (self._extra_call(index) for index in range(self.scenario.steps))
            for index, call in enumerate([*extra, *tool_calls(self.id, self.scenario.output)]):
                details = {"type": "tool_calls", "tool_calls": [call]}
                found.append(self._step(f"extra {index}", details, started, (started, Status.COMPLETED)))
        if message_id := self.message_id(now):
            ended = self.timeline.since(now)
            written = {"type": "message_creation", "message_creation": {"message_id": message_id}}
            step = self._step("answer", written, ended, (ended, Status.COMPLETED))
            found.append({**step, "usage": self._usage(self.timeline.status(now))})
        return found

    def _extra_call(self, index: int) -> dict[str, Any]:
        return {
            "id": child_id("call", self.id, f"step {index}"),
            "type": "code_interpreter",
            "code_interpreter": {"input": f"print({index})", "outputs": []},
        }

    @property
    def _expires_at(self) -> float:
        return self.created_at + self.scenario.expires_after

    def _leg(self, at: float) -> Timeline:
        stops = len(self.outputs) < len(self.scenario.function_calls)
        phases = [(status, seconds / self.speed) for status, seconds in self.scenario.phases]
        ends = Status.REQUIRES_ACTION if stops else self.answer.ends
        return Timeline.plan(at, phases, ends).expiring(self._expires_at)

    def _calls(self, index: int) -> list[dict[str, Any]]:
        return [
            {
                "id": call.id or child_id("call", self.id, f"{index}.{position}"),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for position, call in enumerate(self.scenario.function_calls[index])
        ]

    def _required_action(self, status: str) -> dict[str, Any] | None:
        if status != Status.REQUIRES_ACTION:
            return None
        calls = self._calls(len(self.outputs))
        return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}

    def _incomplete_details(self, status: str) -> dict[str, Any] | None:
        return {"reason": self.answer.incomplete_reason} if status == Status.INCOMPLETE else None

    def _usage(self, status: str) -> dict[str, Any] | None:
        if status not in TERMINAL:
            return None
        if status in _ANSWERED or self.scenario.usage:
            return usage(
                self.answer.prompt_tokens,
                self.answer.completion_tokens,
                cached=self.scenario.cached_tokens,
                reasoning=self.scenario.reasoning_tokens,
            )
        return usage(0, 0)

    def _stops(self, now: float) -> list[tuple[float, tuple[float, str] | None]]:
        """Find when the run stopped for its calls, and how (moment, status) it went on, if it has."""
        past = [change for change in self.timeline.changes if change[0] <= now]
        return [
            (change[0], following)
            for change, following in pairwise([*past, None])
            if change is not None and change[1] == Status.REQUIRES_ACTION
        ]

    def _calls_step(self, index: int, at: float, end: tuple[float, str] | None) -> dict[str, Any]:
        outputs = self.outputs[index] if index < len(self.outputs) else {}
        calls = self._calls(index)
        for call in calls:
            call["function"]["output"] = outputs.get(call["id"])
        if end is not None and outputs:
            end = (end[0], Status.COMPLETED)
        return self._step(f"calls {index}", {"type": "tool_calls", "tool_calls": calls}, at, end)

    def _step(
        self,
        name: str,
        details: dict[str, Any],
        at: float,
        end: tuple[float, str] | None,
    ) -> dict[str, Any]:
        moment, status = (int(end[0]), end[1]) if end else (None, Status.IN_PROGRESS)
        if status == Status.CANCELLING:
            status = Status.CANCELLED
        return {
            "id": child_id("step", self.id, name),
            "object": "thread.run.step",
            "created_at": int(at),
            "run_id": self.id,
            "assistant_id": self.assistant_id,
            "thread_id": self.thread_id,
            "type": details["type"],
            "status": status,
            "cancelled_at": moment if status == Status.CANCELLED else None,
            "completed_at": moment if status == Status.COMPLETED else None,
            "expires_at": None if end else int(self._expires_at),
            "failed_at": moment if status == Status.FAILED else None,
            "last_error": None,
            "step_details": details,
            "usage": usage(0, 0) if end else None,
        }


def usage(prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """Count tokens as thread runs do; "prompt_token_details" is spelt like that on the wire."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_token_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
