# SPDX-License-Identifier: Apache-2.0
"""The JSON documents in a text that holds more than them: a sentence before, a remark after."""

from __future__ import annotations

import json
import re

#: How a document begins, as against a bracket of a sentence.
_BEGUN = re.compile(r'\{\s{0,100}["}]|\[\s{0,100}[\[{"\d\]-]')
#: What counts brackets: those within a string are none. A quote that nobody closes ends with its line.
_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"?|[\[\]{}]')
#: How a sentence goes on behind an example.
_GOES_ON = re.compile(r"[ \t]*[,;:a-z]")
#: Within a line this is a footnote or an example; an answer like it has its line to itself.
_NO_ANSWER = re.compile(r"\{\s*\}|\[[\d\s,]*\]")
#: Characters beside it that are read for that.
_MARGIN = 100
#: Longer texts are not searched, nor those with so many documents that are broken.
_LONGEST = 2_000_000
_MOST_BROKEN = 100


def last_documents(text: str) -> list[str]:
    """
    Return the last object or list of a text, and the one right before it, if nothing stands between them.

    Nothing where one that is cut, or broken, comes last: what stands before it may be a draft.
    """
    decoder, place, broken, found, end = json.JSONDecoder(), 0, 0, list[str](), 0
    while len(text) <= _LONGEST and (begun := _BEGUN.search(text, place)):
        start = begun.start()
        try:
            _, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            broken += 1
            if broken > _MOST_BROKEN:
                return []
            found, place = [], _behind(text, start)
            continue
        is_next = bool(found) and not text[end:start].strip()
        if _may_be_an_answer(text, start, place):
            found, end = [text[start:place], *(found[:1] if is_next else [])], place
        elif is_next:
            found = []
    return found


def _may_be_an_answer(text: str, start: int, end: int) -> bool:
    if not _NO_ANSWER.fullmatch(text, start, end):
        return _GOES_ON.match(text, end) is None
    before, after = text[max(0, start - _MARGIN) : start], text[end : end + _MARGIN]
    return not before.rpartition("\n")[2].strip() and not after.partition("\n")[0].strip()


def _behind(text: str, start: int) -> int:
    """Return where a broken document ends: what stands within it is a part, and no answer."""
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(text, start):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth == 0:
            return token.end()
    return len(text)
