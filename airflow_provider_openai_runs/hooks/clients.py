# SPDX-License-Identifier: Apache-2.0
"""
One asynchronous client for each connection and event loop, shared by all waits.

A look-up of a connection goes through the triggerer's one supervisor (about 60 ms each, in line), and a
client costs 25 ms of CPU and 850 KB: a thousand waits must not each have their own. So the connection is read
once, the client is built in a thread, a small pool of connections is kept open for longer than a poll
interval, and the client is closed when its last wait has gone. Event loops and processes share nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import httpx2
import openai

from airflow_provider_openai_runs.hooks import transport
from airflow_provider_openai_runs.wire import Flow
from airflow_provider_openai_runs.wire.call import Call, Pause
from airflow_provider_openai_runs.wire.troubled import CallFailed

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_openai_runs.hooks.connection import FlowHook

T = TypeVar("T")

#: The pool scan of httpx2 grows with the number of connections: few connections and a gate in front are fast.
_CONNECTIONS = 100
#: Longer than a poll interval, so that connections are reused (the SDK's default is 5 s).
_KEEPALIVE_SECONDS = 120.0
#: How long a connection's settings are believed before they are read again: keys rotate.
SETTINGS_SECONDS = 60.0
#: Not more often than this, also when a thousand waits meet a refused key at once.
_FRESH_SECONDS = 5.0

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()


class SharedClient:
    """The client of one connection on one event loop, and the waits that use it."""

    def __init__(self, hook: FlowHook) -> None:
        self.users = 0
        self._hook = hook
        self._source: Any = None
        self._read_at = 0.0
        self._client: openai.AsyncOpenAI | None = None
        self._retired: list[openai.AsyncOpenAI] = []
        self._lock = asyncio.Lock()
        self._gate = asyncio.Semaphore(_CONNECTIONS)

    async def send(self, call: Call[T]) -> T:
        """
        Send one call.

        :raises CallFailed: with what went wrong.
        """
        try:
            client = await self._current()
        except Exception as error:
            raise transport.not_sent(error) from error
        async with self._gate:
            return await transport.asend(client, call)

    async def run_flow(self, flow: Flow[T]) -> T:
        """Run a flow to its result."""
        advance: Callable[[], Any] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                if step.reconnect:
                    self._reconnect()
                advance = partial(next, flow)
                continue
            try:
                advance = partial(flow.send, await self.send(step))
            except CallFailed as failed:
                advance = partial(flow.throw, failed)

    def _reconnect(self) -> None:
        if time.monotonic() - self._read_at > _FRESH_SECONDS:
            self._read_at = 0.0

    async def close(self) -> None:
        """Close every client that was built."""
        open_clients = [*self._retired, *([self._client] if self._client else [])]
        self._retired, self._client = [], None
        for client in open_clients:
            await client.close()

    async def _current(self) -> openai.AsyncOpenAI:
        if self._client is not None and time.monotonic() - self._read_at < SETTINGS_SECONDS:
            return self._client
        async with self._lock:
            if self._client is None or time.monotonic() - self._read_at >= SETTINGS_SECONDS:
                await self._refresh()
        assert self._client is not None  # noqa: S101 # for mypy: _refresh sets it or raises
        return self._client

    async def _refresh(self) -> None:
        try:
            connection, extras = await self._hook.aread_connection()
        except Exception:
            # A look-up that fails once must not end a wait that a working client can go on with.
            if self._client is None:
                raise
            self._hook.log.warning("Could not read connection %s again; going on", self._hook.conn_id)
            self._read_at = time.monotonic()
            return
        self._read_at = time.monotonic()
        source = (connection.host, connection.password, extras)
        if self._client is not None and source == self._source:
            return
        built = await asyncio.to_thread(self._build, connection, extras)
        if self._client is not None:
            # Calls of other waits may still be under way on it.
            self._retired.append(self._client)
        self._client, self._source = built, source

    def _build(self, connection: Connection, extras: dict[str, Any]) -> openai.AsyncOpenAI:
        limits = httpx2.Limits(
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_SECONDS,
        )
        http_client = openai.DefaultAsyncHttpxClient(limits=limits)
        return self._hook.build_async_client(connection, extras, http_client)


@asynccontextmanager
async def shared(hook: FlowHook) -> AsyncIterator[SharedClient]:
    """Use the connection's client of the running event loop; the last one to leave closes it."""
    of_loop = _clients.setdefault(asyncio.get_running_loop(), {})
    client = of_loop.setdefault(hook.conn_id, SharedClient(hook))
    client.users += 1
    try:
        yield client
    finally:
        client.users -= 1
        if client.users == 0:
            of_loop.pop(hook.conn_id, None)
            await client.close()
