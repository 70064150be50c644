# SPDX-License-Identifier: Apache-2.0
"""
A create that has not left by a given time does not leave any more: a later attempt takes it for lost then.

It is asked where the first byte goes out, past the SDK's client the first one of the body. Before that come
the key that a function provides, a place in the pool, the connection, its TLS and a proxy's answer, each of
which may take its time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
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


def check_time() -> None:
    """
    Let a request of this task leave.

    :raises httpx2.ConnectTimeout: if it is late: such an error says that nothing was sent.
    """
    if (by := _leave_by.get()) is not None and time.time() >= by:
        raise httpx2.ConnectTimeout("it could not leave in time, and was not sent")


def watch(request: httpx2.Request) -> None:
    """Have the request ask for the time when it leaves."""
    if _leave_by.get() is None:
        return

    async def on_event(event: str, info: Mapping[str, Any]) -> None:
        del info
        if event.endswith(_LEAVES):
            check_time()

    request.extensions["trace"] = on_event


def watch_blocking(request: httpx2.Request) -> None:
    """Do so for a client without an event loop, beside whoever has the request traced already."""
    if _leave_by.get() is None:
        return
    others = request.extensions.get("trace")

    def on_event(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(_LEAVES):
            check_time()
        if others is not None:
            others(event, info)

    request.extensions["trace"] = on_event
