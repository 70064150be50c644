# SPDX-License-Identifier: Apache-2.0
"""What a response answers: which of its messages count, their text, what it cites, and a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.runs.citations import Citation
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.citations import Piece, citations_of
from airflow_provider_openai_runs.wire.message_texts import Said, refusals_of, shows_more, texts_of

#: By the ``phase`` of a message: what a model thinks, what it says before it acts, and its answer.
_THOUGHT, _PREAMBLE, _ANSWER = "analysis", "commentary", "final_answer"
#: Roles of those who ask, or who answer a call.
_ASKED = ("user", "system", "developer", "tool")
#: Items that lead to an answer and are none.
_NO_PRODUCT = frozenset(
    {
        *(
            "message",
            "reasoning",
            "web_search_call",
            "file_search_call",
            "mcp_list_tools",
            "additional_tools",
        ),
        *("tool_search_call", "tool_search_output", "compaction"),
    }
)
#: Items that produce nothing where they fail.
_MAY_FAIL = frozenset({"function_call", "image_generation_call"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseAnswer:
    """
    The answer of a response.

    :param text: of all messages but the preambles, which count where there is nothing else at all.
    :param final_text: of the last of them that is not empty, and calls itself the answer if one does.
    :param refusal: the model's words where it declines.
    :param is_empty: whether there is neither text nor refusal, and nothing was produced.
    """

    text: str | None
    final_text: str | None
    refusal: str | None
    citations: tuple[Citation, ...]
    is_empty: bool


def read_answer(data: Mapping[str, Any]) -> ResponseAnswer:
    """Read the answer of a response."""
    items = reading.items_of(data.get("output"))
    written = [item for item in _once(items) if item.get("phase") != _THOUGHT]
    messages = [item for item in written if item.get("phase") != _PREAMBLE]
    has_acted = any(_kind(item) not in {"message", "reasoning"} for item in items)
    if not has_acted and not any(map(_says_anything, messages)):
        messages = written
    said = [(message, parts) for message in messages if (parts := list(_texts(message.get("content"))))]
    texts = [(_text(message), message.get("phase") == _ANSWER) for message, _ in said]
    # What the SDK computes is sent by some gateways as a field of its own.
    named = reading.text(data.get("output_text")) or reading.text(data.get("output"))
    text = "".join(text for text, _ in texts) if texts else named
    has_content = (
        bool(text and text.strip()) or any(map(_is_product, items)) or any(map(shows_more, messages))
    )
    refusal = _refusal(messages) or reading.text(data.get("refusal"))
    if refusal is None and not has_content:
        refusal = _refusal(written)
    return ResponseAnswer(
        text=text,
        final_text=_last(text for text, is_answer in texts if is_answer)
        or _last(text for text, _ in texts)
        or text,
        refusal=refusal,
        citations=tuple(citations_of(_pieces(part for _, parts in said for part in parts))),
        is_empty=not has_content and refusal is None,
    )


def _kind(item: Mapping[str, Any]) -> str:
    return reading.identifier(item.get("type", "message"))


def _is_product(item: Mapping[str, Any]) -> bool:
    kind = _kind(item)
    return kind not in _NO_PRODUCT and not (kind in _MAY_FAIL and item.get("status") == "failed")


def _says_anything(message: Mapping[str, Any]) -> bool:
    return bool(_text(message).strip()) or any(refusals_of(message)) or shows_more(message)


def _refusal(messages: Iterable[Mapping[str, Any]]) -> str | None:
    return "".join(words for message in messages for words in refusals_of(message)) or None


def _last(texts: Iterable[str]) -> str | None:
    """Return the last text that is not empty."""
    return next((text for text in reversed(list(texts)) if text.strip()), None)


def _once(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """
    Give each message of the model once, though some servers also write those that it was asked with.

    Others write one twice, or as far as it had come and then whole.
    """
    found: dict[str, dict[str, Any]] = {}
    nameless = 0
    for item in items:
        if item.get("type", "message") != "message" or item.get("role") in _ASKED:
            continue
        name = reading.identifier(item.get("id"))
        text = _text(item)
        earlier = _text(found.get(name, {}))
        if not name or (name in found and not (text.startswith(earlier) or earlier.startswith(text))):
            # Some servers give all messages one id.
            nameless += 1
            name = f"{name} {nameless}"
        if name not in found or len(text) > len(earlier):
            found[name] = item
    yield from found.values()


def _text(message: Mapping[str, Any]) -> str:
    return "".join(text for text, _ in _texts(message.get("content")))


def _texts(content: object) -> Iterator[Said]:
    return (piece for part in texts_of(content) for piece in part)


def _pieces(parts: Iterable[Said]) -> Iterator[Piece]:
    start = 0
    for text, cited in parts:
        yield Piece(text=text, annotations=cited, start=start)
        start += len(text)
