# SPDX-License-Identifier: Apache-2.0
"""
What a body is: a JSON object, or something else that is called by its name.

Gateways answer 200 with an error in it, with the events of a stream, or with the page of a login.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.transport import limits
from airflow_provider_openai_runs.transport.heads import head_of
from airflow_provider_openai_runs.wire import reading

_STREAM = re.compile(r"\s*(?::[^\n]*\n\s*)*(?:event|data|id|retry):")
_PAGE = re.compile(r"(?i)\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", re.DOTALL)
_TITLE = re.compile(r"(?is)<title[^>]*>(.*?)</title>")
_RUNS = frozenset({"response", "thread.run"})
#: Characters of a body that is no JSON.
_SHOWN = 200
#: Numbers longer than this are kept as text; Python itself refuses to read some thousands of digits.
_MAX_DIGITS = 1000


def json_object(content: bytes, *, head_is_enough: bool = False) -> dict[str, Any]:
    """
    Read a body.

    :param head_is_enough: whether it may have been cut at its limit.
    :raises ValueError: if it is no JSON object, saying what it is.
    """
    if head_is_enough and len(content) >= limits.MAX_BODY:
        if "status" in (head := head_of(content)):
            return head
        raise ValueError(f"its body has more than {limits.MAX_BODY} bytes")
    try:
        data = loads(content)
    except ValueError as error:
        text = content.decode(errors="replace")
        if _STREAM.match(text):
            return _run_of_stream(text)
        raise ValueError(page_of(text) or _no_json(text, error)) from None
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and "error" in data[0]:
        data = data[0]  # as Google writes errors
    if not isinstance(data, dict):
        raise ValueError(f"its body is not a JSON object but a {type(data).__name__}")  # noqa: TRY004 # no bug
    return data


def page_of(text: str) -> str | None:
    """Return what to say of a web page; None if the text is none."""
    if not _PAGE.match(text):
        return None
    title = _TITLE.search(text)
    named = f" ({' '.join(html.unescape(title.group(1)).split())!r})" if title else ""
    return f"a web page{named}, not the API; is the connection's Host the API's base URL?"


def error_in(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the error if an answer holds nothing else: no run of any kind, by its id or its name."""
    if reading.identifier(data.get("id")) or data.get("object") in _RUNS:
        return None
    error = data.get("error")
    if isinstance(error, str) and error:
        return {**data, "message": error}
    if isinstance(error, Mapping) and error:
        return dict(error)
    return dict(data) if "error" in (data.get("object"), data.get("type")) else None


def loads(content: bytes) -> Any:
    """
    Read JSON, also with what it must not have within a text: a byte that is no UTF-8, a control character.

    Such an answer is paid for all the same; the byte becomes U+FFFD.

    :raises ValueError: if it is none.
    """
    try:
        return json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        with suppress(ValueError):
            return json.loads(content.decode("utf-8-sig", errors="replace"), strict=False, parse_int=_whole)
        raise error from None
    except ValueError:  # an integer of thousands of digits
        return json.loads(content, parse_int=_whole)


def _whole(text: str) -> int | str:
    return int(text) if len(text) <= _MAX_DIGITS else text


def _no_json(text: str, error: ValueError) -> str:
    begins = f", and begins {message_text(text, limit=_SHOWN)!r}"
    return f"its body is no JSON: {error}{begins}" if text.strip() else "its body is empty"


def _run_of_stream(text: str) -> dict[str, Any]:
    """Return the run as the last of a stream's events tells it, or the stream's error."""
    found: dict[str, Any] | None = None
    for event in _events(text):
        inner = event.get("response")
        if isinstance(inner, Mapping) and reading.identifier(inner.get("id")):
            found = dict(inner)
        elif event.get("object") in _RUNS or (found is None and error_in(event) is not None):
            found = event
    if found is None:
        raise ValueError(
            "the server streams: its body is an event stream, and none of its events names a run"
        )
    return found


def _events(text: str) -> Iterator[dict[str, Any]]:
    for block in re.split(r"\r?\n\r?\n|\r\r", text):
        lines = [line[5:].removeprefix(" ") for line in block.splitlines() if line.startswith("data:")]
        try:
            event = json.loads("\n".join(lines))
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event
