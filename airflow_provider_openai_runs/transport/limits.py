# SPDX-License-Identifier: Apache-2.0
"""
Limits on what a server may send: so many bytes, also when they are compressed, and so many seconds.

The SDK's HTTP client reads whatever comes, as long as something comes, and unpacks it all: a broken or
hostile server could fill a worker's memory, or keep a poll of the triggerer waiting for ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import httpx2
import openai

from airflow_provider_openai_runs.transport import time_limit
from airflow_provider_openai_runs.transport.codings import ACCEPT_ENCODING, Unpacker, unpackers_of
from airflow_provider_openai_runs.transport.heads import HEAD_BYTES, says_ended
from airflow_provider_openai_runs.transport.leaving import watch, watch_blocking
from airflow_provider_openai_runs.transport.long_strings import LongStrings

#: Bytes, unpacked; a reply larger than this is a run that has ended, or none.
MAX_BODY = 16 * 1024 * 1024
#: Bytes of a run that has ended; of what comes beyond ``MAX_BODY``, long base64 is read and not kept.
MAX_ENDED = 512 * 1024 * 1024
#: Bytes that are read of an error; the rest is left unread, so that its status still counts.
MAX_ERROR = 64 * 1024
_ERROR = 400
#: Bytes of an answer that is kept as it comes.
_limit: ContextVar[int | None] = ContextVar("limit", default=None)


#: Whether no more than the beginning of the answer to the present request is needed.
_head_is_enough: ContextVar[bool] = ContextVar("head_is_enough", default=False)


class TooLargeError(httpx2.DecodingError):
    """A run has ended, and what it has written is beyond what is read."""


@contextlib.contextmanager
def reading(*, head_is_enough: bool = False, limit: int | None = None) -> Iterator[None]:
    """
    Read the answers to requests so.

    :param head_is_enough: stop at ``MAX_BODY`` without an error.
    :param limit: bytes, where somebody keeps the answer as it comes.
    """
    tokens = _head_is_enough.set(head_is_enough), _limit.set(limit)
    try:
        yield
    finally:
        _head_is_enough.reset(tokens[0])
        _limit.reset(tokens[1])


class BoundedClient(openai.DefaultHttpxClient):
    """The SDK's own synchronous HTTP client, with limits; it, too, closes when nobody needs it any more."""

    def __init__(self) -> None:
        asks = [_ask, time_limit.watch_connections, watch_blocking]
        super().__init__(event_hooks={"request": asks, "response": [_bound]})

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request within the time that it names for a read, all in all."""
        with time_limit.within(request.extensions.get("timeout", {}).get("read")):
            return super().send(request, **options)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


class BoundedAsyncClient(openai.DefaultAsyncHttpxClient):
    """
    The SDK's own asynchronous HTTP client, with limits of size; the sender limits the time.

    :param settings: those of ``httpx2.AsyncClient``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(event_hooks={"request": [_aask], "response": [_abound]}, **settings)


def _ask(request: httpx2.Request) -> None:
    request.headers["accept-encoding"] = ACCEPT_ENCODING


async def _aask(request: httpx2.Request) -> None:
    _ask(request)
    watch(request)


def _bound(response: httpx2.Response) -> None:
    coding = response.headers.pop("content-encoding", None)  # unpacked here, and not again
    intake = Intake(
        is_error=response.status_code >= _ERROR,
        coding=coding,
        head_is_enough=_head_is_enough.get(),
        limit=_limit.get(),
    )
    stream = response.stream
    if isinstance(stream, httpx2.AsyncByteStream):
        response.stream = _AsyncBounded(stream, intake)
    else:
        response.stream = _Bounded(stream, intake)


async def _abound(response: httpx2.Response) -> None:
    _bound(response)


class Intake:
    """
    Takes what arrives of one body, and gives what it says, within limits.

    :param is_error: whether it comes with an error's status, of which less is read.
    :param coding: the header ``Content-Encoding``.
    :param head_is_enough: whether to stop at ``MAX_BODY``, as for an error at its own limit.
    :param limit: bytes of a body that somebody keeps as it comes; None of one that is held in memory.
    :raises httpx2.DecodingError: if it is packed in a way that was not asked for.
    """

    def __init__(
        self, *, is_error: bool, coding: str | None, head_is_enough: bool = False, limit: int | None = None
    ) -> None:
        self._stops = is_error or head_is_enough
        self._left = MAX_ERROR if is_error else limit or MAX_BODY
        self._limit = limit
        #: What has been given, as long as that may be needed: whoever reads it holds it, too.
        self._given: list[bytes] = []
        self._ended: _Ended | None = None
        self._unpackers = unpackers_of(coding)

    def take(self, received: bytes) -> Iterator[bytes]:
        """
        Give what arrived, unpacked.

        :raises httpx2.DecodingError: when it is too much, or cannot be unpacked.
        """
        for found in self._unpacked(received, self._unpackers):
            if self.is_full:
                return
            yield self._within(found)

    def _unpacked(self, received: bytes, unpackers: list[Unpacker]) -> Iterator[bytes]:
        if not unpackers:
            yield received
            return
        for found in unpackers[0].take(received, lambda: self._left + 1):
            yield from self._unpacked(found, unpackers[1:])

    @property
    def is_full(self) -> bool:
        """Whether enough has been read of what need not be read to its end."""
        return self._stops and self._left <= 0

    def _within(self, found: bytes) -> bytes:
        if self._ended is not None:
            return self._ended.take(found)
        self._left -= len(found)
        if self._left >= 0:
            if not self._stops and self._limit is None:
                self._given.append(found)
            return found
        if self._stops:
            return found[: self._left]
        if self._limit is not None:
            raise httpx2.DecodingError(f"its body has more than {self._limit} bytes")
        if not says_ended(_beginning_of([*self._given, found])):
            raise httpx2.DecodingError(f"its body has more than {MAX_BODY} bytes")
        self._ended = _Ended(self._given)
        self._given = []
        self._left = HEAD_BYTES  # what is unpacked at once, from here on
        return self._ended.take(found)


class _Ended:
    """
    Takes the rest of a run that has ended, after the first ``MAX_BODY`` bytes.

    :param given: those.
    """

    def __init__(self, given: list[bytes]) -> None:
        self._read = self._kept = sum(map(len, given))
        self._strings = LongStrings()
        for piece in given:
            self._strings.take(piece)
        self._strings.leave_out()

    def take(self, found: bytes) -> bytes:
        """
        Return what is kept of a piece.

        :raises TooLargeError: if that is too much.
        """
        kept = self._strings.take(found)
        self._read += len(found)
        self._kept += len(kept)
        if self._read > MAX_ENDED:
            raise TooLargeError(f"its body has more than {MAX_ENDED} bytes")
        if self._kept > 2 * MAX_BODY:
            raise TooLargeError(f"its body has more than {2 * MAX_BODY} bytes, pictures not counted")
        return kept


def _beginning_of(given: list[bytes]) -> bytes:
    beginning = bytearray()
    for piece in given:
        beginning += piece[: HEAD_BYTES - len(beginning)]
        if len(beginning) >= HEAD_BYTES:
            break
    return bytes(beginning)


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, intake: Intake) -> None:
        self._stream = stream
        self._intake = intake

    def __iter__(self) -> Iterator[bytes]:
        for received in self._stream:
            yield from self._intake.take(received)
            if self._intake.is_full:
                return

    def close(self) -> None:
        self._stream.close()


class _AsyncBounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, intake: Intake) -> None:
        self._stream = stream
        self._intake = intake

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for received in self._stream:
            for found in self._intake.take(received):
                yield found
            if self._intake.is_full:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
