# SPDX-License-Identifier: Apache-2.0
"""
A create that has not left by a given time does not leave any more: a later attempt takes it for lost then.

It is asked where the first byte goes out. Before that come the key that a function provides, a place in the
pool, the connection, its TLS and a proxy's answer, each of which may take its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpx2

_leave_by: ContextVar[float | None] = ContextVar("leave_by", default=None)
_LEAVES = "send_request_headers.started"


@contextmanager
def leaving(by: float | None) -> Iterator[None]:
    """
    Bound when a request of this task leaves, through a client whose requests ``watch`` sees.

    :param by: Unix seconds; None for no bound.
    """
    token = _leave_by.set(by)
    try:
        yield
    finally:
        _leave_by.reset(token)


def watch(request: httpx2.Request) -> None:
    """Have the request ask for the time when it leaves."""
    on_event = _bound()
    if on_event is None:
        return

    async def on_event_async(event: str, info: Mapping[str, Any]) -> None:
        on_event(event, info)

    request.extensions["trace"] = on_event_async


def watch_blocking(request: httpx2.Request) -> None:
    """Do so for a client without an event loop, beside whoever has the request traced already."""
    on_event = _bound()
    if on_event is None:
        return
    others = request.extensions.get("trace")

    def on_each(event: str, info: Mapping[str, Any]) -> None:
        on_event(event, info)
        if others is not None:
            others(event, info)

    request.extensions["trace"] = on_each


def _bound() -> Callable[[str, Mapping[str, Any]], None] | None:
    if (by := _leave_by.get()) is None:
        return None

    def on_event(event: str, info: Mapping[str, Any]) -> None:
        del info
        if event.endswith(_LEAVES) and time.time() >= by:
            # The errors of a connection that was not made in time say that nothing was sent.
            raise httpx2.ConnectTimeout("it could not leave in time, and was not sent")

    return on_event
