# SPDX-License-Identifier: Apache-2.0
"""
One asynchronous client for each connection and event loop, shared by all waits.

Reading a connection goes through the triggerer's one supervisor (about 60 ms each, in line), and a
client costs 25 ms of CPU and 850 KB: a thousand waits must not each have their own. So the connection is read
once, the client is built in a thread, a small pool of connections is kept open for longer than a poll
interval, and the client is closed when its last wait has gone. Event loops and processes share nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import httpx2

from airflow_provider_openai_runs.transport import driver
from airflow_provider_openai_runs.transport.async_client import (
    CONNECTIONS,
    CONNECTIONS_BESIDE_POLLS,
    Client,
)
from airflow_provider_openai_runs.transport.closing import Closings
from airflow_provider_openai_runs.transport.failures import not_sent
from airflow_provider_openai_runs.transport.fast_polls import KEEPALIVE_SECONDS, FastPolls
from airflow_provider_openai_runs.transport.limits import BoundedAsyncClient
from airflow_provider_openai_runs.transport.throttle import Throttle
from airflow_provider_openai_runs.wire import Flow
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest

if TYPE_CHECKING:
    import openai

T = TypeVar("T")

#: How long a connection's settings are believed before they are read again: keys rotate.
SETTINGS_SECONDS = 60.0
#: How long reading them may take.
_SETTINGS_WITHIN = 30.0
#: Not more often than this, also when a thousand waits meet a refused key at once.
_FRESH_SECONDS = 5.0
#: How long the last wait stays for the clients to be closed.
_CLOSE_SECONDS = 5.0

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()


class ClientOwner(Protocol):
    """Who knows a connection of Airflow's and makes clients of it."""

    conn_id: str

    @property
    def log(self) -> Any:
        """Where to say what happens to the client."""

    async def aread_connection(self) -> tuple[Any, dict[str, Any]]:
        """Read the connection, with its ``host`` and ``password``, and its extra, without blocking."""

    def build_async_client(
        self, connection: Any, extras: dict[str, Any], http_client: httpx2.AsyncClient
    ) -> openai.AsyncOpenAI:
        """Build a client on an HTTP client."""


class SharedClient:
    """
    The client of one connection on one event loop, and the waits that use it.

    :param beside_polls: how many requests that are no polls may be under way at once.
    """

    def __init__(self, owner: ClientOwner, *, beside_polls: int = CONNECTIONS_BESIDE_POLLS) -> None:
        self.users = 0
        self._owner = owner
        self._beside_polls = beside_polls
        self._source: Any = None
        self._read_at = 0.0
        #: Whether its key was refused since.
        self._is_distrusted = False
        self._client: Client | None = None
        self._closings = Closings()
        self._refreshing: asyncio.Task[None] | None = None
        self._polls = asyncio.Semaphore(CONNECTIONS - CONNECTIONS_BESIDE_POLLS)
        self._throttle = Throttle()

    async def send(self, request: ApiRequest[T]) -> T:
        """
        Send one request; a GET only when the server wants to be asked.

        :raises ApiRequestFailed: with what went wrong.
        """
        if request.method != "GET":
            return await self._sent(request)
        async with self._polls:
            # Asked only now: the server may have asked to wait while this one stood in line.
            if (refused := self._throttle.admit(time.monotonic())) is not None:
                raise ApiRequestFailed(refused)
            return await self._sent(request)

    async def _sent(self, request: ApiRequest[T]) -> T:
        try:
            client = await self._current()
        except Exception as error:  # noqa: BLE001 # what it says is kept
            raise not_sent(error) from None
        try:
            answer = await client.send(request)
        except ApiRequestFailed as failed:
            self._throttle.on_failure(failed.failure, time.monotonic())
            raise
        self._throttle.on_answer(time.monotonic())
        return answer

    async def run_flow(self, flow: Flow[T]) -> T:
        """
        Run a flow to its result.

        :raises ApiRequestFailed: for the caller to decide about.
        """
        return await driver.arun(
            flow, send=self.send, sleep=asyncio.sleep, refresh_connection=self.refresh_connection
        )

    def refresh_connection(self) -> None:
        """Have the next request wait until the connection has been read again, unless it just was."""
        if time.monotonic() - self._read_at > _FRESH_SECONDS:
            self._read_at = 0.0
            self._is_distrusted = True

    async def close(self) -> None:
        """Close the client, if one was built; nobody may use it any more."""
        try:
            if self._refreshing is not None:
                self._refreshing.cancel()
                await asyncio.gather(self._refreshing, return_exceptions=True)
        finally:
            client, self._client = self._client, None
            if client is not None:
                client.retire()
            await self._closings.settle(within=_CLOSE_SECONDS)

    async def _current(self) -> Client:
        if self._client is None or time.monotonic() - self._read_at >= SETTINGS_SECONDS:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self._refresh())
            if self._client is None or self._is_distrusted:
                await asyncio.shield(self._refreshing)
            # Else a poll goes on with what there is: a slow look-up must not hold it back.
        assert self._client is not None  # noqa: S101 # for mypy: _refresh sets it or raises
        return self._client

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(_SETTINGS_WITHIN):
                connection, extras = await self._owner.aread_connection()
                source = (connection.host, connection.password, extras)
                if self._client is not None and source == self._source:
                    return
                built = await asyncio.to_thread(self._build, connection, extras)
        except Exception as error:
            # A read that fails once must not end a wait that a working client can go on with.
            if self._client is None:
                raise
            name, kind = self._owner.conn_id, type(error).__name__
            self._owner.log.warning("Could not read connection %s again (%s); going on", name, kind)
            return
        finally:
            self._read_at = time.monotonic()
            self._is_distrusted = False
        old, self._client, self._source = self._client, built, source
        if old is not None:
            old.retire()

    def _build(self, connection: Any, extras: dict[str, Any]) -> Client:
        tls = httpx2.create_ssl_context()
        limits = httpx2.Limits(
            max_connections=CONNECTIONS,
            max_keepalive_connections=CONNECTIONS_BESIDE_POLLS,
            keepalive_expiry=KEEPALIVE_SECONDS,
        )
        http_client = BoundedAsyncClient(limits=limits, verify=tls)
        client = self._owner.build_async_client(connection, extras, http_client)
        fast = FastPolls(client, tls=tls) if FastPolls.can_serve(client) else None
        return Client(
            client,
            fast,
            log=self._owner.log,
            name=self._owner.conn_id,
            closings=self._closings,
            beside_polls=self._beside_polls,
        )


@asynccontextmanager
async def shared(
    owner: ClientOwner, *, beside_polls: int = CONNECTIONS_BESIDE_POLLS
) -> AsyncIterator[SharedClient]:
    """
    Use the connection's client of the running event loop; the last one to leave closes it.

    :param beside_polls: of the first one, how many requests that are no polls may be under way at once.
    """
    of_loop = _clients.setdefault(asyncio.get_running_loop(), {})
    client = of_loop.setdefault(owner.conn_id, SharedClient(owner, beside_polls=beside_polls))
    client.users += 1
    try:
        yield client
    finally:
        client.users -= 1
        if client.users == 0:
            of_loop.pop(owner.conn_id, None)
            await client.close()
