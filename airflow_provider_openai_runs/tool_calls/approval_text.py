# SPDX-License-Identifier: Apache-2.0
"""
The Markdown of the approval page.

Names and arguments are the model's own text, and the model may have read a stranger's: they stand in code
that they cannot close, and what cannot be seen (such as marks that turn the direction of text) is spelt out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.times import utc
from airflow_provider_openai_runs.tool_calls.approval_masks import masked_line
from airflow_provider_openai_runs.tool_calls.approval_shown import ShownCall, shown_text

#: Characters of arguments that a page shows; its calls share them, for MySQL takes 64 KiB of text.
MAX_SHOWN = 8_000
MAX_NAME = 100
#: Characters of a subject, and of an argument in it.
MAX_SUBJECT = 200
MAX_VALUE = 60
#: The last characters of what the model wrote beside its calls.
MAX_WORDS = 1_000
_WAYS = (
    "**Approve** makes what the form below says. **Reject** makes no call, and the model reads that, with "
    "your comment."
)
_PLACE = re.compile(r"\{(\w+)\}")
_BACKTICKS = re.compile("`+")


def subject(template: str | None, *, ti: Any, calls: Sequence[ShownCall], deadline: float | None) -> str:
    """
    Return the page's title, of one line.

    :param template: with ``{function}``, ``{task}``, ``{dag}``, ``{count}``, ``{deadline}``, and the names of
        the arguments of a single call; any other name stays as it stands.
    """
    arguments = _arguments_of(calls[0]) if len(calls) == 1 else {}
    names = ", ".join(dict.fromkeys(shown.call.name for shown in calls))
    values = {
        **arguments,
        "function": names,
        "task": ti.task_id,
        "dag": ti.dag_id,
        "count": len(calls),
        "deadline": utc(deadline),
    }
    if template is None:
        given = ", ".join(f"{name} {value}" for name, value in arguments.items())
        one = f"{names} of task {ti.task_id}{given and f': {given}'}"
        text = one if len(calls) == 1 else f"{len(calls)} calls of task {ti.task_id}: {names}"
    else:
        text = _filled(template, values)
    return shown_text(message_text(masked_line(text), limit=MAX_SUBJECT))


def body(
    *,
    ti: Any,
    ref: RunRef,
    calls: Sequence[ShownCall],
    page: str,
    words: str | None,
    deadline: float | None,
    afterwards: str,
) -> str:
    """
    Return the page's text.

    :param page: an id, by which ``is_page`` knows this text again.
    :param words: what the model has written beside its calls.
    :param deadline: Unix seconds until which a person may decide.
    :param afterwards: what happens then.
    """
    where = f" of thread {_code(ref.thread_id)}" if ref.thread_id else ""
    count = "a call" if len(calls) == 1 else f"{len(calls)} calls"
    limit = MAX_SHOWN // len(calls)
    task = f"task {_code(ti.task_id)} of Dag {_code(ti.dag_id)}"
    parts = [
        f"The model of {ref.noun} {_code(ref.id)}{where} asks {task} for {count}.",
        *([] if deadline is None else [f"Decide until **{utc(deadline)}**: {afterwards}."]),
        *([_words(words)] if words and words.strip() else []),
        *(_section(place, shown, limit=limit) for place, shown in enumerate(calls, 1)),
        _WAYS,
        _mark(page),
    ]
    return "\n\n".join(parts)


def is_page(text: object, page: str) -> bool:
    """Whether this is the text of a page."""
    # The second one is how an earlier version has marked it.
    return isinstance(text, str) and text.endswith((_mark(page), f"Page `{page}`"))


def one_line(text: str) -> str:
    """Return a name as message text, cut to ``MAX_NAME``."""
    return message_text(text, limit=MAX_NAME) or "(no name)"


def _section(place: int, shown: ShownCall, *, limit: int) -> str:
    text, notes, name = shown.text, list(shown.notes), shown.call.name
    if len(text) > limit:
        rest = "the rest cannot be seen here" if shown.editable is None else "the form below holds all"
        notes.append(f"Only the first {limit:,} of {len(text):,} characters are shown; {rest}.")
        text = text[:limit]
    block = _block(text, "text" if shown.masked is None else "json")
    length = f" ({len(name):,} characters)" if len(name) > MAX_NAME else ""
    server = f" of the MCP server {_code(shown.call.server)}" if shown.call.server else ""
    return "\n\n".join([f"### {place}. {_code(name)}{length}{server}", block, *notes])


def _words(text: str) -> str:
    shown = shown_text(masked_line(text.strip()))
    if len(shown) > MAX_WORDS:
        shown = f"… {shown[-MAX_WORDS:]}"
    return f"It wrote before it asked:\n\n{_block(shown, 'text')}"


def _block(text: str, language: str) -> str:
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _arguments_of(shown: ShownCall) -> dict[str, Any]:
    """Return plain arguments, secrets masked; not one whose name looks like another's."""
    found = [(one_line(masked_line(name)), value) for name, value in (shown.masked or {}).items()]
    names = Counter(name for name, _ in found)
    return {
        name: message_text(value, limit=MAX_VALUE)
        for name, value in found
        if names[name] == 1 and isinstance(value, (str, int, float))
    }


def _filled(template: str, values: Mapping[str, Any]) -> str:
    # No format string: that would reach into what the values are.
    return _PLACE.sub(lambda place: str(values.get(place[1], place[0])), template)


def _code(text: str) -> str:
    name = one_line(text)
    ticks = "`" * (_longest_run(name) + 1)
    pad = " " if "`" in (name[0], name[-1]) else ""
    return f"{ticks}{pad}{name}{pad}{ticks}"


def _longest_run(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)


def _mark(page: str) -> str:
    """Return a link's definition, of which no page shows anything."""
    return f"[page]: #{page}"
