# SPDX-License-Identifier: Apache-2.0
"""What a run is to do: how long each status lasts, what it calls and answers, how it ends."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.lifecycle import TERMINAL, Status
from airflow_provider_openai_runs.simulator.loading import arguments_of
from airflow_provider_openai_runs.simulator.schemas import instance_of
from airflow_provider_openai_runs.simulator.tool_results import ToolResult, tool_result_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOT_NEGATIVE = (
    "queued",
    "in_progress",
    "cancelling",
    "expires_after",
    "hidden_for",
    "steps",
    "cached_tokens",
    "reasoning_tokens",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionCall:
    """A function that the model asks for; `arguments` is an object or, as on the wire, its JSON text.

    `id` is the id of the call; some servers use one again in a later round. None gives each its own.
    """

    name: str
    arguments: str | Mapping[str, Any] = "{}"
    id: str | None = None

    @property
    def arguments_json(self) -> str:
        """The arguments as the API writes them: JSON in a string."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)

    @classmethod
    def from_json(cls, data: Any) -> FunctionCall:
        """Read `{"name": ..., "arguments": ..., "id": ...}`; ValueError names unknown keys."""
        return cls(**arguments_of(cls, data))


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """The script of a run. All durations are seconds; the state of a run follows from it and the clock.

    Which run: the first script whose `when` (a regular expression, None for any) is found in the run's
    input, instructions or last thread message serves `times` runs (None for all) and is then used up. It
    goes on serving a response that answers the function calls or the approval request of one of its own.

    How long: `queued`, then `in_progress`; or `statuses`, pairs of status and seconds, in their place
    (`requires_action` is none of them: it comes with `function_calls`).
    After each submit of tool outputs the same again. A thread run expires `expires_after` its creation.

    What: each entry of `function_calls` is one round of parallel calls. A thread run stops there in
    requires_action; a response completes with them and the next response plays the next round.
    `mcp_approval` makes a response complete with an approval request first. Then the run `ends`, with
    `text` (None: one that quotes the prompt; several: the parts of one message), `error` ({"code",
    "message"}), `incomplete_reason` and `usage` (prompt and completion tokens; None: derived from the
    length of the texts), of which `cached_tokens`, `cache_write_tokens` (None: not said) and
    `reasoning_tokens` are parts. `steps` are code-interpreter steps that a thread run takes before its
    answer. A script that ends "expired" is for thread runs; responses pass it by.

    What hosted tools did before the answer is the `output`; thread runs know searches in files and code
    only. The text cites what the tools found and wrote: a link that is not in it is added. With a `refusal`
    there is no text. A response says its `preamble` before anything else, also before its calls, and
    writes its message `message_copies` times.

    Manners: a cancel stays `cancelling` (a response: in_progress) that long and leads to `cancel_ends`.
    The run is `hidden_for` some time after its creation (404). Metadata is not echoed with
    `echo_metadata=False`. `poll_after_ms` is sent as the header of that name. A response that
    `ignores_background` is created, finished and answered in one request.
    """

    queued: float = 0.2
    in_progress: float = 0.8
    statuses: Sequence[tuple[str, float]] | None = None
    ends: str = Status.COMPLETED
    text: str | Sequence[str] | None = None
    refusal: str | None = None
    preamble: str | None = None
    message_copies: int = 1
    output: Sequence[ToolResult] = ()
    function_calls: Sequence[Sequence[FunctionCall]] = ()
    mcp_approval: FunctionCall | None = None
    error: Mapping[str, str] | None = None
    incomplete_reason: str | None = None
    usage: tuple[int, int] | None = None
    cached_tokens: int = 0
    cache_write_tokens: int | None = None
    reasoning_tokens: int = 0
    service_tier: str | None = None
    steps: int = 0
    cancelling: float = 0.0
    cancel_ends: str = Status.CANCELLED
    expires_after: float = 600.0
    hidden_for: float = 0.0
    echo_metadata: bool = True
    poll_after_ms: int | None = None
    ignores_background: bool = False
    when: str | None = None
    times: int | None = 1

    def __post_init__(self) -> None:
        """Refuse what could never happen, when it is written rather than when a run meets it."""
        self._check_ends()
        self._check_numbers()
        self._check_parts()
        if self.when is not None:
            re.compile(self.when)

    def _check_ends(self) -> None:
        for name in ("ends", "cancel_ends"):
            if getattr(self, name) not in TERMINAL:
                raise ValueError(
                    f"Scenario.{name}: {getattr(self, name)!r} is not one of {sorted(TERMINAL)}."
                )
        if self.statuses is not None and Status.REQUIRES_ACTION in {status for status, _ in self.statuses}:
            raise ValueError(
                "Scenario.statuses: a run stops in 'requires_action' for its function_calls, after its "
                "statuses; leave it out and give function_calls."
            )

    def _check_numbers(self) -> None:
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"Scenario.{name}: {getattr(self, name)} is negative.")
        if self.times is not None and self.times < 1:
            raise ValueError(f"Scenario.times: {self.times} runs is not a number of runs; None means all.")
        if self.message_copies < 1:
            raise ValueError(f"Scenario.message_copies: {self.message_copies} is less than one message.")

    def _check_parts(self) -> None:
        if self.texts == ():
            raise ValueError("Scenario.text: a message needs at least one part.")
        if not all(self.function_calls):
            raise ValueError("Scenario.function_calls: a round needs at least one call.")

    @property
    def texts(self) -> tuple[str, ...] | None:
        """The parts of the text, None where the scenario leaves it open."""
        if self.text is None:
            return None
        return (self.text,) if isinstance(self.text, str) else tuple(self.text)

    @property
    def phases(self) -> Sequence[tuple[str, float]]:
        """The statuses before the run stops or ends, with their seconds."""
        if self.statuses is not None:
            return self.statuses
        return ((Status.QUEUED, self.queued), (Status.IN_PROGRESS, self.in_progress))

    def matches(self, subject: str) -> bool:
        """Tell whether this script is meant for a run about `subject`."""
        return self.when is None or re.search(self.when, subject) is not None

    @classmethod
    def from_json(cls, data: Any) -> Scenario:
        """Read a scenario as posted to `/simulator/scenarios`; ValueError says what is wrong."""
        arguments = arguments_of(cls, data)
        if "function_calls" in arguments:
            rounds = arguments["function_calls"]
            arguments["function_calls"] = tuple(tuple(map(FunctionCall.from_json, calls)) for calls in rounds)
        if arguments.get("mcp_approval") is not None:
            arguments["mcp_approval"] = FunctionCall.from_json(arguments["mcp_approval"])
        if "output" in arguments:
            arguments["output"] = tuple(tool_result_from_json(result) for result in arguments["output"])
        if isinstance(arguments.get("text"), list):
            arguments["text"] = tuple(arguments["text"])
        for name in ("statuses", "usage"):
            if arguments.get(name) is not None:
                arguments[name] = tuple(tuple(x) if isinstance(x, list) else x for x in arguments[name])
        try:
            return cls(**arguments)
        except (TypeError, re.error) as error:
            raise ValueError(f"Scenario: {error}") from error


_PLAIN = Scenario()


def default_scenario(functions: Sequence[Mapping[str, Any]]) -> Scenario:
    """Give the script of a run nobody has scripted: call the first function on offer once, then answer.

    `functions` are definitions with `name` and `parameters` (JSON Schema).
    """
    if not functions:
        return _PLAIN
    first = functions[0]
    call = FunctionCall(
        name=first["name"], arguments=instance_of(first.get("parameters") or {"type": "object"})
    )
    return Scenario(function_calls=((call,),))
