# SPDX-License-Identifier: Apache-2.0
"""
Sends calls through the public ``get``, ``post`` and ``delete`` of the SDK's clients.

Authentication, base URL, proxies and TLS stay the SDK's. Its retries are switched off: it sends no
idempotency key, so that a time-out on create would start a second run, and a flow tries again by itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from airflow_provider_openai_runs.transport.failures import failing, no_answer, unreadable
from airflow_provider_openai_runs.transport.limits import MAX_BODY
from airflow_provider_openai_runs.transport.secrets import Redact, redact_errors, redact_of
from airflow_provider_openai_runs.transport.time_limit import not_in_time
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest

if TYPE_CHECKING:
    import openai

T = TypeVar("T")

# httpx2 writes an INFO line for each request, which in a triggerer is one for each poll of each run. A level
# that a deployment has set itself stays.
if logging.getLogger("httpx2").level == logging.NOTSET:
    logging.getLogger("httpx2").setLevel(logging.WARNING)

_CONNECT_SECONDS = 10.0
_DEFAULT_SECONDS = 60.0
#: A larger answer is parsed beside the event loop.
_LARGE = 256 * 1024


def send(client: openai.OpenAI, call: ApiRequest[T]) -> T:
    """
    Send one call and read its answer; its whole time is bounded where the HTTP client is a ``BoundedClient``.

    :raises CallFailed: with what went wrong.
    """
    redact = redact_of(client)
    with failing(call, redact):
        if call.method == "GET":
            response = client.get(call.path, cast_to=httpx2.Response, options=_options(call))
        else:
            send_body = client.delete if call.method == "DELETE" else client.post
            response = send_body(call.path, cast_to=httpx2.Response, body=call.body, options=_options(call))
        return read_answer(
            call, response.content, response.headers, status=response.status_code, redact=redact
        )


async def asend(client: openai.AsyncOpenAI, call: ApiRequest[T]) -> T:
    """
    Send one call and read its answer, without blocking the event loop.

    :raises CallFailed: with what went wrong.
    """
    redact = redact_of(client)
    with failing(call, redact):
        try:
            async with asyncio.timeout(seconds_of(call)[0]):
                response = await _asend(client, call)
        except TimeoutError:
            late = not_in_time(seconds_of(call)[0])
            raise no_answer(call, late) from late
        return await aread_answer(
            call, response.content, response.headers, status=response.status_code, redact=redact
        )


async def _asend(client: openai.AsyncOpenAI, call: ApiRequest[Any]) -> httpx2.Response:
    if call.method == "GET":
        return await client.get(call.path, cast_to=httpx2.Response, options=_options(call))
    send_body = client.delete if call.method == "DELETE" else client.post
    return await send_body(call.path, cast_to=httpx2.Response, body=call.body, options=_options(call))


def seconds_of(call: ApiRequest[Any]) -> tuple[float, float]:
    """Return the seconds that the whole call may take, and those for a new connection, of these."""
    within = call.timeout or _DEFAULT_SECONDS
    return within, min(within, _CONNECT_SECONDS)


def read_answer(call: ApiRequest[T], content: bytes, headers: Any, *, status: int, redact: Redact) -> T:
    """
    Read a whole answer.

    :param redact: takes the connection's secrets out of text.
    :raises CallFailed: if it is no JSON object, or not what the call asked for.
    """
    try:
        data = redact_errors(_json_object(content), redact)
        return call.read(ApiReply(data=data, headers=headers))
    except (ValueError, RecursionError) as error:
        raise unreadable(call, error, redact=redact, status=status) from None


async def aread_answer(
    call: ApiRequest[T], content: bytes, headers: Any, *, status: int, redact: Redact
) -> T:
    """Read a large answer beside the event loop, which other waits need; a small one is quicker read here."""
    if len(content) <= _LARGE:
        return read_answer(call, content, headers, status=status, redact=redact)
    return await asyncio.to_thread(read_answer, call, content, headers, status=status, redact=redact)


def _options(call: ApiRequest[Any]) -> Any:
    within, connect_within = seconds_of(call)
    return {
        "headers": dict(call.headers),
        "params": dict(call.query),
        "timeout": httpx2.Timeout(within, connect=connect_within),
        "max_retries": 0,
    }


def _json_object(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_BODY:
        raise ValueError(f"its body has {len(content)} bytes")
    data = json.loads(content)
    if not isinstance(data, dict):
        raise ValueError(f"its body is not a JSON object but a {type(data).__name__}")  # noqa: TRY004 # no bug
    return data
