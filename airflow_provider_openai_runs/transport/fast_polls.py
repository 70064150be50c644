# SPDX-License-Identifier: Apache-2.0
"""
Polls, and a bulk task's creates, over an aiohttp session: a seventh of the CPU that the SDK's client needs.

Ten thousand waits poll a thousand times a second. The SDK still writes the request, see ``request_template``;
aiohttp sends it and reads the reply. The limits of time and size are those of the SDK's client, and so are
the errors. What only the SDK's client can do is left to it: ``UseSdkInsteadError``.
"""

from __future__ import annotations

import asyncio
import json
import select
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
import httpx2
from yarl import URL

from airflow_provider_openai_runs.transport.closing import Closings
from airflow_provider_openai_runs.transport.failures import RedirectedError, UseSdkInsteadError
from airflow_provider_openai_runs.transport.leaving import check_time
from airflow_provider_openai_runs.transport.limits import Intake
from airflow_provider_openai_runs.transport.request_template import RequestTemplates, Template
from airflow_provider_openai_runs.transport.time_limit import not_in_time
from airflow_provider_openai_runs.wire.protocol import ApiRequest

if TYPE_CHECKING:
    import openai

#: Longer than a poll interval, so that connections are used again.
KEEPALIVE_SECONDS = 120.0
#: Bytes of a header's line, as many as the SDK's own HTTP client takes of all headers.
_MAX_LINE = 100 * 1024
#: Bytes of a body that aiohttp writes at once.
_MAX_BODY = 1024 * 1024
#: How long a server may take to let go of its connections.
_CLOSE_SECONDS = 2.0
_ERROR = 400
_REDIRECTS = range(300, 400)
_ACCESS_DENIED = frozenset({401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeReply:
    """A reply, read to its end and unpacked; headers are found under names in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class FastPolls:
    """
    Sends GET requests as one client of the SDK would, over as many connections as it is used at once.

    :param client: writes the requests.
    :param tls: what the client's own connections are checked with.
    """

    def __init__(self, client: openai.AsyncOpenAI, *, tls: ssl.SSLContext) -> None:
        self._templates = RequestTemplates(client)
        self._tls = tls
        #: Made with the first poll: a session belongs to an event loop, this may be made in a thread.
        self._pool: _Pool | None = None
        self._closings = Closings()

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The client that writes the requests, with the key that it used last."""
        return self._templates.writer

    @staticmethod
    def can_serve(client: openai.AsyncOpenAI) -> bool:
        """Whether there is neither a proxy on the way nor more to a request than its headers."""
        url = client.base_url
        proxies = getproxies()
        through_proxy = (url.scheme in proxies or "all" in proxies) and not proxy_bypass(url.host)
        return client.workload_identity is None and url.scheme in {"http", "https"} and not through_proxy

    async def send(self, request: ApiRequest[Any], *, within: float, connect_within: float) -> WholeReply:
        """
        Send a GET or POST request without a query of its own; one that pays not twice.

        :param within: seconds for the whole reply, and for the key if a function provides it.
        :param connect_within: seconds for a new connection, of those.
        :raises UseSdkInsteadError: if the server redirects, or the body is for the SDK to write.
        :raises httpx2.RequestError: if there was no reply, or one beyond the limits.
        :raises openai.OpenAIError: if there is no key just now.
        """
        body = None if request.body is None else written(request.body)
        try:
            async with asyncio.timeout(within):
                template = await self._templates.get(request)
                reply = await self._send(request, body, template, connect_within)
                if reply.status in _ACCESS_DENIED:
                    fresh = await self._templates.after_denial(request, template)
                    if fresh is not None and not request.pays:
                        reply = await self._send(request, body, fresh, connect_within)
                return reply
        except TimeoutError:
            self._drop_pool(self._pool)
            raise not_in_time(within) from None

    async def close(self) -> None:
        """Close the connections; no poll may be under way."""
        self._templates.close()
        self._drop_pool(self._pool)
        await self._closings.settle(within=_CLOSE_SECONDS)

    async def _send(
        self, request: ApiRequest[Any], body: bytes | None, template: Template, connect_within: float
    ) -> WholeReply:
        try:
            return await self._send_once(request, body, template, connect_within)
        except httpx2.ReadError:
            # The server may have closed an idle connection: for a GET, aiohttp itself takes another one.
            if request.method == "GET" or request.pays:
                raise
            return await self._send_once(request, body, template, connect_within)

    async def _send_once(
        self, request: ApiRequest[Any], body: bytes | None, template: Template, connect_within: float
    ) -> WholeReply:
        pool = self._pool = self._pool or _Pool(self._tls, self._closings)
        async with pool as session:
            # Errors are made anew, without a cause: some hold the URL, and with it what stands in its query.
            try:
                return await _read(session, request, body, template, connect_within)
            except aiohttp.ConnectionTimeoutError:
                raise httpx2.ConnectTimeout(f"no connection within {round(connect_within, 1):g} s") from None
            except aiohttp.ClientConnectorError as error:
                # Without the host, which is no news; the certificate's error has no ``os_error``.
                reason = getattr(error, "certificate_error", None) or error.os_error
                raise httpx2.ConnectError(str(reason)) from None
            except aiohttp.InvalidURL:
                raise httpx2.UnsupportedProtocol("the connection's host is no URL") from None
            except aiohttp.ClientResponseError as error:
                self._drop_pool(pool)
                raise httpx2.RemoteProtocolError(error.message) from None
            except (aiohttp.ClientError, OSError) as error:
                if isinstance(error.__cause__, httpx2.ConnectTimeout):
                    raise error.__cause__ from None
                self._drop_pool(pool)
                raise httpx2.ReadError(str(error) or type(error).__name__) from None

    def _drop_pool(self, pool: _Pool | None) -> None:
        """
        Let no further poll use the connections of a pool.

        What broke one of them may have broken all that are idle, and the next polls should not find out.
        """
        if self._pool is pool:
            self._pool = None
        if pool is not None:
            pool.retire()


class _Pool:
    """A session that closes when it has been retired and its last poll has ended."""

    def __init__(self, tls: ssl.SSLContext, closings: Closings) -> None:
        self._closings = closings
        # The resolver is the system's, as the SDK's client uses it, also where aiohttp finds another one.
        connector = _Connector(
            ssl=tls, limit=0, keepalive_timeout=KEEPALIVE_SECONDS, resolver=aiohttp.ThreadedResolver()
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # bounded, and so by ``Intake``
            trust_env=False,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
        )
        self._polls = 0
        self._is_retired = False

    async def __aenter__(self) -> aiohttp.ClientSession:
        self._polls += 1
        return self._session

    async def __aexit__(self, *_: object) -> None:
        self._polls -= 1
        self._close_if_done()

    def retire(self) -> None:
        """Close as soon as no poll is under way."""
        self._is_retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._is_retired and not self._polls:
            self._closings.begin(self._session.close())


class _Connector(aiohttp.TCPConnector):
    """
    Gives no connection out again on which a server has said something unasked: it would be the answer.

    Nor one that it has closed, also where the event loop has not heard of it yet: a create is sent once.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._used: WeakSet[Any] = WeakSet()

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Return a connection on which nothing waits to be read."""
        while True:
            connection = await super().connect(*args, **kwargs)
            protocol = connection.protocol
            if protocol is None or not (
                protocol.should_close or (protocol in self._used and _is_readable(protocol))
            ):
                self._used.add(protocol)
                return connection
            connection.close()


class _Body(aiohttp.BytesPayload):
    """A body that asks for the time when it leaves; the headers wait for it, or are worth nothing alone."""

    async def write_with_length(self, *args: Any) -> None:
        """
        Write it.

        :raises httpx2.ConnectTimeout: if it is late.
        """
        check_time()
        await super().write_with_length(*args)


def written(body: Mapping[str, Any]) -> bytes:
    """
    Write a body as the SDK does.

    :raises UseSdkInsteadError: for the SDK to write it, or to say why it cannot.
    """
    try:
        # As in openai._utils._json, which is private.
        written = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise UseSdkInsteadError from None
    if len(written) > _MAX_BODY:
        raise UseSdkInsteadError
    return written


def _is_readable(protocol: Any) -> bool:
    polling = select.poll()
    polling.register(protocol.transport.get_extra_info("socket"), select.POLLIN)
    return bool(polling.poll(0))


@lru_cache(maxsize=8)
def _limit_of(connect_within: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_within)


async def _read(
    session: aiohttp.ClientSession,
    request: ApiRequest[Any],
    body: bytes | None,
    template: Template,
    connect_within: float,
) -> WholeReply:
    url = URL(template.url(request.path), encoded=True)
    asked = session.request(
        request.method,
        url,
        data=None if body is None else _Body(body),
        headers=template.headers,
        timeout=_limit_of(connect_within),
        allow_redirects=False,
    )
    async with asked as response:
        if response.status in _REDIRECTS:
            raise RedirectedError
        intake = Intake(
            is_error=response.status >= _ERROR,
            coding=response.headers.get("content-encoding"),
            head_is_enough=request.head_is_enough,
        )
        content = bytearray()
        async for received in response.content.iter_any():
            for found in intake.take(received):
                content += found
            if intake.is_full:
                break  # the connection closes with the rest unread
        return WholeReply(status=response.status, headers=response.headers, content=bytes(content))
