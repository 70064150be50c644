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


def texts_of(content: object) -> Iterator[list[Said]]:
    """
    Read the parts of a message that are text, each as its pieces.

    Some servers write plain text, one object or a list of texts in place of a list of parts, and the text of
    a part as an object with a ``value``, as text, or as a list of these. What a model thinks, or refuses,
    may have text, too, and is no answer.
    """
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, Mapping) and reading.identifier(part.get("type", "")) not in _TEXTS:
            continue
        inner = _inner(part)
        pieces = [
            (text, tuple(annotations_of(piece if isinstance(piece, Mapping) else part)))
            for piece in (inner if isinstance(inner, list) else [inner])
            if isinstance(text := _inner(piece), str)
        ]
        if pieces:
            yield pieces


def refusals_of(content: object) -> Iterator[str]:
    """Read the words with which a message declines."""
    for part in reading.items_of(content):
        if part.get("type") == "refusal":
            yield reading.text(part.get("refusal")) or reading.text(part.get("text")) or "no reason given"


def _inner(part: object) -> object:
    if not isinstance(part, Mapping):
        return part
    return part["text"] if part.get("text") is not None else part.get("value")
