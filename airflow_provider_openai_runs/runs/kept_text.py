# SPDX-License-Identifier: Apache-2.0
"""A text of a reply that is too large to be held in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self


class KeptText(str):
    """
    Base64, or a data URL with it, that stays in the file of its reply; as a text it is its first characters.

    :param start: where it begins in the file, in bytes.
    :param length: its bytes there, which are its characters.
    :param tail: its last four.
    """

    __slots__ = ("length", "start", "tail")

    start: int
    length: int
    tail: str

    @classmethod
    def of(cls, head: str, *, start: int, length: int, tail: str) -> Self:
        """Return the text that begins with ``head``."""
        found = cls(head)
        found.start, found.length, found.tail = start, length, tail
        return found


def without_kept_texts(value: Any) -> Any:
    """Return JSON with the size in place of each text that stays in a file."""
    if isinstance(value, KeptText):
        return f"{value.length} characters, in reply.json"
    if isinstance(value, Mapping):
        return {name: without_kept_texts(item) for name, item in value.items()}
    return [without_kept_texts(item) for item in value] if isinstance(value, list) else value
