# SPDX-License-Identifier: Apache-2.0
"""A text of a reply that is too large to be held in memory."""

from __future__ import annotations

from typing import Self


class KeptText(str):
    """
    Base64, or a data URL with it, that stays in the file of its reply; as a text it is its first characters.

    :param start: where it begins in the file, in bytes.
    :param length: its bytes there, which are its characters.
    """

    __slots__ = ("length", "start")

    start: int
    length: int

    @classmethod
    def of(cls, head: str, *, start: int, length: int) -> Self:
        """Return the text that begins with ``head``."""
        found = cls(head)
        found.start, found.length = start, length
        return found
