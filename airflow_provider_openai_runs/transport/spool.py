# SPDX-License-Identifier: Apache-2.0
"""
Bodies of any size, kept in a temporary file while they are read.

A reply may have a hundred megabytes, nearly all of them pictures in base64. Such a text stays in the file: in
its place the JSON that is read has a ``KeptText``, which says where it lies.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_provider_openai_runs.runs.kept_text import KeptText
from airflow_provider_openai_runs.transport.bodies import json_object

_CHUNK = 1024 * 1024
#: Base64 of so many bytes and more stays in the file.
_SHORT = 64 * 1024
#: How much of it is shown all the same: enough to tell what it is.
_HEAD = 500
_END_OF_TEXT = re.compile(rb'["\\]')
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_="
_DATA_URL = re.compile(rb"data:[\w.+/;=\-]{0,200},")


class FileSpool:
    """
    A body as it came, in a temporary file of this process; it is gone when the block ends.

    :param limit: bytes.
    """

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._file = tempfile.NamedTemporaryFile(prefix="openai-run-")  # noqa: SIM115 # closed by __exit__

    @property
    def path(self) -> Path:
        """The file, all of it written."""
        self._file.flush()
        return Path(self._file.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def restart(self) -> None:
        """Forget what has arrived: the request is sent again."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def take(self, piece: bytes) -> None:
        """Keep what has arrived."""
        self._file.write(piece)
        self.size += len(piece)

    def read(self) -> dict[str, Any]:
        """Return nothing: a file is not read."""
        return {}


class ReplySpool(FileSpool):
    """
    The whole reply of a run.

    :param limit: bytes.
    :param read_limit: bytes of it that may be held in memory, which is all but large base64.
    """

    def __init__(self, *, limit: int, read_limit: int) -> None:
        super().__init__(limit=limit)
        self.read_limit = read_limit

    def read(self) -> dict[str, Any]:
        """
        Return the JSON object, with a ``KeptText`` in place of each large base64 text.

        :raises ValueError: if it is none, saying what it is, or if there is too much to hold in memory.
        """
        self._file.flush()
        mark = f"\0{secrets.token_hex(8)}:"
        kept: dict[str, KeptText] = {}
        small = bytearray()
        for piece in self._without_base64(mark, kept):
            small += piece
            if len(small) > self.read_limit:
                raise ValueError(
                    f"its body has more than {self.read_limit} bytes, not counting pictures in base64"
                )
        return dict(_restored(json_object(bytes(small)), kept))

    def decoded(self, text: str) -> Iterator[bytes]:
        """
        Give the bytes that a base64 text or a data URL stands for, piece by piece.

        :param text: of what ``read`` returned; a ``KeptText`` is read from the file.
        :raises ValueError: if it is no base64.
        """
        if not isinstance(text, KeptText):
            yield from _decoded(iter([text.encode("ascii", "replace")]))
            return
        yield from _decoded(self._range(text.start, text.length))

    def _range(self, start: int, length: int) -> Iterator[bytes]:
        while length > 0:
            self._file.seek(start)
            piece = self._file.read(min(_CHUNK, length))
            if not piece:
                raise ValueError("the file is shorter than it was")
            start, length = start + len(piece), length - len(piece)
            yield piece

    def _without_base64(self, mark: str, kept: dict[str, KeptText]) -> Iterator[bytes]:
        scan = _Scan()
        position = 0
        while True:
            self._file.seek(position)
            chunk = self._file.read(_CHUNK)
            if not chunk:
                yield scan.rest()
                return
            for piece in scan.take(chunk, position):
                if isinstance(piece, bytes):
                    yield piece
                    continue
                name = f"{mark}{len(kept)}"
                kept[name] = piece
                yield name.replace("\0", "\\u0000").encode()
            position = scan.position


class _Scan:
    """Takes JSON chunk by chunk, and gives it back with a ``KeptText`` in place of each large base64 text."""

    def __init__(self) -> None:
        #: Where the next chunk begins: after this one, or at a text that was none in base64 after all.
        self.position = 0
        self._in_text = False
        self._escaped = False
        self._start = 0
        self._held = bytearray()
        #: The last characters of the text.
        self._tail = b""
        self._is_base64 = False
        self._is_other = False

    def take(self, chunk: bytes, position: int) -> Iterator[bytes | KeptText]:
        self.position = position + len(chunk)
        at = 0
        while at < len(chunk):
            if not self._in_text:
                quote = chunk.find(b'"', at)
                if quote < 0:
                    yield chunk[at:]
                    return
                yield chunk[at : quote + 1]
                at = quote + 1
                self._begin(position + at)
            elif self._escaped:
                self._held += chunk[at : at + 1]
                self._escaped, at = False, at + 1
            else:
                found = _END_OF_TEXT.search(chunk, at)
                end = found.start() if found else len(chunk)
                if self._is_base64 and (_others(chunk[at:end]) or (found and found.group() == b"\\")):
                    self._begin(self._start)
                    self._is_other = True
                    self.position = self._start
                    return
                self._hold(chunk[at:end])
                self._tail = (self._tail + chunk[max(at, end - 4) : end])[-4:]
                at = end
                if found and found.group() == b"\\":
                    self._held += b"\\"
                    self._escaped, at = True, end + 1
                elif found:
                    if self._is_base64:
                        yield KeptText.of(
                            bytes(self._held[:_HEAD]).decode("ascii"),
                            start=self._start,
                            length=position + end - self._start,
                            tail=self._tail.decode("ascii"),
                        )
                    else:
                        yield bytes(self._held)
                    yield b'"'
                    self._in_text, at = False, end + 1

    def rest(self) -> bytes:
        """Return what is left of a body that ends within a text."""
        return bytes(self._held) if self._in_text else b""

    def _begin(self, start: int) -> None:
        self._in_text, self._escaped, self._start = True, False, start
        self._is_base64 = self._is_other = False
        self._tail = b""
        self._held.clear()

    def _hold(self, piece: bytes) -> None:
        if self._is_base64:
            return
        self._held += piece
        if len(self._held) > _SHORT and not self._is_other:
            head = _DATA_URL.match(self._held)
            self._is_base64 = not _others(self._held[head.end() if head else 0 :])
            self._is_other = not self._is_base64


def _others(piece: bytes | bytearray) -> bool:
    """Whether there is anything that base64 is not written with."""
    return bool(piece.translate(None, _BASE64))


def _restored(value: Any, kept: Mapping[str, KeptText]) -> Any:
    if isinstance(value, str):
        return kept.get(value, value) if value.startswith("\0") else value
    if isinstance(value, dict):
        return {name: _restored(item, kept) for name, item in value.items()}
    return [_restored(item, kept) for item in value] if isinstance(value, list) else value


def _decoded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    left, is_first = b"", True
    for piece in pieces:
        if is_first:
            head = _DATA_URL.match(piece)
            piece, is_first = piece[head.end() if head else 0 :], False  # noqa: PLW2901 # the same, shorter
        left += piece.replace(b"-", b"+").replace(b"_", b"/")
        whole = len(left) - len(left) % 4
        yield _bytes_of(left[:whole])
        left = left[whole:]
    yield _bytes_of(left + b"=" * (-len(left) % 4))


def _bytes_of(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is no base64: {error}") from None
