# SPDX-License-Identifier: Apache-2.0
"""
The Markdown of the approval page.

Names and arguments are the model's own text, and the model may have read a stranger's: they stand in code
that they cannot close, and what cannot be seen (such as marks that turn the direction of text) is spelt out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.tool_calls.approval_shown import ShownCall

#: Characters of arguments that a page shows; its calls share them, for MySQL takes 64 KiB of text.
MAX_SHOWN = 8_000
MAX_NAME = 100
_WAYS = (
    "**Approve** makes what the form below says. **Reject** makes no call, and the model reads that, with "
    "your comment."
)
_BACKTICKS = re.compile("`+")


def subject(ref: RunRef, count: int) -> str:
    """Return the page's title, of one line."""
    calls = "1 call" if count == 1 else f"{count} calls"
    return f"Approve {calls} of {ref.noun} {one_line(ref.id)}?"


def body(*, ti: Any, ref: RunRef, calls: Sequence[ShownCall], page: str) -> str:
    """
    Return the page's text.

    :param page: an id, by which ``is_page`` knows this text again.
    """
    where = f" of thread {_code(ref.thread_id)}" if ref.thread_id else ""
    count = "a call" if len(calls) == 1 else f"{len(calls)} calls"
    limit = MAX_SHOWN // len(calls)
    task = f"task {_code(ti.task_id)} of Dag {_code(ti.dag_id)}"
    parts = [
        f"The model of {ref.noun} {_code(ref.id)}{where} asks {task} for {count}.",
        *(_section(place, shown, limit=limit) for place, shown in enumerate(calls, 1)),
        _WAYS,
        _mark(page),
    ]
    return "\n\n".join(parts)


def is_page(text: object, page: str) -> bool:
    """Whether this is the text of a page."""
    return isinstance(text, str) and text.endswith(_mark(page))


def one_line(text: str) -> str:
    """Return a name as message text, cut to ``MAX_NAME``."""
    return message_text(text, limit=MAX_NAME) or "(no name)"


def _section(place: int, shown: ShownCall, *, limit: int) -> str:
    text, notes, name = shown.text, list(shown.notes), shown.call.name
    if len(text) > limit:
        rest = "the rest cannot be seen here" if shown.editable is None else "the form below holds all"
        notes.append(f"Only the first {limit:,} of {len(text):,} characters are shown; {rest}.")
        text = text[:limit]
    fence = "`" * max(3, _longest_run(text) + 1)
    block = f"{fence}{'json' if shown.is_json else 'text'}\n{text}\n{fence}"
    length = f" ({len(name):,} characters)" if len(name) > MAX_NAME else ""
    server = f" of the MCP server {_code(shown.call.server)}" if shown.call.server else ""
    return "\n\n".join([f"### {place}. {_code(name)}{length}{server}", block, *notes])


def _code(text: str) -> str:
    name = one_line(text)
    ticks = "`" * (_longest_run(name) + 1)
    pad = " " if "`" in (name[0], name[-1]) else ""
    return f"{ticks}{pad}{name}{pad}{ticks}"


def _longest_run(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)


def _mark(page: str) -> str:
    return f"Page `{page}`"
