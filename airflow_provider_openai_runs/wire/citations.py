# SPDX-License-Identifier: Apache-2.0
"""
What an answer cites, with its place in the whole text, which may be put together of several.

The API counts characters within one part of a message, and an end is the place after the last one (that of
a footnote of 12 characters and 18 bytes lies 12 after its start). It writes 0 and 0 where it knows no place.
Servers in languages that count an emoji as two are seen by what stands at the place: the source, if they are
right.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_provider_openai_runs.runs.citations import Citation
from airflow_provider_openai_runs.runs.files import file_name
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.wire import reading

#: A longer text at a place is not repeated: the place says where it stands.
_MAX_TEXT = 2000
#: How far from its place a text is searched that does not stand there.
_NEAR = 1000
#: Characters that UTF-16 needs two units for.
_WIDE = "\U00010000"

Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """
    A part of the answer that the API counts characters in.

    :param start: where it begins in the whole text.
    """

    text: str
    annotations: tuple[dict[str, Any], ...]
    start: int

    @cached_property
    def _wide(self) -> list[int]:
        """Where its wide characters begin, in units of UTF-16."""
        if self.text.isascii():
            return []
        places = (place for place, char in enumerate(self.text) if char >= _WIDE)
        return [place + number for number, place in enumerate(places)]

    def readings(self, span: Span) -> Iterator[Span]:
        """Return what a server may mean by a place, the likelier first; nothing that is not in the text."""
        spans = [span]
        if self._wide:
            spans.append((self._from_utf16(span[0]), self._from_utf16(span[1])))
        for start, end in spans:
            if 0 <= start <= end <= len(self.text) and end > 0:
                yield start, end

    def _from_utf16(self, unit: int) -> int:
        return unit - bisect_left(self._wide, unit)


def citations_of(pieces: Iterable[Piece]) -> Iterator[Citation]:
    """Read every annotation of an answer."""
    for piece in pieces:
        for annotation in piece.annotations:
            if annotation["type"]:
                yield _citation(piece, annotation)


def _citation(piece: Piece, annotation: Mapping[str, Any]) -> Citation:
    said = reading.text(annotation.get("text"))
    title = reading.text(annotation.get("title"))
    filename, url = file_name(annotation.get("filename")), reading.text(annotation.get("url"))
    marks = [mark for mark in (url, filename) if mark]
    span = _place(piece, annotation, said=said, marks=marks)
    text = said if span is None else piece.text[slice(*span)] if span[1] - span[0] <= _MAX_TEXT else None
    return Citation(
        type=message_text(annotation["type"], limit=64),
        text=text if text and len(text) <= _MAX_TEXT else None,
        start=None if span is None else piece.start + span[0],
        end=None if span is None else piece.start + span[1],
        url=url,
        file_id=reading.optional_id(annotation.get("file_id")),
        title=None if title is None else message_text(title),
        filename=filename,
        container_id=reading.optional_id(annotation.get("container_id")),
    )


def _place(piece: Piece, annotation: Mapping[str, Any], *, said: str | None, marks: list[str]) -> Span | None:
    start, end = (reading.as_int(annotation.get(name)) for name in ("start_index", "end_index"))
    if annotation["type"] == "file_citation" and start is None and end is None:
        # Of a response: where to insert it. The ``index`` of a path counts files.
        start = end = reading.as_int(annotation.get("index"))
    if start is None or end is None:
        return None
    readings = list(piece.readings((start, end)))
    if said is not None:
        return next((span for span in readings if piece.text[slice(*span)] == said), None) or _near(
            piece.text, said, start
        )
    if len(readings) > 1:
        named = (span for span in readings if any(mark in piece.text[slice(*span)] for mark in marks))
        return next(named, readings[0])
    return readings[0] if readings else None


def _near(text: str, said: str, start: int) -> Span | None:
    """Search what stands at a place, for a server that counts in another way."""
    found = text.find(said, max(0, start - _NEAR), max(0, start) + _NEAR + len(said))
    return None if found < 0 else (found, found + len(said))
