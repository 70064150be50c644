# SPDX-License-Identifier: Apache-2.0
"""
Bounds on what a server may send: so many bytes, within so many seconds, also when it is compressed.

The SDK's HTTP client reads whatever comes, as long as something comes, and unpacks it all: a broken or
hostile server could fill a worker's memory, or hold a look of the triggerer for ever.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import openai

#: A reply larger than this is not a run.
MAX_BODY = 16 * 1024 * 1024
#: What is read of an error; the rest is left unread, so that its status still counts.
MAX_ERROR = 64 * 1024
_ERROR = 400
#: What is unpacked here; nothing else is asked for.
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})
_ANY_HEADER = 32 + zlib.MAX_WBITS


class BoundedClient(openai.DefaultHttpxClient):
    """The SDK's own synchronous HTTP client, with bounds; it, too, closes when nobody needs it any more."""

    def __init__(self) -> None:
        super().__init__(event_hooks={"request": [_ask], "response": [_bound]})

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def bound_async(client: httpx2.AsyncClient) -> None:
    """Put the same bounds on an asynchronous client."""

    async def ask(request: httpx2.Request) -> None:
        _ask(request)

    async def bound(response: httpx2.Response) -> None:
        _bound(response)

    client.event_hooks = {"request": [ask], "response": [bound]}


def _ask(request: httpx2.Request) -> None:
    request.headers["accept-encoding"] = "gzip, deflate"


def _bound(response: httpx2.Response) -> None:
    measure = _Measure(response)
    stream = response.stream
    if isinstance(stream, httpx2.AsyncByteStream):
        response.stream = _AsyncBounded(stream, measure)
    else:
        response.stream = _Bounded(stream, measure)


class _Measure:
    """Takes what arrives, and gives what it says, within bounds."""

    def __init__(self, response: httpx2.Response) -> None:
        self._is_error = response.status_code >= _ERROR
        self._left = MAX_ERROR if self._is_error else MAX_BODY
        self._seconds = response.request.extensions.get("timeout", {}).get("read")
        self._began = time.monotonic()
        self._packed: Any = None
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if coding in _PACKED:
            # Unpacked here: the client must not try again.
            del response.headers["content-encoding"]
            self._packed = zlib.decompressobj(_ANY_HEADER)
        elif coding not in {"identity", ""}:
            raise httpx2.DecodingError(f"it is packed as {coding[:50]!r}, which was not asked for")

    def take(self, received: bytes) -> Iterator[bytes]:
        """
        Give what arrived, unpacked.

        :raises httpx2.TransportError: when it takes too long.
        :raises httpx2.DecodingError: when it is too much, or cannot be unpacked.
        """
        if self._seconds is not None and time.monotonic() - self._began > self._seconds:
            raise httpx2.ReadTimeout(f"its answer has not ended after {self._seconds:.0f} s")
        if self._packed is None:
            yield self._within(received)
            return
        while received and not self.is_full:
            try:
                # Never more at once than there is room for, however small it was packed.
                found = self._packed.decompress(received, self._left + 1)
            except zlib.error as error:
                raise httpx2.DecodingError(f"it cannot be unpacked: {error}") from error
            if self._packed.unused_data:
                # It would gather there, uncounted.
                raise httpx2.DecodingError("more came after its packed end")
            received = self._packed.unconsumed_tail
            yield self._within(found)

    @property
    def is_full(self) -> bool:
        """Whether enough of an error has been read."""
        return self._is_error and self._left <= 0

    def _within(self, found: bytes) -> bytes:
        self._left -= len(found)
        if self._left >= 0:
            return found
        if self._is_error:
            return found[: self._left]
        raise httpx2.DecodingError(f"its body has more than {MAX_BODY} bytes")


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, measure: _Measure) -> None:
        self._stream = stream
        self._measure = measure

    def __iter__(self) -> Iterator[bytes]:
        for received in self._stream:
            yield from self._measure.take(received)
            if self._measure.is_full:
                return

    def close(self) -> None:
        self._stream.close()


class _AsyncBounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, measure: _Measure) -> None:
        self._stream = stream
        self._measure = measure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for received in self._stream:
            for found in self._measure.take(received):
                yield found
            if self._measure.is_full:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
