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
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import httpx2
import openai

from airflow_provider_openai_runs.hooks import transport
from airflow_provider_openai_runs.hooks.direct import KEEPALIVE_SECONDS, DirectGets, NotPlain
from airflow_provider_openai_runs.hooks.pace import Pace
from airflow_provider_openai_runs.wire import Flow
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest, Sleep

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_openai_runs.hooks.connection import ConnectionHook

T = TypeVar("T")

#: Connections to one server, most of them for looks, which go past the SDK's; where they cannot, it gets all.
_CONNECTIONS = 100
_CONNECTIONS_BESIDE_LOOKS = 20
#: How long a connection's settings are believed before they are read again: keys rotate.
SETTINGS_SECONDS = 60.0
#: How long reading them may take.
_SETTINGS_WITHIN = 30.0
#: Not more often than this, also when a thousand waits meet a refused key at once.
_FRESH_SECONDS = 5.0

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()


class Client:
    """A client of the SDK, and the direct way for its GET requests where there is one."""

    def __init__(self, sdk: openai.AsyncOpenAI, direct: DirectGets | None) -> None:
        self._sdk = sdk
        self._direct = direct
        self._gate = asyncio.Semaphore(_CONNECTIONS_BESIDE_LOOKS if direct else _CONNECTIONS)
        self._calls = 0
        self._retired = False

    async def send(self, call: ApiRequest[T]) -> T:
        """
        Send one call.

        :raises CallFailed: with what went wrong.
        """
        self._calls += 1
        try:
            if self._direct is not None and call.method == "GET":
                with contextlib.suppress(NotPlain):
                    return await transport.direct_get(self._direct, call)
            async with self._gate:
                return await transport.asend(self._sdk, call)
        finally:
            self._calls -= 1
            if self._retired and not self._calls:
                await self._close()

    async def retire(self) -> None:
        """Close as soon as no call is under way."""
        self._retired = True
        if not self._calls:
            await self._close()

    async def _close(self) -> None:
        if self._direct is not None:
            self._direct.close()
        await self._sdk.close()


class SharedClient:
    """The client of one connection on one event loop, and the waits that use it."""

    def __init__(self, hook: ConnectionHook) -> None:
        self.users = 0
        self._hook = hook
        self._source: Any = None
        self._read_at = 0.0
        #: Whether its key was refused since.
        self._is_distrusted = False
        self._client: Client | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._looks = asyncio.Semaphore(_CONNECTIONS - _CONNECTIONS_BESIDE_LOOKS)
        self._pace = Pace()

    async def send(self, call: ApiRequest[T]) -> T:
        """
        Send one call; a GET only when the server wants to be asked.

        :raises CallFailed: with what went wrong.
        """
        if call.method != "GET":
            return await self._sent(call)
        async with self._looks:
            # Asked only now: the server may have lost its patience while this one stood in line.
            if (held := self._pace.hold(time.monotonic())) is not None:
                raise ApiRequestFailed(held)
            return await self._sent(call)

    async def _sent(self, call: ApiRequest[T]) -> T:
        try:
            client = await self._current()
        except Exception as error:
            raise transport.not_sent(error) from error
        try:
            answer = await client.send(call)
        except ApiRequestFailed as failed:
            self._pace.on_error(failed.failure, time.monotonic())
            raise
        self._pace.on_answer(time.monotonic())
        return answer

    async def run_flow(self, flow: Flow[T]) -> T:
        """Run a flow to its result."""
        advance: Callable[[], Any] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
                if step.refresh_connection:
                    self._refresh_connection()
                advance = partial(next, flow)
                continue
            try:
                advance = partial(flow.send, await self.send(step))
            except ApiRequestFailed as failed:
                advance = partial(flow.throw, failed)

    def _refresh_connection(self) -> None:
        if time.monotonic() - self._read_at > _FRESH_SECONDS:
            self._read_at = 0.0
            self._is_distrusted = True

    async def close(self) -> None:
        """Close the client, if one was built."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        if self._client is not None:
            await self._client.retire()
            self._client = None

    async def _current(self) -> Client:
        if self._client is None or time.monotonic() - self._read_at >= SETTINGS_SECONDS:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self._refresh())
            if self._client is None or self._is_distrusted:
                await asyncio.shield(self._refreshing)
            # Else a look goes on with what there is: a slow look-up must not hold it back.
        assert self._client is not None  # noqa: S101 # for mypy: _refresh sets it or raises
        return self._client

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(_SETTINGS_WITHIN):
                connection, extras = await self._hook.aread_connection()
                source = (connection.host, connection.password, extras)
                if self._client is not None and source == self._source:
                    return
                built = await asyncio.to_thread(self._build, connection, extras)
        except Exception as error:
            # A look-up that fails once must not end a wait that a working client can go on with.
            if self._client is None:
                raise
            name, kind = self._hook.conn_id, type(error).__name__
            self._hook.log.warning("Could not read connection %s again (%s); going on", name, kind)
            return
        finally:
            self._read_at = time.monotonic()
            self._is_distrusted = False
        old, self._client, self._source = self._client, built, source
        if old is not None:
            await old.retire()

    def _build(self, connection: Connection, extras: dict[str, Any]) -> Client:
        tls = httpx2.create_ssl_context()
        limits = httpx2.Limits(
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS_BESIDE_LOOKS,
            keepalive_expiry=KEEPALIVE_SECONDS,
        )
        http_client = openai.DefaultAsyncHttpxClient(limits=limits, verify=tls)
        sdk = self._hook.build_async_client(connection, extras, http_client)
        if not DirectGets.can_serve(sdk):
            return Client(sdk, None)
        return Client(sdk, DirectGets(sdk, tls=tls))


@asynccontextmanager
async def shared(hook: ConnectionHook) -> AsyncIterator[SharedClient]:
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
