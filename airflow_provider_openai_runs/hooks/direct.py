# SPDX-License-Identifier: Apache-2.0
"""
Small GET requests over connections of our own: a tenth of what the SDK and its HTTP client need for one.

Ten thousand waits look a thousand times a second. The SDK still writes the request: every ten seconds it is
asked how it would look, and the looks in between repeat its headers, host and query for other paths. h11,
which stands under the SDK's own HTTP client, reads the replies. Whatever is not the plain case (a redirect, a
compressed body, a refused key, which may only be an old one) is left to the SDK: ``NotPlain``.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import h11
import httpx2

from airflow_provider_openai_runs.hooks.bounded import MAX_BODY, MAX_ERROR
from airflow_provider_openai_runs.wire.protocol import ApiRequest

if TYPE_CHECKING:
    import openai

#: How long the SDK's headers are repeated: a key that a function provides changes.
_TEMPLATE_SECONDS = 10.0
#: Longer than a poll interval, so that connections are used again.
KEEPALIVE_SECONDS = 120.0
_CHUNK = 64 * 1024
#: As much as the SDK's own HTTP client takes of headers.
_MAX_HEAD = 100 * 1024
#: Seconds after which a host's next address is tried beside the one that does not answer.
_NEXT_ADDRESS_AFTER = 0.25
#: Stands where a path goes when the SDK is asked how it would look.
_ANY_PATH = "look-at-this"
_ERROR = 400
_REDIRECTS = range(300, 400)
_KEY_REFUSED = frozenset({401, 403})
#: Bodies come as they are, and each call has a time limit of its own.
_NOT_REPEATED = frozenset({b"accept-encoding", b"x-stainless-read-timeout"})
_Headers = list[tuple[bytes, bytes]]


class NotPlain(Exception):  # noqa: N818 # a way not taken, never seen by anybody
    """The SDK has to make this call."""


@dataclass(frozen=True, slots=True)
class PlainReply:
    """A whole reply; headers under lower-case names."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class _Template:
    """A request of the SDK's with a hole where its path was."""

    before: bytes
    after: bytes
    headers: _Headers
    written_at: float


class DirectGets:
    """
    Sends GET requests as one client of the SDK would. It opens as many connections as it is used at once.

    :param tls: what the client's own connections are checked with.
    """

    def __init__(self, client: openai.AsyncOpenAI, *, tls: ssl.SSLContext) -> None:
        self._tls = tls if client.base_url.scheme == "https" else None
        self._host, self._port = client.base_url.host, client.base_url.port or (443 if self._tls else 80)
        # A copy that takes its requests down instead of sending them, through no proxy either.
        taker = httpx2.AsyncClient(transport=_Taker(), trust_env=False)
        self._writer = client.with_options(http_client=taker, max_retries=0)
        self._templates: dict[tuple[tuple[str, str], ...], asyncio.Task[_Template]] = {}
        self._idle: deque[_Connection] = deque()
        self._closed = False

    @staticmethod
    def can_serve(client: openai.AsyncOpenAI) -> bool:
        """Whether there is neither a proxy on the way nor more to a request than its headers."""
        url = client.base_url
        proxies = getproxies()
        through_proxy = (url.scheme in proxies or "all" in proxies) and not proxy_bypass(url.host)
        return client.workload_identity is None and url.scheme in {"http", "https"} and not through_proxy

    async def get(self, call: ApiRequest[Any], *, within: float, connect_within: float) -> PlainReply:
        """
        Send a GET request without a query of its own.

        :param within: seconds for the whole reply, and for the key if a function provides it.
        :param connect_within: seconds for a new connection, of those.
        :raises NotPlain: if the SDK has to do it.
        :raises httpx2.TransportError: if there was no reply.
        :raises ValueError: if it was larger than ``MAX_BODY``.
        :raises openai.OpenAIError: if there is no key just now.
        """
        if call.query:
            raise NotPlain
        try:
            async with asyncio.timeout(within):
                reply = await self._reply(call, connect_within)
        except TimeoutError as error:
            self._close_idle()
            raise httpx2.ReadTimeout(f"no reply within {within:.0f} s") from error
        except (OSError, _Stale, h11.ProtocolError) as error:
            # What broke this connection may have broken all of them, and the next look should not find out.
            self._close_idle()
            raise httpx2.ReadError(str(error) or type(error).__name__) from error
        if reply.status_code in _KEY_REFUSED:
            self._templates.clear()
            raise NotPlain
        if reply.status_code in _REDIRECTS:
            raise NotPlain
        return reply

    def close(self) -> None:
        """Close the connections; one that is in use closes when its reply is there."""
        self._closed = True
        self._close_idle()
        for writing in self._templates.values():
            writing.cancel()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _template(self, call: ApiRequest[Any]) -> _Template:
        wanted = tuple(call.headers.items())
        writing = self._templates.get(wanted)
        if writing is None or (writing.done() and not _is_fresh(writing)):
            writing = self._templates[wanted] = asyncio.create_task(self._write(dict(call.headers)))
        # One look that loses patience must not end it for the others.
        return await asyncio.shield(writing)

    async def _write(self, headers: dict[str, str]) -> _Template:
        written_at = time.monotonic()
        taken = await self._writer.get(f"/{_ANY_PATH}", cast_to=httpx2.Response, options={"headers": headers})
        before, _, after = taken.request.url.raw_path.partition(_ANY_PATH.encode())
        plain = [pair for pair in taken.request.headers.raw if pair[0].lower() not in _NOT_REPEATED]
        plain.append((b"accept-encoding", b"identity"))
        try:
            h11.Request(method="GET", target=b"/", headers=plain)
        except h11.LocalProtocolError:
            # Its text shows the header, which may be the key.
            raise httpx2.LocalProtocolError("a header cannot be written") from None
        return _Template(before, after, plain, written_at)

    async def _reply(self, call: ApiRequest[Any], connect_within: float) -> PlainReply:
        template = await self._template(call)
        target = template.before + call.path.lstrip("/").encode() + template.after
        while connection := self._take():
            try:
                return await self._over(connection, target, template.headers)
            except _Stale:
                # The server had closed it, and has not read the request.
                continue
        return await self._over(await self._open(connect_within), target, template.headers)

    async def _over(self, connection: _Connection, target: bytes, headers: _Headers) -> PlainReply:
        try:
            reply = await connection.get(target, headers)
        except BaseException:
            connection.close()
            raise
        if connection.can_go_on and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def _take(self) -> _Connection | None:
        """Return the connection that was used last, so that those which are not needed grow old and close."""
        while self._idle and self._idle[0].used_at < time.monotonic() - KEEPALIVE_SECONDS:
            self._idle.popleft().close()
        while self._idle:
            if (connection := self._idle.pop()).can_go_on:
                return connection
            connection.close()
        return None

    async def _open(self, within: float) -> _Connection:
        # Other event loops than asyncio's own, such as uvloop, do not know the option.
        knows = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
        options: dict[str, Any] = {"happy_eyeballs_delay": _NEXT_ADDRESS_AFTER} if knows else {}
        try:
            async with asyncio.timeout(within):
                streams = await asyncio.open_connection(self._host, self._port, ssl=self._tls, **options)
                return _Connection(*streams)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no connection within {within:.0f} s") from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error


def _is_fresh(written: asyncio.Task[_Template]) -> bool:
    if written.exception() is not None:
        return False
    return time.monotonic() - written.result().written_at < _TEMPLATE_SECONDS


class _Stale(Exception):  # noqa: N818 # a connection, not an error
    """The connection ended without a word of the server's."""


class _Connection:
    """One connection, for one request after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.used_at = 0.0
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)

    @property
    def can_go_on(self) -> bool:
        """Whether the server lets it be used again, and has sent nothing that would be taken for a reply."""
        has_ended = self._reader.at_eof() or self._reader.exception() is not None
        # There is no public way to ask a stream whether it holds something.
        unread = self._reader._buffer  # type: ignore[attr-defined] # noqa: SLF001
        unasked = self._http.trailing_data[0] or unread
        return self._http.our_state is h11.IDLE and not has_ended and not unasked

    async def get(self, target: bytes, headers: _Headers) -> PlainReply:
        """Send a request and read the whole reply."""
        http = self._http
        request = h11.Request(method="GET", target=target, headers=headers)
        self._writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        head: h11.Response | None = None
        body = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await self._read(is_first=head is None and not http.trailing_data[0]))
            elif isinstance(event, h11.Response):
                head = event
                _refuse_packed(head)
            elif isinstance(event, h11.Data):
                body += event.data
                if head is not None and head.status_code >= _ERROR and len(body) > MAX_ERROR:
                    break
                if len(body) > MAX_BODY:
                    raise ValueError(f"its body has more than {MAX_BODY} bytes")
            elif isinstance(event, h11.EndOfMessage):
                break
        assert head is not None  # noqa: S101 # for mypy: h11 ends no message that has not begun
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
        self.used_at = time.monotonic()
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        return PlainReply(head.status_code, named, bytes(body))

    async def _read(self, *, is_first: bool) -> bytes:
        try:
            received = await self._reader.read(_CHUNK)
        except OSError as error:
            if is_first:
                raise _Stale(f"the connection broke: {error}") from error
            raise
        if is_first and not received:
            raise _Stale("the server closed the connection")
        return received

    def close(self) -> None:
        """Close it, without waiting for the server to agree."""
        self._writer.close()


def _refuse_packed(head: h11.Response) -> None:
    """Leave a packed body to the SDK's client unread: it may be a bomb."""
    if any(name == b"content-encoding" and value != b"identity" for name, value in head.headers):
        raise NotPlain


class _Taker(httpx2.AsyncBaseTransport):
    """Takes a request down; the SDK finds it in the reply."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer that it was sent."""
        return httpx2.Response(200, request=request)
