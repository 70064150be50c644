# SPDX-License-Identifier: Apache-2.0
"""The lines of a batch's files: a request up, and its answer or its error down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.runs.error_codes import CodeMeaning, meaning_of
from airflow_provider_openai_runs.runs.processing import REFUSED_BY_BATCH, batch_refuses
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.text import MAX_STATUS, message_text
from airflow_provider_openai_runs.transport.bodies import loads
from airflow_provider_openai_runs.wire import reading, wire_of
from airflow_provider_openai_runs.wire.batches import ENDPOINT

#: No part of the requests of a batch, which runs in the background in any case.
_LEFT_OUT = frozenset({"background", "background_options", "stream", "stream_options"})
_PREFIX = "row-"
#: Any of these makes a body a response, and not an error alone.
_OF_RESPONSES = frozenset({"output", "status"})
_GOOD = range(200, 300)
_BAD_DAYS = frozenset({408, 409, 425, 429})
_SERVER_ERROR = 500
#: Of the number of a row.
_MOST_DIGITS = 20
#: Codes of requests that were never executed.
_NOT_EXECUTED = {
    "batch_expired": "expired: its batch was over before it was executed",
    "batch_cancelled": "its batch was cancelled before it was executed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    What a batch says of a row.

    :param response: the body of its response, if it has one.
    :param error: why it has none.
    :param retryable: of an error: whether another try may do better.
    :param was_executed: whether it came to its turn.
    :param was_refused_by_account: of an error: whether the account could not pay for it.
    :param may_be_billed: of an error: whether a run of it may have taken something.
    """

    row: int
    response: Mapping[str, Any] | None = None
    error: str = ""
    retryable: bool = False
    was_executed: bool = True
    was_refused_by_account: bool = False
    may_be_billed: bool = True


def refusal_of(body: Mapping[str, Any]) -> str | None:
    """Return why a request cannot be part of a batch; None if it can."""
    refused = [name for name in REFUSED_BY_BATCH if body.get(name) is not None]
    return batch_refuses(refused[0]) if refused else None


def to_line(row: int, body: Mapping[str, Any]) -> bytes:
    """
    Return the request of a row.

    :param body: of its create, as the operator's arguments make it.
    """
    request = RunRequest(
        kind=RunKind.RESPONSE, body={name: value for name, value in body.items() if name not in _LEFT_OUT}
    )
    sent = wire_of(request.kind).create(request, token=None, conn_id="").body
    value = {"custom_id": f"{_PREFIX}{row}", "method": "POST", "url": ENDPOINT, "body": sent}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Line | None:
    """Read what is said of a row; None if it is of no row."""
    try:
        value = reading.object_of(loads(line))
    except (ValueError, RecursionError):
        return None
    custom_id = reading.identifier(value.get("custom_id"))
    number = custom_id.removeprefix(_PREFIX)
    if number == custom_id or not (number.isascii() and number.isdecimal() and len(number) < _MOST_DIGITS):
        return None
    row, response = int(number), reading.object_of(value.get("response"))
    body = _body_of(response)
    status = reading.as_int(response.get("status_code"))
    is_good = status is None or status in _GOOD
    if is_good and not _OF_RESPONSES.isdisjoint(body):
        return Line(row=row, response=body)
    nothing = {"message": _why_no_response(body)} if is_good else {}
    error = reading.error_object(body.get("error")) or reading.error_object(value.get("error")) or nothing
    code = reading.name(error.get("code")) or reading.name(error.get("type")) or ""
    if code in _NOT_EXECUTED:
        return Line(
            row=row, error=_NOT_EXECUTED[code], retryable=True, was_executed=False, may_be_billed=False
        )
    text = message_text(error.get("message") or "no message")
    where = f"HTTP {status}" if status is not None else code
    said = f"{where}: {text}" if where else text
    was_refused = status is not None and _GOOD.stop <= status < _SERVER_ERROR
    meaning = meaning_of((code,) if code else (), text)
    may_pass = status is None or status in _BAD_DAYS or status >= _SERVER_ERROR
    return Line(
        row=row,
        error=said,
        retryable=may_pass if meaning is None else meaning is CodeMeaning.TRANSIENT,
        was_refused_by_account=meaning is CodeMeaning.ACCOUNT,
        may_be_billed=not was_refused,
    )


def _why_no_response(body: Mapping[str, Any]) -> str:
    """Say what stands where a response belongs, by its name or those of its members, and not what it says."""
    if not body:
        return "there is no response, and no object of JSON in its place"
    if (kind := reading.name(body.get("object"))) is not None:
        return f"the body is no response; its object is {kind!r}"
    return f"the body is no response; it has only {message_text(', '.join(map(str, body)), limit=MAX_STATUS)}"


def _body_of(response: Mapping[str, Any]) -> Mapping[str, Any]:
    body = response.get("body")
    if isinstance(body, str):  # OGX writes it as JSON in JSON
        with suppress(ValueError, RecursionError):
            body = loads(body.encode(errors="replace"))
    return reading.object_of(body)
