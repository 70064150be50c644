# SPDX-License-Identifier: Apache-2.0
"""What a thread run answers: the text of its messages, what they cite, their files, and a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.runs.citations import Citation
from airflow_provider_openai_runs.runs.files import RunFile
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.citations import Piece, citations_of
from airflow_provider_openai_runs.wire.files import files_of_message
from airflow_provider_openai_runs.wire.message_texts import refusals_of, shows_more, texts_of

#: Between two parts of a message, and between two messages.
_JOINT = "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadAnswer:
    """
    The answer of a thread run.

    :param text: of all messages.
    :param final_text: of the last of them that has one.
    :param refusal: the model's words where it declines.
    :param has_content: whether any message has more than white space, or a part that is no text.
    :param incomplete_details: why the last message is not whole, where it says that it is not.
    """

    text: str | None
    final_text: str | None
    refusal: str | None
    citations: tuple[Citation, ...]
    files: tuple[RunFile, ...]
    has_content: bool
    incomplete_details: dict[str, Any] | None


def read_answer(run: Run, listed: list[dict[str, Any]]) -> ThreadAnswer:
    """Read the answer of a run from the messages that were listed for it."""
    messages = own_messages(run, listed)
    texts: list[str] = []
    pieces: list[Piece] = []
    final_text: str | None = None
    start = 0
    for message in messages:
        of_message: list[str] = []
        for part in texts_of(message.get("content")):
            if not any(said for said, _ in part):
                continue
            for said, cited in part:
                pieces.append(Piece(text=said, annotations=cited, start=start))
                start += len(said)
            start += len(_JOINT)
            texts.append("".join(said for said, _ in part))
            of_message.append(texts[-1])
        if (joined := _JOINT.join(of_message)).strip():
            final_text = joined
    refusal = _JOINT.join(words for message in messages for words in refusals_of(message)) or None
    return ThreadAnswer(
        text=_JOINT.join(texts) if texts else None,
        final_text=final_text,
        refusal=refusal,
        citations=tuple(citations_of(pieces)),
        files=tuple(file for message in messages for file in files_of_message(message)),
        has_content=final_text is not None or refusal is not None or any(map(shows_more, messages)),
        incomplete_details=_why_cut(messages[-1]) if messages else None,
    )


def _why_cut(message: Mapping[str, Any]) -> dict[str, Any] | None:
    is_cut = message.get("status") == RunStatus.INCOMPLETE
    return reading.incomplete_details(message.get("incomplete_details")) if is_cut else None


def own_messages(run: Run, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pick the run's own messages: a server that does not know the filter answers with the whole thread."""
    answers = [message for message in messages if message.get("role") == "assistant"]
    if ours := [message for message in answers if reading.identifier(message.get("run_id")) == run.ref.id]:
        return ours
    # Some servers do not write down whose answer it is: then it is what came after the run was created, and
    # where they do not tell when that was, what came after the last question.
    questions = [place for place, message in enumerate(messages) if message.get("role") == "user"]
    after = 0 if run.created_at or not questions else questions[-1]
    since = run.created_at or 0
    return [
        message
        for message in messages[after:]
        if message.get("role") == "assistant"
        and not message.get("run_id")
        and (reading.unix_time(message.get("created_at")) or since) >= since
    ]
