# SPDX-License-Identifier: Apache-2.0
"""
One time limit for a whole request of the SDK's synchronous client: request, headers, body and redirects.

Its HTTP client bounds each read from the network, not their sum: a server that sends a byte of a header each
0.2 s would keep a worker waiting for ever. A thread that waits in a read cannot be interrupted from outside,
so each read and write is given only the seconds that the request has left. (An asynchronous request is simply
cancelled.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpx2

_ends_at: ContextVar[tuple[float, float] | None] = ContextVar("ends_at", default=None)
_OPENED = ("connect_tcp.complete", "start_tls.complete")
#: A write can take its whole time for each piece that the network accepts, so pieces are small.
_PIECE = 16 * 1024


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """
    Bound all reads and writes of this thread, on connections that ``watch_connections`` knows.

    :param seconds: None for no bound.
    :raises httpx2.ReadTimeout: when the time is over.
    """
    if seconds is None:
        yield
        return
    ends_at = time.monotonic() + seconds
    token = _ends_at.set((ends_at, seconds))
    try:
        yield
    except (httpx2.ReadTimeout, httpx2.WriteTimeout):
        if time.monotonic() < ends_at:
            raise
        raise not_in_time(seconds) from None
    finally:
        _ends_at.reset(token)


def not_in_time(seconds: float) -> httpx2.ReadTimeout:
    """Return the error of a request whose answer was not there in time."""
    return httpx2.ReadTimeout(f"its answer has not ended after {seconds:g} s")


def watch_connections(request: httpx2.Request) -> None:
    """Have every connection that this request opens, if it opens one, keep to the limit from then on."""
    request.extensions["trace"] = _on_event


def _on_event(event: str, info: Mapping[str, Any]) -> None:
    """Take HTTPX's trace events; a connection that has been opened, or wrapped in TLS, comes with one."""
    if event.endswith(_OPENED) and (stream := info.get("return_value")) is not None:
        _limit(stream)


def _limit(stream: Any) -> None:
    read, write = stream.read, stream.write

    def read_in_time(max_bytes: int, timeout: float | None = None) -> Any:
        return read(max_bytes, _left(timeout))

    def write_in_time(buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            write(buffer[start : start + _PIECE], _left(timeout))

    stream.read, stream.write = read_in_time, write_in_time


def _left(timeout: float | None) -> float | None:
    if (limit := _ends_at.get()) is None:
        return timeout
    left = limit[0] - time.monotonic()
    if left <= 0:
        raise not_in_time(limit[1])
    return left if timeout is None else min(timeout, left)
