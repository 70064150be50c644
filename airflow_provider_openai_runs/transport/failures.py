# SPDX-License-Identifier: Apache-2.0
"""
What went wrong with a call, in the terms that decisions need.

Whatever a call raises becomes ``ApiRequestFailed``: a wait goes on after it, any other error would end it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import httpx2
import openai

from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.text import MAX_STATUS, message_text
from airflow_provider_openai_runs.transport.secrets import Redact
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest

_log = logging.getLogger(__name__)

_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
_UNWRITABLE = (
    "The connection's key, or one of its headers, holds a character that no HTTP header may hold, such as a "
    "line break or a curly quote (it is not shown here, since it may be the key). Nothing was sent. Mend the "
    "connection"
)
_RETRY_LATER = frozenset({409, 429, 503})
_ACCESS_DENIED = frozenset({401, 403})
_REQUEST_TIMEOUT = 408
_NOT_FOUND = 404
_SERVER_ERROR = 500
_NOT_IMPLEMENTED = 501


class UseSdkInsteadError(Exception):
    """The SDK's client has to make this call: raised by the fast way, and never seen above this package."""


@contextmanager
def failing(call: ApiRequest[Any], redact: Redact) -> Iterator[None]:
    """
    Let nothing but ``ApiRequestFailed`` out of a call, and ``UseSdkInsteadError``, which is no failure.

    What is raised has no cause: the SDK's errors hold the whole body, and what it quotes, and a task's log
    prints a chain to its end.

    :param redact: takes the connection's secrets out of text.
    :raises ApiRequestFailed: for every other error.
    """
    try:
        yield
    except (ApiRequestFailed, UseSdkInsteadError):
        raise
    except Exception as error:  # noqa: BLE001 # its sentence, its type or its place is kept
        if _cannot_be_written(error):
            failure = RequestFailure(kind=FailureKind.ACCESS_DENIED, text=_UNWRITABLE)
            raise ApiRequestFailed(failure, pays=call.pays) from None
        if isinstance(error, openai.OpenAIError):
            raise ApiRequestFailed(_failure(error, redact), pays=call.pays) from None
        if isinstance(error, ValueError | RecursionError):
            raise unreadable(call, error, redact=redact) from None
        _report_once(type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
        text = f"{call.method} {call.path} ended in {type(error).__name__}; the log says where"
        raise ApiRequestFailed(
            RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text=message_text(text)), pays=call.pays
        ) from None


def not_sent(error: Exception) -> ApiRequestFailed:
    """Return the failure of a call for which there is no client: its connection cannot be used just now."""
    unusable = isinstance(error, OpenAIRunError)
    kind = FailureKind.ACCESS_DENIED if unusable else FailureKind.NOT_SENT
    return ApiRequestFailed(RequestFailure(kind=kind, text=message_text(error) or type(error).__name__))


def unreadable(
    call: ApiRequest[Any], error: Exception, *, redact: Redact, status: int | None = None
) -> ApiRequestFailed:
    """Return the failure of a call whose answer cannot be read."""
    text = message_text(f"{call.method} {call.path} was answered unreadably: {error}", redact=redact)
    failure = RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text=text, http_status=status)
    return ApiRequestFailed(failure, pays=call.pays)


def no_answer(call: ApiRequest[Any], error: httpx2.TransportError) -> openai.APIConnectionError:
    """Return the error that the SDK makes of a call without an answer."""
    late = isinstance(error, httpx2.TimeoutException)
    kind = openai.APITimeoutError if late else openai.APIConnectionError
    return kind(request=httpx2.Request(call.method, call.path))


def status_error(
    call: ApiRequest[Any], *, status: int, headers: Mapping[str, str], content: bytes
) -> openai.APIStatusError:
    """Return the error that the SDK makes of a reply with an error's status."""
    body: Any = content.decode(errors="replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(body)
    request = httpx2.Request(call.method, call.path)
    # Its body has been unpacked already.
    kept = {name: value for name, value in headers.items() if name != "content-encoding"}
    response = httpx2.Response(status, headers=kept, request=request)
    detail = body.get("error", body) if isinstance(body, dict) else body
    return openai.APIStatusError(f"Error code: {status}", response=response, body=detail)


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


def _failure(error: openai.OpenAIError, redact: Redact) -> RequestFailure:
    if isinstance(error, openai.APIStatusError):
        return _rejected(error, redact)
    cause = error.__cause__
    sent = isinstance(error, openai.APIError) and (not isinstance(cause, _NEVER_SENT) or _redirected(error))
    text = f"{error} ({type(cause).__name__}: {cause})" if cause else str(error)
    return RequestFailure(
        kind=FailureKind.OUTCOME_UNKNOWN if sent else FailureKind.NOT_SENT,
        text=message_text(text, redact=redact),
    )


def _redirected(error: openai.APIError) -> bool:
    """Tell whether a server had answered with a redirect, and may have acted on the request."""
    cause = error.__cause__
    with contextlib.suppress(RuntimeError):  # nobody knows what was asked last
        return isinstance(cause, httpx2.RequestError) and cause.request.url != error.request.url
    return False


def _rejected(error: openai.APIStatusError, redact: Redact) -> RequestFailure:
    status = error.status_code
    code = message_text(error.code, limit=MAX_STATUS, redact=redact) if isinstance(error.code, str) else None
    if status in _ACCESS_DENIED:
        kind = FailureKind.ACCESS_DENIED
    elif status == _NOT_FOUND:
        kind = FailureKind.NOT_FOUND
    elif code == "insufficient_quota":
        kind = FailureKind.NO_QUOTA
    elif status in _RETRY_LATER:
        kind = FailureKind.RETRY_LATER
    elif status == _NOT_IMPLEMENTED:
        kind = FailureKind.REJECTED
    elif status >= _SERVER_ERROR or status == _REQUEST_TIMEOUT:
        kind = FailureKind.OUTCOME_UNKNOWN
    else:
        kind = FailureKind.REJECTED
    return RequestFailure(
        kind=kind,
        text=message_text(_message(error), redact=redact),
        http_status=status,
        code=code,
        param=message_text(error.param, limit=MAX_STATUS, redact=redact)
        if isinstance(error.param, str)
        else None,
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
