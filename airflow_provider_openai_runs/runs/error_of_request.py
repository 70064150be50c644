# SPDX-License-Identifier: Apache-2.0
"""From the trouble of one call to the error that a user reads."""

from __future__ import annotations

import re

from airflow_provider_openai_runs.runs.errors import (
    OpenAIRunError,
    RunCallError,
    RunConnectionError,
    RunNotFoundError,
    ThreadBusyError,
    ThreadsNotServedError,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.status import RunKind

_BAD_REQUEST = 400
_ROUTE_IS_MISSING = frozenset({405, 410, 501})
#: What a server says about a thing it does not know, as against a route it does not have.
_THING_IS_MISSING = re.compile(
    r"(?i)\b(no |unknown |with id|does not exist|model|\w*_[A-Za-z0-9]{6,}"
    r"|(thread|run|assistant)\b[^/<]* not found)"
)
#: How servers call an id that cannot be one of theirs, for which they answer 400 in place of 404.
_ID_IS_NONE = re.compile(r"(?i)\b(malformed|invalid|unknown)[\w ]* (id|identifier)\b|\bnot found\b")
_INVALID_URL = re.compile(r"(?i)invalid url|assistants api")


def error_of_request(failure: RequestFailure, *, doing: str, conn_id: str, kind: RunKind) -> OpenAIRunError:
    """
    Return the error for a call that failed for good.

    :param doing: what was attempted, as in "create a thread run on thread_1".
    """
    if kind is RunKind.THREAD_RUN and _route_is_missing(failure):
        return ThreadsNotServedError(
            f"Could not {doing}: the server of connection {conn_id!r} has no Assistants API ({failure}). "
            "OpenAI removed it on 2026-08-26. Use CreateResponseOperator there: assistant_id=... becomes "
            "model=... and instructions=..., the thread's message becomes input=..., thread_id=... "
            "becomes conversation=...; or point conn_id at a server that still speaks the API. See "
            "docs/assistants-sunset.md."
        )
    text = f"Could not {doing} (connection {conn_id!r}): {failure}."
    match failure.kind:
        case FailureKind.ACCESS_DENIED:
            if failure.http_status is None:
                return RunConnectionError(text)
            return RunConnectionError(
                f"{text} The server refused the key or its rights. Mend the connection, then clear the task."
            )
        case FailureKind.NO_QUOTA:
            return RunCallError(
                f"{text} The account has no quota left; waiting does not heal it.", retryable=False
            )
        case FailureKind.NOT_FOUND:
            return RunNotFoundError(text)
        case FailureKind.REJECTED if failure.active_run_id or failure.conversation_locked:
            busy = f"run {failure.active_run_id}" if failure.active_run_id else "another response"
            return ThreadBusyError(
                f"{text} It is busy with {busy}, which was left alone. Try again when it ended."
            )
        case FailureKind.REJECTED if failure.http_status == _BAD_REQUEST and _ID_IS_NONE.search(failure.text):
            return RunNotFoundError(text)
        case FailureKind.REJECTED:
            return RunCallError(f"{text} The same request would be refused again.", retryable=False)
        case _:
            return RunCallError(text, retry_after=failure.retry_after)


def _route_is_missing(failure: RequestFailure) -> bool:
    if failure.http_status in _ROUTE_IS_MISSING or _INVALID_URL.search(failure.text):
        return True
    return failure.kind is FailureKind.NOT_FOUND and not _THING_IS_MISSING.search(failure.text)
