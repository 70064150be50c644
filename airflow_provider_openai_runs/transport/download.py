# SPDX-License-Identifier: Apache-2.0
"""Sends a request whose answer is kept piece by piece, however large, by the client of its connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2
import openai

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.transport import limits, time_limit
from airflow_provider_openai_runs.transport.bodies import error_in
from airflow_provider_openai_runs.transport.failures import error_in_answer, failing, no_answer, unreadable
from airflow_provider_openai_runs.transport.sdk import options_of, seconds_of
from airflow_provider_openai_runs.transport.secrets import redact_errors, redact_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest, Receiver

T = TypeVar("T")

_PIECE = 256 * 1024


def send(client: openai.OpenAI, request: ApiRequest[T]) -> T:
    """
    Send a request, let its ``receiver`` take the body, and read what that has to say.

    :raises ApiRequestFailed: with what went wrong.
    """
    receiver, redact = request.receiver, redact_of(client)
    assert receiver is not None  # noqa: S101 # for mypy: the caller has seen to it
    receiver.restart()
    with failing(request, redact):
        with time_limit.within(seconds_of(request)[0]), limits.reading(limit=receiver.limit):
            # With a stream the SDK returns the response unread, whatever its types say.
            response: Any = client.get(
                request.path,
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=openai.Stream[Any],
                options=options_of(request),
            )
            try:
                for piece in response.iter_bytes(_PIECE):
                    with _disk_errors():
                        receiver.take(piece)
            except httpx2.TransportError as error:
                raise no_answer(request, error) from error
            except httpx2.DecodingError as error:
                raise unreadable(request, error, redact=redact, status=response.status_code) from None
            finally:
                response.close()
        try:
            data = redact_errors(_read(receiver), redact)
            if data and (said := error_in(data)) is not None:
                raise error_in_answer(
                    request, said, response.headers, status=response.status_code, redact=redact
                )
            return request.read(ApiReply(data=data, headers=response.headers))
        except (ValueError, RecursionError) as error:
            raise unreadable(request, error, redact=redact, status=response.status_code) from None


def _read(receiver: Receiver) -> dict[str, Any]:
    with _disk_errors():
        return dict(receiver.read())


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Say that it is this machine's disk which fails, and not the server."""
    try:
        yield
    except OSError as error:
        text = f"The disk of this machine did not keep what the server sent: {message_text(error)}"
        raise ApiRequestFailed(RequestFailure(kind=FailureKind.REJECTED, text=text)) from None
