# SPDX-License-Identifier: Apache-2.0
"""The JSON documents in a text that holds more than them: a sentence before, a remark after."""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass
from itertools import islice

_OPENING = re.compile(r"[\[{]")
#: What counts brackets: those within a string are none.
_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|[\[\]{}]')
#: How a document begins, as against a bracket of a sentence.
_BEGUN = re.compile(r'\{\s*"|\[\s*[\[{"\d]')
#: Within a line this is a footnote or an example; an answer like it has its line to itself.
_NO_ANSWER = re.compile(r"\{\s*\}|\[[\d\s,]*\]")
#: Characters beside it that are read for that.
_MARGIN = 100
#: Longer texts are not searched.
_LONGEST = 2_000_000
#: So many brackets may turn out to begin nothing, and so many brackets are counted behind each of them.
_MOST_FAILURES = 100
_MOST_BRACKETS = 10_000
#: Of more documents these last ones are tried.
_MOST = 20


@dataclass(frozen=True, slots=True)
class Document:
    """
    A JSON document in a text.

    :param is_next: whether another one stands right before it, with nothing but white space between.
    """

    text: str
    is_next: bool


def documents_in(text: str) -> list[Document]:
    """Return the last objects and lists of a text, the last one first; what is within another one is none."""
    found: deque[Document] = deque(maxlen=_MOST)
    decoder = json.JSONDecoder()
    place, end, failures = 0, None, 0
    while len(text) <= _LONGEST and failures < _MOST_FAILURES and (opening := _OPENING.search(text, place)):
        start = opening.start()
        try:
            _, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            failures += 1
            place = _behind(text, start)
            continue
        if _may_be_an_answer(text, start, place):
            found.append(Document(text[start:place], end is not None and not text[end:start].strip()))
            end = place
    return [*reversed(found)]


def _may_be_an_answer(text: str, start: int, end: int) -> bool:
    if not _NO_ANSWER.fullmatch(text, start, end):
        return True
    before, after = text[max(0, start - _MARGIN) : start], text[end : end + _MARGIN]
    return not before.rpartition("\n")[2].strip() and not after.partition("\n")[0].strip()


def _behind(text: str, start: int) -> int:
    """Return where to go on behind brackets that enclose no document, but may enclose what seems one."""
    depth = 0
    for token in islice(_BRACKET_OR_STRING.finditer(text, start), _MOST_BRACKETS):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth == 0:
            return token.end()
    return len(text) if _BEGUN.match(text, start) else start + 1
