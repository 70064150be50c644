# SPDX-License-Identifier: Apache-2.0
"""The codings in which a body may be packed, taken off piece by piece: never more than there is room for."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

#: What is asked for, and all that is unpacked.
ACCEPT_ENCODING = "gzip, deflate"
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})
#: More than one is unusual, and each of them costs.
_MAX_CODINGS = 3
_HEADER_BYTES = 2
_GZIP_MAGIC = b"\x1f\x8b"
_ANY_HEADER = 32 + zlib.MAX_WBITS
#: Bytes that may come after the packed end.
_MAX_LEFT_OVER = 64 * 1024


class Unpacker:
    """Takes one coding off: gzip of one or several members, deflate with or without the header of zlib."""

    def __init__(self) -> None:
        self._window = _ANY_HEADER
        self._zlib: Any = zlib.decompressobj(self._window)
        #: The first bytes, until they show the form.
        self._head: bytes | None = b""
        self._left_over = 0

    def take(self, received: bytes, room: Callable[[], int]) -> Iterator[bytes]:
        """
        Give what arrived, unpacked, never more at once than there is room for, however small it was packed.

        :raises httpx2.DecodingError: when it cannot be unpacked.
        """
        while received:
            if self._zlib.eof:
                if self._left_over or not received.startswith(_GZIP_MAGIC[: len(received)]):
                    # No part of it, as the SDK's own client reads it; but it may not go on for ever.
                    self._left_over += len(received)
                    if self._left_over > _MAX_LEFT_OVER:
                        raise httpx2.DecodingError("more came after its packed end")
                    return
                self._zlib = zlib.decompressobj(self._window)
            try:
                found = self._zlib.decompress(received, max(1, room()))
            except zlib.error as error:
                if self._head is None:
                    raise httpx2.DecodingError(f"it cannot be unpacked: {error}") from error
                # Some servers call deflate what is deflated only, without the header of zlib.
                self._window, received, self._head = -zlib.MAX_WBITS, self._head + received, None
                self._zlib = zlib.decompressobj(self._window)
                continue
            if self._head is not None:
                is_known = found or len(self._head) + len(received) >= _HEADER_BYTES
                self._head = None if is_known else self._head + received
            received = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
            yield found


def unpackers_of(coding: str | None) -> list[Unpacker]:
    """
    Return what takes the codings of a body off: the one that was applied last is taken off first.

    :param coding: the header ``Content-Encoding``.
    :raises httpx2.DecodingError: if it is packed in a way that was not asked for, or too often.
    """
    if not coding:
        return []
    names = [name.strip().lower() for name in coding.split(",")][::-1]
    if unknown := [name for name in names if name not in _PACKED and name not in {"identity", ""}]:
        raise httpx2.DecodingError(f"it is packed as {unknown[0][:50]!r}, which was not asked for")
    packed = [name for name in names if name in _PACKED]
    if len(packed) > _MAX_CODINGS:
        raise httpx2.DecodingError(f"it is packed {len(packed)} times")
    return [Unpacker() for _ in packed]
