# SPDX-License-Identifier: Apache-2.0
"""What an answer cites, and where in its text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """
    A place of ``output_text`` and the source that it names, or the file that it links to.

    :param type: ``url_citation``, ``file_citation``, ``container_file_citation`` or ``file_path``.
    :param text: what stands at the place; None where that is nothing, or long.
    :param start: the first character of it, counted from 0 as Python does; None where the server says no
        place, or one that is not in the text.
    :param end: after its last character; the same as ``start`` where a source belongs between two characters.
    """

    type: str
    text: str | None = None
    start: int | None = None
    end: int | None = None
    url: str | None = None
    file_id: str | None = None
    title: str | None = None
    filename: str | None = None
    container_id: str | None = None
