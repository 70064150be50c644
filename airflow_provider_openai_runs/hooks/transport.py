# SPDX-License-Identifier: Apache-2.0
"""
Sends calls through the public ``get`` and ``post`` of the SDK's clients.

Authentication, base URL, proxies and TLS stay the SDK's. Its retries are switched off: it sends no
idempotency key, so that a time-out on create would start a second run, and a flow is patient by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import httpx2
import openai

from airflow_provider_openai_runs.hooks.bounded import MAX_BODY
from airflow_provider_openai_runs.hooks.direct import DirectGets, NotPlain, PlainReply
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure, safe_text
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest

T = TypeVar("T")
_log = logging.getLogger(__name__)

# httpx2 writes an INFO line for each request, which in a triggerer is one for each look at each run. A level
# that a deployment has set itself stays.
if logging.getLogger("httpx2").level == logging.NOTSET:
    logging.getLogger("httpx2").setLevel(logging.WARNING)

_CONNECT_TIMEOUT = 10.0
_DEFAULT_TIMEOUT = 60.0
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
_UNWRITABLE = (
    "The connection's key, or one of its headers, holds a character that no HTTP header may hold, such as a "
    "line break or a curly quote (it is not shown here, since it may be the key). Nothing was sent. Mend the "
    "connection"
)
_LARGE = 256 * 1024
_BUSY = frozenset({409, 429, 503})
_KEY_REFUSED = frozenset({401, 403})
_REQUEST_TIMEOUT = 408
_NOT_FOUND = 404
_REFUSED = 400
_SERVER_ERROR = 500
_NOT_IMPLEMENTED = 501


def send(client: openai.OpenAI, call: ApiRequest[T]) -> T:
    """
    Send one call and read its answer.

    :raises CallFailed: with what went wrong.
    """
    with _failing(call):
        if call.method == "GET":
            response = client.get(call.path, cast_to=httpx2.Response, options=_options(call))
        else:
            send_body = client.delete if call.method == "DELETE" else client.post
            response = send_body(call.path, cast_to=httpx2.Response, body=call.body, options=_options(call))
        return _read(call, response)


async def asend(client: openai.AsyncOpenAI, call: ApiRequest[T]) -> T:
    """Send one call and read its answer, without blocking the event loop."""
    with _failing(call):
        if call.method == "GET":
            response = await client.get(call.path, cast_to=httpx2.Response, options=_options(call))
        else:
            send_body = client.delete if call.method == "DELETE" else client.post
            response = await send_body(
                call.path, cast_to=httpx2.Response, body=call.body, options=_options(call)
            )
        return await _aread(call, response)


async def direct_get(direct: DirectGets, call: ApiRequest[T]) -> T:
    """
    Send a GET request past the SDK's client, as it would have sent it.

    :raises CallFailed: with what went wrong, the same as with the SDK's client.
    :raises NotPlain: if the SDK's client has to send it.
    """
    timeout = call.timeout or _DEFAULT_TIMEOUT
    with _failing(call):
        try:
            reply = await direct.get(call, within=timeout, connect_within=min(timeout, _CONNECT_TIMEOUT))
        except httpx2.TransportError as error:
            late = isinstance(error, httpx2.TimeoutException)
            kind = openai.APITimeoutError if late else openai.APIConnectionError
            raise kind(request=httpx2.Request("GET", call.path)) from error
        if reply.status_code >= _REFUSED:
            raise _status_error(call, reply)
        return await _aread(call, reply)


@contextmanager
def _failing(call: ApiRequest[Any]) -> Iterator[None]:
    """Let nothing but ``CallFailed`` out of a call: a wait goes on after it, and any other error ends it."""
    try:
        yield
    except (ApiRequestFailed, NotPlain):
        raise
    except Exception as error:
        if _cannot_be_written(error):
            # Without its cause, whose text is the header: it would be logged with the traceback.
            failure = RequestFailure(kind=FailureKind.ACCESS_DENIED, text=_UNWRITABLE)
            raise ApiRequestFailed(failure, pays=call.pays) from None
        if isinstance(error, openai.OpenAIError):
            raise ApiRequestFailed(_failure(error), pays=call.pays) from error
        if isinstance(error, ValueError | RecursionError):
            raise _unreadable(call, error) from error
        _report_once(type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
        text = f"{call.method} {call.path} ended in {type(error).__name__}; the log says where"
        raise ApiRequestFailed(
            RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text=safe_text(text)), pays=call.pays
        ) from None


def _cannot_be_written(error: Exception) -> bool:
    """Whether HTTP has no way to write a header, such as one with a line break."""
    cause = error.__cause__
    illegal = isinstance(cause, httpx2.LocalProtocolError) and "header" in str(cause).lower()
    return illegal or isinstance(error, UnicodeEncodeError)


@lru_cache(maxsize=100)
def _report_once(name: str, where: str) -> None:
    """Log where an error came from, but not what it says, which may be a secret."""
    _log.error(
        "A call ended in %s, which should not happen. Please report it. It came from:\n%s", name, where
    )


def not_sent(error: Exception) -> ApiRequestFailed:
    """Return the trouble of a call for which there is no client: its connection cannot be used just now."""
    unusable = isinstance(error, OpenAIRunError)
    kind = FailureKind.ACCESS_DENIED if unusable else FailureKind.NOT_SENT
    return ApiRequestFailed(RequestFailure(kind=kind, text=safe_text(error) or type(error).__name__))


def _options(call: ApiRequest[Any]) -> Any:
    timeout = call.timeout or _DEFAULT_TIMEOUT
    return {
        "headers": dict(call.headers),
        "params": dict(call.query),
        "timeout": httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
        "max_retries": 0,
    }


def _read(call: ApiRequest[T], response: httpx2.Response | PlainReply) -> T:
    try:
        data = _json_object(response.content)
        return call.read(ApiReply(data=data, headers=response.headers))
    except (ValueError, RecursionError) as error:
        raise _unreadable(call, error, response.status_code) from error


async def _aread(call: ApiRequest[T], response: httpx2.Response | PlainReply) -> T:
    """Read a large answer beside the event loop, which other waits need; a small one is quicker read here."""
    if len(response.content) <= _LARGE:
        return _read(call, response)
    return await asyncio.to_thread(_read, call, response)


def _unreadable(call: ApiRequest[Any], error: Exception, status: int | None = None) -> ApiRequestFailed:
    text = safe_text(f"{call.method} {call.path} was answered unreadably: {error}")
    failure = RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text=text, http_status=status)
    return ApiRequestFailed(failure, pays=call.pays)


def _status_error(call: ApiRequest[Any], reply: PlainReply) -> openai.APIStatusError:
    """Return the error that the SDK makes of such a reply."""
    body: Any = reply.content.decode(errors="replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(body)
    request = httpx2.Request(call.method, call.path)
    response = httpx2.Response(reply.status_code, headers=reply.headers, request=request)
    detail = body.get("error", body) if isinstance(body, dict) else body
    return openai.APIStatusError(f"Error code: {reply.status_code}", response=response, body=detail)


def _json_object(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY:
        raise ValueError(f"its body has {len(body)} bytes")
    data = json.loads(body)
    if not isinstance(data, dict):
        raise ValueError(f"its body is not a JSON object but a {type(data).__name__}")  # noqa: TRY004 # no bug
    return data


def _failure(error: openai.OpenAIError) -> RequestFailure:
    if isinstance(error, openai.APIStatusError):
        return _status_failure(error)
    cause = error.__cause__
    sent = isinstance(error, openai.APIError) and (not isinstance(cause, _NEVER_SENT) or _redirected(error))
    text = f"{error} ({type(cause).__name__}: {cause})" if cause else str(error)
    return RequestFailure(
        kind=FailureKind.OUTCOME_UNKNOWN if sent else FailureKind.NOT_SENT, text=safe_text(text)
    )


def _redirected(error: openai.APIError) -> bool:
    """Tell whether a server had answered with a redirect, and may have acted on the request."""
    cause = error.__cause__
    with contextlib.suppress(RuntimeError):  # nobody knows what was asked last
        return isinstance(cause, httpx2.RequestError) and cause.request.url != error.request.url
    return False


def _status_failure(error: openai.APIStatusError) -> RequestFailure:
    status = error.status_code
    code = error.code if isinstance(error.code, str) else None
    if status in _KEY_REFUSED:
        kind = FailureKind.ACCESS_DENIED
    elif status == _NOT_FOUND:
        kind = FailureKind.NOT_FOUND
    elif code == "insufficient_quota":
        kind = FailureKind.NO_QUOTA
    elif status in _BUSY:
        kind = FailureKind.RETRY_LATER
    elif status == _NOT_IMPLEMENTED:
        kind = FailureKind.REJECTED
    elif status >= _SERVER_ERROR or status == _REQUEST_TIMEOUT:
        kind = FailureKind.OUTCOME_UNKNOWN
    else:
        kind = FailureKind.REJECTED
    return RequestFailure(
        kind=kind,
        text=safe_text(_message(error)),
        http_status=status,
        code=code,
        param=error.param if isinstance(error.param, str) else None,
        retry_after=reading.poll_after(error.response.headers),
    )


def _message(error: openai.APIStatusError) -> str:
    """Return the server's own sentence; compatible servers write it under other names."""
    body = error.body
    if isinstance(body, dict):
        for key in ("message", "detail", "error"):
            if isinstance(body.get(key), str) and body[key]:
                return str(body[key])
        if complaints := "; ".join(_complaints(body.get("detail"))):
            return complaints
    return error.message


def _complaints(detail: object) -> Iterator[str]:
    """Read FastAPI's list of wrong fields; what stood in them is left out, it may be a prompt."""
    for item in reading.objects_of(detail):
        where = item.get("loc")
        place = ".".join(map(str, where)) if isinstance(where, list) else "body"
        if isinstance(item.get("msg"), str):
            yield f"{place}: {item['msg']}"
