# SPDX-License-Identifier: Apache-2.0
"""Leaves the rest of long base64 out of JSON that arrives in pieces, so that memory can hold the others."""

from __future__ import annotations

import re

from airflow_provider_openai_runs.runs.inline import MORE

#: Bytes of a string of which nothing is left out: no more than that would go to XCom.
KEPT_OF_BASE64 = 1_000_000
#: How base64 may begin in a string: with what a data URL says of it.
_HEAD = 300
#: As MIME and PEM break base64: after 76 or 64 characters.
_SHORTEST_LINE = 60
_PLAIN = re.compile(rb'[^"\\]*')
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\-=]*")


class LongStrings:
    """Follows where strings begin and end; nothing is left out before ``leave_out``."""

    def __init__(self) -> None:
        self._leaves_out = False
        self._is_in_string = False
        #: The backslash before the next character, if it has not been given yet.
        self._escape: bytes | None = None
        #: Bytes of the present string, and how many of them were left out since that was last said.
        self._length = 0
        self._left_out = 0
        #: Whether something in the present string is no base64: then nothing is left out of it.
        self._is_text = False
        #: Bytes since its last line break.
        self._line = 0

    def leave_out(self) -> None:
        """Begin to leave out; what was taken before has been kept by others."""
        self._leaves_out = True
        self._escape = None if self._escape is None else b""

    def take(self, received: bytes) -> bytes:
        """Return what is kept of a piece; ``MORE`` stands where something is left out of a string."""
        kept = bytearray()
        at = 0
        while at < len(received):
            if not self._is_in_string:
                quote = received.find(b'"', at)
                end = len(received) if quote < 0 else quote + 1
                kept += received[at:end]
                self._is_in_string, self._length, self._is_text, self._line = quote >= 0, 0, False, 0
            elif self._escape is not None:
                end = at + 1
                self._take_escaped(received[at:end], kept)
            else:
                end = self._take_plain(received, at, kept)
            at = end
        return bytes(kept)

    @property
    def _is_long(self) -> bool:
        return self._leaves_out and self._length > KEPT_OF_BASE64

    def _take_plain(self, received: bytes, at: int, kept: bytearray) -> int:
        found = _PLAIN.match(received, at)
        end = found.end() if found else at
        begins = min(end, at + max(0, _HEAD - self._length))
        self._is_text = self._is_text or _BASE64.fullmatch(received, begins, end) is None
        # The beginning of a string stays whatever it is.
        room = max(0, KEPT_OF_BASE64 - self._length) if self._leaves_out else end - at
        rest = min(end, at + room)
        self._keep(received[at:rest], kept)
        self._length += end - at
        self._line += end - at
        if rest < end and not self._is_text:
            self._left_out += end - rest
        else:
            self._keep(received[rest:end], kept)
        ends_with = received[end : end + 1]
        if ends_with == b'"':
            self._is_in_string = False
            self._keep(ends_with, kept)
        elif ends_with:
            self._escape = ends_with
        return end + 1

    def _take_escaped(self, char: bytes, kept: bytearray) -> None:
        self._length += 1
        # As some servers write a slash in base64, and the ends of its lines; a text has shorter lines, too.
        is_line = char in b"nr" and (self._line >= _SHORTEST_LINE or not self._line)
        self._is_text = self._is_text or not (char == b"/" or is_line)
        self._line = self._line if char == b"/" else 0
        if self._is_long and not self._is_text:
            self._left_out += 1
        else:
            self._keep((self._escape or b"") + char, kept)
        self._escape = None

    def _keep(self, part: bytes, kept: bytearray) -> None:
        if self._left_out and part:
            kept += MORE.format(self._left_out).encode()
            self._left_out = 0
        kept += part
