# SPDX-License-Identifier: Apache-2.0
"""The bytes of files, those that a scenario makes large without holding them in memory."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILLER = b"simulated\n" * 6_553
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})
_MEDIA_TYPES = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".txt": "text/plain; charset=utf-8",
    **dict.fromkeys(_IMAGES, "image/png"),
}


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file: `head`, then filler up to `size`."""

    head: bytes
    size: int

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Take these bytes as they are."""
        return cls(data, len(data))

    @classmethod
    def made_up(cls, name: str, *, size: int | None = None, text: str | None = None) -> Content:
        """Make up the content of a file: `text`, else a picture or a line as its name says.

        :param size: bytes; more than the content is filled up, less cuts it.
        """
        head = (_picture() if is_image(name) else b"a,b\n1,2\n") if text is None else text.encode()
        return cls(head[:size], len(head) if size is None else size)

    def chunks(self) -> Iterator[bytes]:
        """Give the bytes piece by piece."""
        for start in range(0, len(self.head), len(_FILLER)):
            yield self.head[start : start + len(_FILLER)]
        left = self.size - len(self.head)
        while left > 0:
            yield _FILLER[:left]
            left -= len(_FILLER)

    def read(self) -> bytes:
        """Give all bytes at once."""
        return b"".join(self.chunks())


def is_image(name: str) -> bool:
    """Tell whether a file's name is that of a picture."""
    return PurePosixPath(name).suffix.lower() in _IMAGES


def media_type(name: str) -> str:
    """Give the media type that a file's name stands for."""
    return _MEDIA_TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


@lru_cache(maxsize=4)
def picture_base64(size: int | None) -> str:
    """Give a PNG picture of `size` bytes in base64; made once, because it may be large and is read often."""
    return base64.b64encode(Content.made_up("picture.png", size=size).read()).decode()


@lru_cache(maxsize=1)
def _picture() -> bytes:
    """Draw one grey pixel; decoders ignore what follows it."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\x00\x80")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
