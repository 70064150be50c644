# SPDX-License-Identifier: Apache-2.0
"""What a run answers and what it costs: deterministic, from its scenario and its prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.citations import Citation, with_markers
from airflow_provider_openai_runs.simulator.lifecycle import Status
from airflow_provider_openai_runs.simulator.schemas import instance_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_openai_runs.simulator.scenario import Scenario

_QUOTED = 200
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """How a run will end: status, texts (cut if incomplete), and tokens read and written."""

    ends: str
    texts: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
    incomplete_reason: str | None = None

    @property
    def text(self) -> str:
        """The parts of the text as one."""
        return "".join(self.texts)


def answer(
    scenario: Scenario,
    *,
    prompt: str,
    question: str,
    citations: Sequence[Citation],
    text_format: Any,
    ceiling: int | None,
    ceiling_name: str,
) -> Answer:
    """Work out the answer to a prompt, of which `question` is the part quoted back.

    A text that the scenario leaves open is of the `text_format` that was asked for. An answer of more tokens
    than `ceiling` ends incomplete for the reason `ceiling_name`, as in reality.
    """
    texts = _texts_of(scenario, question, citations, text_format)
    length = sum(map(len, texts))
    ends, reason = scenario.ends, None
    if ends == Status.COMPLETED and ceiling is not None and tokens("".join(texts)) > ceiling:
        ends, reason = Status.INCOMPLETE, ceiling_name
        texts = _cut(texts, ceiling * _CHARACTERS_PER_TOKEN)
    elif ends == Status.INCOMPLETE:
        reason = scenario.incomplete_reason or ceiling_name
        texts = _cut(texts, (length + 1) // 2)
    written = tokens("".join(texts) or scenario.refusal or "")
    prompt_tokens, completion_tokens = scenario.usage or (
        max(tokens(prompt), scenario.cached_tokens + (scenario.cache_write_tokens or 0)),
        written + scenario.reasoning_tokens,
    )
    return Answer(ends, texts, prompt_tokens, completion_tokens, reason)


def _texts_of(
    scenario: Scenario,
    question: str,
    citations: Sequence[Citation],
    text_format: Any,
) -> tuple[str, ...]:
    """Write the parts of the text; what no part cites is cited at the end of the last one."""
    if scenario.refusal is not None:
        return ()
    quoting = f"Simulated answer to: {question[:_QUOTED]}"
    if scenario.texts is None and (formatted := _formatted(text_format, quoting)) is not None:
        return (formatted,)
    texts = scenario.texts or (quoting,)
    missing = [one for one in citations if not any(one.marker in text for text in texts[:-1])]
    return (*texts[:-1], with_markers(texts[-1], missing))


def _formatted(text_format: Any, quoting: str) -> str | None:
    """Write JSON where it was asked for; thread runs have the schema one level deeper."""
    kind = text_format.get("type") if isinstance(text_format, dict) else None
    if kind == "json_schema":
        return json.dumps(instance_of(text_format.get("json_schema", text_format).get("schema")))
    return json.dumps({"answer": quoting}) if kind == "json_object" else None


def _cut(texts: tuple[str, ...], length: int) -> tuple[str, ...]:
    """Keep the first `length` characters."""
    kept = []
    for text in texts:
        kept.append(text[:length])
        length = max(length - len(text), 0)
    return tuple(kept)


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
