# SPDX-License-Identifier: Apache-2.0
"""
How the SDK would write a request, with a hole where its path was, and another one for its body.

The SDK is asked once in ten seconds; the requests in between repeat its headers, host and query for other
paths and bodies. So keys, key providers, default headers and queries count as for the SDK's own requests.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
from multidict import CIMultiDict

from airflow_provider_openai_runs.transport.codings import ACCEPT_ENCODING
from airflow_provider_openai_runs.wire.protocol import ApiRequest

if TYPE_CHECKING:
    import openai

#: Seconds for which a request is repeated: a key that a function provides changes.
_TEMPLATE_SECONDS = 10.0
#: Stands where a path goes when the SDK is asked.
_ANY_PATH = "any-path"
#: Each request has a time limit of its own, which the SDK does not know when it writes the template.
_NOT_REPEATED = frozenset({"accept-encoding", "x-stainless-read-timeout"})
#: What the body decides.
_OF_THE_BODY = frozenset({"content-length"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"(?:[^\0\s]+(?:[ \t]+[^\0\s]+)*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """
    A request of the SDK's.

    :param before: the URL up to the path.
    :param after: the URL from the path's end on.
    :param written_at: seconds of the monotonic clock.
    :param is_confirmed: whether it was written anew because its headers were refused, and they are the same.
    """

    before: str
    after: str
    headers: Mapping[str, str]
    written_at: float
    is_confirmed: bool = False

    def url(self, path: str) -> str:
        """Return the URL of a path, which is percent-encoded already."""
        return f"{self.before}{path.lstrip('/')}{self.after}"


class RequestTemplates:
    """
    The templates of one client of the SDK, one for each kind of request.

    A kind is a method, whether there is a body, and the headers that the request adds.

    :param client: is copied, with a transport that sends nothing.
    :ivar writer: the copy.
    """

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        capturing = httpx2.AsyncClient(transport=CapturingTransport(), trust_env=False)
        self.writer = client.with_options(http_client=capturing, max_retries=0)
        self._written: dict[_Kind, asyncio.Task[Template]] = {}

    async def get(self, request: ApiRequest[Any]) -> Template:
        """
        Return a template that is not too old.

        :param request: a GET or a POST.
        :raises openai.OpenAIError: if there is no key just now.
        :raises httpx2.LocalProtocolError: if a header cannot be written.
        """
        kind = _kind_of(request)
        writing = self._written.get(kind)
        if writing is None or (writing.done() and not _is_fresh(writing)):
            writing = self._written[kind] = asyncio.create_task(self._write(kind))
        # One poll whose time is over must not end it for the others.
        return await asyncio.shield(writing)

    async def after_denial(self, request: ApiRequest[Any], denied: Template) -> Template | None:
        """
        Return another template after a server has refused the key of one; None if the key is the same.

        However many polls are refused, the key is asked for once more, not once for each of them.
        """
        kind = _kind_of(request)
        writing = self._written.get(kind)
        if writing is not None and writing.done() and _is_fresh(writing) and writing.result() is denied:
            if denied.is_confirmed:
                return None
            self._written[kind] = asyncio.create_task(self._write(kind, instead_of=denied))
        found = await self.get(request)
        return None if found.headers == denied.headers else found

    def close(self) -> None:
        """Give up what is being written."""
        for writing in self._written.values():
            writing.cancel()

    async def _write(self, kind: _Kind, *, instead_of: Template | None = None) -> Template:
        written_at = time.monotonic()
        asked: dict[str, Any] = {"cast_to": httpx2.Response, "options": {"headers": dict(kind.headers)}}
        if kind.method == "GET":
            captured = await self.writer.get(f"/{_ANY_PATH}", **asked)
        else:
            captured = await self.writer.post(f"/{_ANY_PATH}", body={} if kind.has_body else None, **asked)
        request = captured.request
        # Credentials in the URL have become a header by now.
        url = str(request.url.copy_with(username=None, password=None))
        before, _, after = url.partition(_ANY_PATH)
        left_out = _NOT_REPEATED | (_OF_THE_BODY if kind.has_body else set())
        # In the form that aiohttp makes of headers for each request.
        kept = CIMultiDict((name, value) for name, value in request.headers.items() if name not in left_out)
        if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in kept.items()):
            # It does not say which: that may be the key.
            raise httpx2.LocalProtocolError("a header cannot be written")
        kept["accept-encoding"] = ACCEPT_ENCODING
        is_confirmed = instead_of is not None and instead_of.headers == kept
        return Template(
            before=before, after=after, headers=kept, written_at=written_at, is_confirmed=is_confirmed
        )


@dataclass(frozen=True, slots=True)
class _Kind:
    method: str
    has_body: bool
    headers: tuple[tuple[str, str], ...]


def _kind_of(request: ApiRequest[Any]) -> _Kind:
    return _Kind(request.method, request.body is not None, tuple(request.headers.items()))


def _is_fresh(written: asyncio.Task[Template]) -> bool:
    if written.cancelled() or written.exception() is not None:
        return False
    return time.monotonic() - written.result().written_at < _TEMPLATE_SECONDS


class CapturingTransport(httpx2.AsyncBaseTransport):
    """Takes a request down in place of sending it; the SDK finds it in the reply."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer that it was sent."""
        return httpx2.Response(200, request=request)
