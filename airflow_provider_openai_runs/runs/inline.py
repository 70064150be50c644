# SPDX-License-Identifier: Apache-2.0
"""Content that stands in a reply as base64: how large it is and of which type, without unpacking it."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from airflow_provider_openai_runs.runs.kept_text import KeptText

_DATA_URL = re.compile(r"(?i)data:([\w.+\-]{1,60}/[\w.+\-]{1,60})?(?:;[\w.+\-]+=[^;,\s]{0,100}){0,5};base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\r\n]+={0,2}\s*")
#: Stands at the end of base64 whose rest was too long to be read: of how many characters that is.
MORE = "...[{} more characters]"
_MORE = re.compile(r"\.\.\.\[(\d{1,15}) more characters\]$")
#: Characters that show whether a text is base64.
_HEAD = 1000
#: So many of them, a multiple of four, show the type.
_TYPE_HEAD = 32
#: How files of a type begin; some say it only after the length of what follows.
_BEGINNINGS = (
    (re.compile(rb"\x89PNG\r\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"RIFF....WAVE", re.DOTALL), "audio/wav"),
    (re.compile(rb"%PDF-"), "application/pdf"),
    (re.compile(rb"PK\x03\x04"), "application/zip"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineContent:
    """
    Content within a reply.

    :param media_type: as its first bytes show it, else as it was declared.
    :param size: in bytes.
    :param start: where the base64 begins in the text.
    :param is_whole: whether all of it is in the text.
    """

    media_type: str | None
    size: int
    start: int
    is_whole: bool = True


def inline_content(text: str) -> InlineContent | None:
    """Return what a text holds that is base64, alone or in a ``data:`` URL; None if it is another text."""
    more = _MORE.search(text[-60:])
    end = len(text) - len(more[0]) if more else len(text)
    found = _DATA_URL.match(text)
    start = found.end() if found else 0
    if not _BASE64.fullmatch(text[start : min(end, start + _HEAD)].rstrip("=")):
        return None
    if isinstance(text, KeptText):
        end, tail = text.length, text.tail.rstrip()
    else:
        tail = "" if more else text[-4:].rstrip()
    padding = len(tail) - len(tail.rstrip("="))
    declared = found[1].lower() if found and found[1] else None
    return InlineContent(
        media_type=_type_shown(text[start : min(end, start + _TYPE_HEAD)]) or declared,
        size=max(0, (end - start + (int(more[1]) if more else 0)) * 3 // 4 - padding),
        start=start,
        is_whole=more is None,
    )


def _type_shown(head: str) -> str | None:
    try:
        beginning = base64.b64decode(
            head + "=" * (-len(head) % 4), altchars=b"-_" if "+" not in head else None
        )
    except (binascii.Error, ValueError):
        return None
    return next((media_type for shape, media_type in _BEGINNINGS if shape.match(beginning)), None)
