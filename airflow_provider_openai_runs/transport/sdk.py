# SPDX-License-Identifier: Apache-2.0
"""
Sends requests through the public ``get``, ``post`` and ``delete`` of the SDK's clients.

Authentication, base URL, proxies and TLS stay the SDK's. Its retries are switched off: it sends no
idempotency key, so that a time-out on create would start a second run, and a flow tries again by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from airflow_provider_openai_runs.transport.bodies import error_in, json_object
from airflow_provider_openai_runs.transport.failures import (
    error_in_answer,
    failing,
    no_answer,
    unreadable,
)
from airflow_provider_openai_runs.transport.leaving import leaving
from airflow_provider_openai_runs.transport.limits import reading
from airflow_provider_openai_runs.transport.secrets import Redact, redact_errors, redact_of
from airflow_provider_openai_runs.transport.sentences import complaint_in, sentence_in
from airflow_provider_openai_runs.transport.time_limit import not_in_time
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest, Upload

if TYPE_CHECKING:
    import openai

T = TypeVar("T")

# httpx2 writes an INFO line for each request, which in a triggerer is one for each poll of each run. A level
# that a deployment has set itself stays.
if logging.getLogger("httpx2").level == logging.NOTSET:
    logging.getLogger("httpx2").setLevel(logging.WARNING)

_OK = 200
_CONNECT_SECONDS = 10.0
_DEFAULT_SECONDS = 60.0
#: A larger answer is parsed beside the event loop.
_LARGE = 256 * 1024


def send(client: openai.OpenAI, request: ApiRequest[T]) -> T:
    """
    Send one request and read its answer; a ``BoundedClient`` bounds the whole time.

    :raises ApiRequestFailed: with what went wrong.
    """
    redact, request = redact_of(client), bounded(request, client)
    with (
        failing(request, redact),
        reading(head_is_enough=request.head_is_enough),
        leaving(by=request.leave_by),
    ):
        if request.method == "GET":
            response = client.get(request.path, cast_to=httpx2.Response, options=options_of(request))
        elif request.upload is not None:
            response = _uploaded(client, request, request.upload)
        else:
            send_body = client.delete if request.method == "DELETE" else client.post
            response = send_body(
                request.path, cast_to=httpx2.Response, body=request.body, options=options_of(request)
            )
        return read_answer(
            request, response.content, response.headers, status=response.status_code, redact=redact
        )


def _uploaded(client: openai.OpenAI, request: ApiRequest[Any], upload: Upload) -> httpx2.Response:
    options = options_of(request)
    options["headers"] |= {"Content-Type": "multipart/form-data"}
    with upload.path.open("rb") as file:
        return client.post(
            request.path,
            cast_to=httpx2.Response,
            body=request.body,
            files={"file": (upload.name, file)},
            options=options,
        )


async def asend(
    client: openai.AsyncOpenAI,
    request: ApiRequest[T],
    *,
    on_response: Callable[[httpx2.Response], None] = lambda _: None,
) -> T:
    """
    Send one request and read its answer, without blocking the event loop.

    :param on_response: is shown an answer with success before it is read.
    :raises ApiRequestFailed: with what went wrong.
    """
    redact, request = redact_of(client), bounded(request, client)
    with failing(request, redact):
        try:
            with reading(head_is_enough=request.head_is_enough), leaving(by=request.leave_by):
                async with asyncio.timeout(seconds_of(request)[0]):
                    response = await _asend(client, request)
        except TimeoutError:
            late = not_in_time(seconds_of(request)[0])
            raise no_answer(request, late) from late
        on_response(response)
        return await aread_answer(
            request, response.content, response.headers, status=response.status_code, redact=redact
        )


async def _asend(client: openai.AsyncOpenAI, request: ApiRequest[Any]) -> httpx2.Response:
    if request.method == "GET":
        return await client.get(request.path, cast_to=httpx2.Response, options=options_of(request))
    send_body = client.delete if request.method == "DELETE" else client.post
    return await send_body(
        request.path, cast_to=httpx2.Response, body=request.body, options=options_of(request)
    )


def bounded(request: ApiRequest[T], client: openai.OpenAI | openai.AsyncOpenAI) -> ApiRequest[T]:
    """
    Return the request within the ``timeout`` of the connection, where that has one of its own.

    Not one that pays: an answer that is not awaited is a run that nobody knows. ``timeouts`` is for those.
    Nor a file, which takes as long as it is large.
    """
    limit = client.timeout
    if request.pays or request.upload is not None or not isinstance(limit, (int, float)):
        return request
    return replace(request, timeout=min(request.timeout or _DEFAULT_SECONDS, limit))


def seconds_of(request: ApiRequest[Any]) -> tuple[float, float]:
    """Return the seconds that the whole request may take, and those for a new connection, of these."""
    within = request.timeout or _DEFAULT_SECONDS
    connect_within = min(within, _CONNECT_SECONDS)
    if request.leave_by is not None:
        # A third each, at most: for a free connection, its socket and its TLS.
        connect_within = min(connect_within, max(0.1, (request.leave_by - time.time()) / 3))
    return within, connect_within


def read_answer(request: ApiRequest[T], content: bytes, headers: Any, *, status: int, redact: Redact) -> T:
    """
    Read a whole answer.

    :param redact: takes the connection's secrets out of text.
    :raises ApiRequestFailed: if it is no JSON object, or not what the request asked for.
    """
    data: dict[str, Any] = {}
    try:
        data = redact_errors(json_object(content, head_is_enough=request.head_is_enough), redact)
        if (error_body := error_in(data)) is not None:
            raise error_in_answer(request, error_body, headers, status=status, redact=redact)
        return request.read(ApiReply(data=data, headers=headers, content=content))
    except (ValueError, RecursionError) as error:
        # Any other status of success says that something was accepted.
        if status == _OK and (error_body := complaint_in(data, pays=request.pays)) is not None:
            raise error_in_answer(request, error_body, headers, status=status, redact=redact) from None
        raise unreadable(request, error, said=sentence_in(data), redact=redact, status=status) from None


async def aread_answer(
    request: ApiRequest[T], content: bytes, headers: Any, *, status: int, redact: Redact
) -> T:
    """Read a large answer beside the event loop, which other waits need; a small one is quicker read here."""
    if len(content) <= _LARGE:
        return read_answer(request, content, headers, status=status, redact=redact)
    return await asyncio.to_thread(read_answer, request, content, headers, status=status, redact=redact)


def options_of(request: ApiRequest[Any]) -> Any:
    """Return a request's headers, query and time for the SDK."""
    within, connect_within = seconds_of(request)
    pool_within = within if request.leave_by is None else connect_within
    return {
        "headers": dict(request.headers),
        "params": dict(request.query),
        "timeout": httpx2.Timeout(within, connect=connect_within, pool=pool_within),
        "max_retries": 0,
    }
