# SPDX-License-Identifier: Apache-2.0
"""The texts of a message, in whichever shape a server writes its content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.annotations import annotations_of

#: A piece of text, and its annotations.
Said = tuple[str, tuple[dict[str, Any], ...]]

#: Types of parts that are text; some servers name none.
_TEXTS = frozenset({"", "text", "output_text", "input_text"})
#: Types of parts that are speech, of which the transcript is the text.
_SPEECH = frozenset({"audio", "output_audio"})
#: Types of parts that show nobody anything.
_THOUGHTS = frozenset(
    {"reasoning", "reasoning_text", "redacted_thinking", "summary_text", "thinking", "thought"}
)


def texts_of(content: object) -> Iterator[list[Said]]:
    """
    Read the parts of a message that are text, each as its pieces.

    Some servers write plain text, one object or a list of texts in place of a list of parts, and the text of
    a part as an object with a ``value``, as text, or as a list of these. What a model thinks, or refuses,
    may have text, too, and is no answer.
    """
    for part in content if isinstance(content, list) else [content]:
        kind = reading.identifier(part.get("type", "")) if isinstance(part, Mapping) else ""
        if kind not in _TEXTS | _SPEECH:
            continue
        inner = _transcript(reading.object_of(part)) if kind in _SPEECH else _inner(part)
        pieces = [
            (text, tuple(annotations_of(piece if isinstance(piece, Mapping) else part)))
            for piece in (inner if isinstance(inner, list) else [inner])
            if isinstance(text := _inner(piece), str)
        ]
        if pieces:
            yield pieces


def refusals_of(message: Mapping[str, Any]) -> Iterator[str]:
    """Read the words with which a message declines; some servers write them beside the content."""
    parts = [part for part in reading.items_of(message.get("content")) if part.get("type") == "refusal"]
    for part in parts:
        yield reading.text(part.get("refusal")) or reading.text(part.get("text")) or "no reason given"
    if not parts and (beside := reading.text(message.get("refusal"))) is not None:
        yield beside


def shows_more(message: Mapping[str, Any]) -> bool:
    """Whether a message has parts that are neither text, nor refusal, nor thought: pictures, sound, files."""
    kinds = _TEXTS | _THOUGHTS | {"refusal"}
    return any(
        reading.identifier(part.get("type", "")) not in kinds
        and any(value for name, value in part.items() if name != "type")
        for part in reading.items_of(message.get("content"))
    )


def _transcript(part: Mapping[str, Any]) -> object:
    return part.get("transcript") or reading.object_of(part.get("audio")).get("transcript")


def _inner(part: object) -> object:
    if not isinstance(part, Mapping):
        return part
    return part["text"] if part.get("text") is not None else part.get("value")
