# SPDX-License-Identifier: Apache-2.0
"""What a run answers and what it costs: deterministic, from its scenario and its prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_openai_runs.simulator.scenario import Scenario

_QUOTED = 200
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """How a run will end: status, text (cut if incomplete), and tokens read and written."""

    ends: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    incomplete_reason: str | None = None


def answer(
    scenario: Scenario, *, prompt: str, question: str, ceiling: int | None, ceiling_name: str
) -> Answer:
    """Work out the answer to a prompt, of which `question` is the part quoted back.

    An answer of more tokens than `ceiling` ends incomplete for the reason `ceiling_name`, as in reality.
    """
    text = scenario.text if scenario.text is not None else f"Simulated answer to: {question[:_QUOTED]}"
    ends, reason = scenario.ends, None
    if ends == Status.COMPLETED and ceiling is not None and tokens(text) > ceiling:
        ends, reason = Status.INCOMPLETE, ceiling_name
        text = text[: ceiling * _CHARACTERS_PER_TOKEN]
    elif ends == Status.INCOMPLETE:
        reason = scenario.incomplete_reason or ceiling_name
        text = text[: (len(text) + 1) // 2]
    prompt_tokens, completion_tokens = scenario.usage or (tokens(prompt), tokens(text))
    return Answer(ends, text, prompt_tokens, completion_tokens, reason)


def tokens(text: str) -> int:
    """Estimate the tokens of a text, at least one."""
    return max(1, -(-len(text) // _CHARACTERS_PER_TOKEN))


def text_of(content: Any) -> str:
    """Give the text in the content of a message: a string, or parts in any of the API's shapes."""
    if isinstance(content, str):
        return content
    return "\n".join(_texts(content))


def _texts(parts: Any) -> Iterable[str]:
    for part in parts if isinstance(parts, list) else ():
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, dict):
            text = text.get("value")
        if isinstance(text, str):
            yield text


def last_error(scenario: Scenario) -> dict[str, str]:
    """Give the error of a run that fails: the scripted one, completed where it says nothing."""
    return {"code": "server_error", "message": "The simulated run failed.", **(scenario.error or {})}
