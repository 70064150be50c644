# SPDX-License-Identifier: Apache-2.0
"""One asynchronous client: the SDK's, and beside it the fast way as long as there is one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from airflow_provider_openai_runs.transport import sdk
from airflow_provider_openai_runs.transport.closing import Closings
from airflow_provider_openai_runs.transport.failures import (
    RedirectedError,
    UseSdkInsteadError,
    failing,
    no_answer,
    redirected,
    status_error,
)
from airflow_provider_openai_runs.transport.fast_polls import FastPolls
from airflow_provider_openai_runs.transport.leaving import leaving
from airflow_provider_openai_runs.transport.limits import TooLargeError
from airflow_provider_openai_runs.transport.secrets import redact_of
from airflow_provider_openai_runs.wire.protocol import ApiRequest

if TYPE_CHECKING:
    import openai

T = TypeVar("T")

#: Connections to one server, most of them for fast polls; where there are none, the SDK's client gets all.
CONNECTIONS = 100
CONNECTIONS_BESIDE_POLLS = 20
#: Seconds for which creates wait for the answer to the first one; it tells whether they may pass the SDK.
_FIRST_CREATE_WITHIN = 1.0
_ERROR = 400


class Client:
    """
    A client of the SDK, and the fast way for its polls, cancels and creates as long as there is one.

    The first create is the SDK's: where the server redirects it, one that was sent past the SDK would have to
    be sent once more. Those that come with it wait a moment for its answer.

    :param name: the connection, for the log.
    :param beside_polls: how many other requests may be under way at once.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        fast: FastPolls | None,
        *,
        log: Any,
        name: str,
        closings: Closings,
        beside_polls: int = CONNECTIONS_BESIDE_POLLS,
    ) -> None:
        self._sdk = client
        self._fast = fast
        self._closings = closings
        self._uses_fast = fast is not None
        self._log = log
        self._name = name
        self._gate = asyncio.Semaphore(beside_polls if fast else CONNECTIONS)
        self._calls = 0
        #: Whether a create was answered without a redirect.
        self._creates_directly = False
        self._has_created = False
        self._first_create = asyncio.Event()
        self._retired = False

    async def send(self, request: ApiRequest[T]) -> T:
        """
        Send one request.

        :raises ApiRequestFailed: with what went wrong.
        """
        self._calls += 1
        try:
            if request.method == "GET" and not request.query:
                with suppress(UseSdkInsteadError):
                    return await self._send_past_sdk(request)
            async with self._gate:
                if request.pays:
                    await self._after_the_first_create()
                with suppress(UseSdkInsteadError):
                    return await self._send_past_sdk(request)
                return await sdk.asend(self._sdk, request, on_response=partial(self._note, request))
        finally:
            if request.pays:
                self._first_create.set()
            self._calls -= 1
            self._close_if_done()

    async def _send_past_sdk(self, request: ApiRequest[T]) -> T:
        if self._fast is None or not self._uses_fast or not self._may_pass_sdk(request):
            raise UseSdkInsteadError
        try:
            return await send_past_sdk(self._fast, request)
        except RedirectedError:
            self._use_sdk_from_now_on()
            if request.pays:
                raise redirected(request) from None
            raise

    async def _after_the_first_create(self) -> None:
        if not self._has_created:
            self._has_created = True
        elif not self._first_create.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_CREATE_WITHIN):
                    await self._first_create.wait()

    def _may_pass_sdk(self, request: ApiRequest[Any]) -> bool:
        if request.query or request.method == "DELETE":
            return False
        if request.method == "POST" and request.body is not None:
            return request.pays and self._creates_directly
        return True

    def _note(self, request: ApiRequest[Any], response: httpx2.Response) -> None:
        if request.pays and not response.history:
            self._creates_directly = True

    def _use_sdk_from_now_on(self) -> None:
        """Remember it: each further poll would be sent twice."""
        if self._uses_fast:
            self._uses_fast = False
            self._gate = asyncio.Semaphore(CONNECTIONS)
            self._log.warning(
                "The server of connection %s redirects. Its polls go through the SDK's client from now on, "
                "which follows, at several times the CPU. To avoid it, set the host to where it redirects",
                self._name,
            )

    def retire(self) -> None:
        """Close as soon as no request is under way."""
        self._retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._retired and not self._calls:
            self._closings.begin(self._close())

    async def _close(self) -> None:
        try:
            if self._fast is not None:
                await self._fast.close()
        finally:
            await self._sdk.close()


async def send_past_sdk(fast: FastPolls, request: ApiRequest[T]) -> T:
    """
    Send a request past the SDK's client, as that would have sent it.

    :raises ApiRequestFailed: with what went wrong, the same as with the SDK's client.
    :raises UseSdkInsteadError: if the SDK's client has to send it.
    """
    request = sdk.bounded(request, fast.client)
    within, connect_within = sdk.seconds_of(request)
    redact = redact_of(fast.client)
    with failing(request, redact):
        try:
            with leaving(by=request.leave_by):
                reply = await fast.send(request, within=within, connect_within=connect_within)
        except httpx2.TransportError as error:
            raise no_answer(request, error) from error
        except TooLargeError:
            raise
        except httpx2.DecodingError as error:
            raise ValueError(str(error)) from None
        if reply.status >= _ERROR:
            raise status_error(request, status=reply.status, headers=reply.headers, content=reply.content)
        return await sdk.aread_answer(
            request, reply.content, reply.headers, status=reply.status, redact=redact
        )
