# SPDX-License-Identifier: Apache-2.0
"""
What went wrong with a request, in the terms that decisions need.

Whatever a request raises becomes ``ApiRequestFailed``. A wait goes on after it; any other error would end it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httpx2
import openai

from airflow_provider_openai_runs.runs.error_codes import (
    CodeMeaning,
    meaning_of,
    meaning_of_run,
    was_not_taken,
)
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.text import MAX_STATUS, message_text
from airflow_provider_openai_runs.transport.limits import TooLargeError
from airflow_provider_openai_runs.transport.not_usable import not_usable
from airflow_provider_openai_runs.transport.secrets import Redact
from airflow_provider_openai_runs.transport.sentences import sentence_in, sentence_of
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest
from airflow_provider_openai_runs.wire.retry_after import retry_after

_log = logging.getLogger(__name__)

#: A proxy that refuses to connect has not been asked for more.
_NEVER_SENT = (
    *(httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout),
    *(httpx2.UnsupportedProtocol, httpx2.ProxyError),
)
#: Not accepted, whoever wrote it: too many requests, and something that the request depends on has failed.
_RETRY_LATER = frozenset({424, 425, 429})
#: Not accepted, if the API itself says so.
_BUSY = frozenset({409, 503})
_FORBIDDEN = 403
_ACCESS_DENIED = frozenset({401, _FORBIDDEN})
#: The second is what gateways say when a client seems to have hung up.
_REQUEST_TIMEOUTS = frozenset({408, 499})
#: Not 500 or 504: whoever says so may have begun.
_NO_ROOM = frozenset({503, 529})
_NOT_FOUND = 404
_SERVER_ERROR = 500
#: What tells an id from the name of a route.
_ID = re.compile(r"[_\d]")
_SHORTEST_ID = 5
_NOT_IMPLEMENTED = 501


class UseSdkInsteadError(Exception):
    """The SDK's client has to send this request: raised by the fast polls, never seen above this package."""


class RedirectedError(UseSdkInsteadError):
    """The server has answered with a redirect, which the SDK's client follows."""


@contextmanager
def failing(request: ApiRequest[Any], redact: Redact) -> Iterator[None]:
    """
    Let nothing but ``ApiRequestFailed`` out of a request, and ``UseSdkInsteadError``, which is no failure.

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
        if (failure := not_usable(error, redact)) is not None:
            raise ApiRequestFailed(failure, pays=request.pays) from None
        if (large := _too_large(error)) is not None and not request.pays:
            failure = RequestFailure(kind=FailureKind.TOO_LARGE, text=str(large))
            raise ApiRequestFailed(failure) from None
        if isinstance(error, openai.OpenAIError):
            raise ApiRequestFailed(_failure(error, redact), pays=request.pays) from None
        if isinstance(error, ValueError | RecursionError):
            raise unreadable(request, error, redact=redact) from None
        _report_once(type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
        text = f"{request.method} {request.path} ended in {type(error).__name__}; the log says where"
        raise ApiRequestFailed(
            RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text=message_text(text)), pays=request.pays
        ) from None


def not_sent(error: Exception) -> ApiRequestFailed:
    """Return the failure of a request without a client: its connection cannot be used just now."""
    unusable = isinstance(error, OpenAIRunError) and not error.retryable
    kind = FailureKind.ACCESS_DENIED if unusable else FailureKind.NOT_SENT
    return ApiRequestFailed(RequestFailure(kind=kind, text=message_text(error) or type(error).__name__))


def unreadable(
    request: ApiRequest[Any],
    error: Exception,
    *,
    redact: Redact,
    status: int | None = None,
    said: str | None = None,
) -> ApiRequestFailed:
    """Return the failure of a request whose answer cannot be read; ``said`` is a sentence in it."""
    why = f"{error}; it says: {said}" if said else error
    text = f"{request.method} {request.path} was answered in an unreadable form: {why}"
    text = message_text(text, redact=redact)
    failure = RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text=text, http_status=status)
    return ApiRequestFailed(failure, pays=request.pays)


def no_answer(request: ApiRequest[Any], error: httpx2.TransportError) -> openai.APIConnectionError:
    """Return the error that the SDK makes of a request without an answer."""
    late = isinstance(error, httpx2.TimeoutException)
    kind = openai.APITimeoutError if late else openai.APIConnectionError
    return kind(request=httpx2.Request(request.method, request.path))


def status_error(
    request: ApiRequest[Any], *, status: int, headers: Mapping[str, str], content: bytes
) -> openai.APIStatusError:
    """Return the error that the SDK makes of a reply with an error's status."""
    body: Any = content.decode(errors="replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(body)
    sent = httpx2.Request(request.method, request.path)
    # Its body has been unpacked already.
    kept = {name: value for name, value in headers.items() if name.lower() != "content-encoding"}
    response = httpx2.Response(status, headers=kept, request=sent, content=content)
    detail = body.get("error", body) if isinstance(body, dict) else body
    return openai.APIStatusError(f"Error code: {status}", response=response, body=detail)


def redirected(request: ApiRequest[Any]) -> ApiRequestFailed:
    """Return the failure of a request that pays and was redirected: it must not be sent once more."""
    text = f"{request.method} {request.path} was answered with a redirect; the server may have taken it"
    failure = RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text=message_text(text))
    return ApiRequestFailed(failure, pays=request.pays)


def _too_large(error: BaseException) -> TooLargeError | None:
    found: BaseException | None = error
    while found is not None and not isinstance(found, TooLargeError):
        found = found.__cause__
    return found


@lru_cache(maxsize=100)
def _report_once(name: str, where: str) -> None:
    """Log where an error came from, but not what it says, which may be a secret."""
    _log.error(
        "A request ended in %s, which should not happen. Please report it. It came from:\n%s", name, where
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
    """Return whether a server had answered with a redirect, and may have acted on the request."""
    cause = error.__cause__
    with contextlib.suppress(RuntimeError):  # nobody knows what was asked last
        return isinstance(cause, httpx2.RequestError) and cause.request.url != error.request.url
    return False


def error_in_answer(
    request: ApiRequest[Any],
    error: Mapping[str, Any],
    headers: Mapping[str, str],
    *,
    status: int,
    redact: Redact,
) -> ApiRequestFailed:
    """Return the failure of a request that was answered with success, and with nothing but an error in it."""
    codes = (error.get("code"), error.get("type"))
    text = sentence_in(error)
    kind = {
        CodeMeaning.ACCOUNT: FailureKind.NO_QUOTA,
        CodeMeaning.PERMANENT: FailureKind.REJECTED,
    }.get(meaning_of_run(codes, text or "") or CodeMeaning.TRANSIENT, FailureKind.NOT_ACCEPTED)
    text = text or f"an error without a sentence: {json.dumps(dict(error), default=str)}"
    failure = RequestFailure(
        kind=kind,
        text=message_text(text, redact=redact),
        http_status=status,
        code=_name(codes[0], redact),
        retry_after=retry_after(headers, said=text, body=error),
    )
    return ApiRequestFailed(failure, pays=request.pays)


def _rejected(error: openai.APIStatusError, redact: Redact) -> RequestFailure:
    text = sentence_of(error)
    return RequestFailure(
        kind=_kind_of(error, text),
        text=message_text(text, redact=redact),
        http_status=error.status_code,
        code=_name(error.code, redact),
        param=_name(error.param, redact),
        retry_after=retry_after(error.response.headers, said=text, body=error.body),
        names_it=error.status_code == _NOT_FOUND and _names_what_was_asked_for(error, text),
    )


def _names_what_was_asked_for(error: openai.APIStatusError, text: str) -> bool:
    """Whether a sentence has an id of the request's path in it, and not the path itself."""
    with contextlib.suppress(RuntimeError):  # nobody knows what was asked
        path = unquote(error.request.url.path)
        ids = [part for part in path.split("/") if len(part) >= _SHORTEST_ID and _ID.search(part)]
        return any(part in text and f"/{part}" not in text for part in ids)
    return False


def _name(value: object, redact: Redact) -> str | None:
    return message_text(value, limit=MAX_STATUS, redact=redact) if isinstance(value, str) else None


def _kind_of(error: openai.APIStatusError, text: str) -> FailureKind:
    """Sort an error by its code, and where that says nothing by its HTTP status."""
    status = error.status_code
    body = error.body if isinstance(error.body, dict) else {}
    names = tuple(name for name in (error.code, body.get("type")) if not str(name).isdecimal())
    meaning = meaning_of(names, text)
    if meaning is CodeMeaning.ACCOUNT:
        return FailureKind.NO_QUOTA
    if meaning is CodeMeaning.PERMANENT or status == _NOT_IMPLEMENTED:
        return FailureKind.REJECTED
    if status == _FORBIDDEN and _asks_to_wait(error):
        return FailureKind.RETRY_LATER  # Azure's API Management says so of a volume quota
    if status in _ACCESS_DENIED:
        return FailureKind.ACCESS_DENIED
    if status == _NOT_FOUND:
        return FailureKind.NOT_FOUND
    if status in _RETRY_LATER or (status in _BUSY and _is_of_the_api(error)):
        return FailureKind.RETRY_LATER
    if status in _NO_ROOM and was_not_taken(names, text):
        return FailureKind.RETRY_LATER
    if status >= _SERVER_ERROR or status in _REQUEST_TIMEOUTS:
        return FailureKind.OUTCOME_UNKNOWN
    # Not by the type: some servers write "server_error" there, whatever is wrong.
    passes = status in _BUSY or meaning_of(names[:1] if error.code else (), text) is CodeMeaning.TRANSIENT
    return FailureKind.NOT_ACCEPTED if passes else FailureKind.REJECTED


def _asks_to_wait(error: openai.APIStatusError) -> bool:
    return not {"retry-after", "retry-after-ms"}.isdisjoint(error.response.headers)


def _is_of_the_api(error: openai.APIStatusError) -> bool:
    """Whether the API itself has written an error: a mesh writes its own after the API took the request."""
    if _asks_to_wait(error):
        return True
    try:
        written = json.loads(error.response.content)
    except (ValueError, RecursionError, httpx2.ResponseNotRead):
        return False
    inner = reading.object_of(reading.object_of(written).get("error"))
    return isinstance(inner.get("message"), str) and any(
        isinstance(inner.get(name), str) and not inner[name].isdecimal() for name in ("type", "code")
    )
