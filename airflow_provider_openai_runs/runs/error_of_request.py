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
from airflow_provider_openai_runs.runs.failure import Trouble, TroubleKind
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


def error_of_call(trouble: Trouble, *, doing: str, conn_id: str, kind: RunKind) -> OpenAIRunError:
    """
    Return the error for a call that failed for good.

    :param doing: what was attempted, as in "create a thread run on thread_1".
    """
    if kind is RunKind.THREAD_RUN and _route_is_missing(trouble):
        return ThreadsNotServedError(
            f"Could not {doing}: the server of connection {conn_id!r} has no Assistants API ({trouble}). "
            "OpenAI removed it on 2026-08-26. Use CreateResponseOperator there: assistant_id=... becomes "
            "model=... and instructions=..., the thread's message becomes input=..., thread_id=... "
            "becomes conversation=...; or point conn_id at a server that still speaks the API. See "
            "docs/assistants-sunset.md."
        )
    text = f"Could not {doing} (connection {conn_id!r}): {trouble}."
    match trouble.kind:
        case TroubleKind.KEY_REFUSED:
            if trouble.http_status is None:
                return RunConnectionError(text)
            return RunConnectionError(
                f"{text} The server refused the key or its rights. Mend the connection, then clear the task."
            )
        case TroubleKind.NO_QUOTA:
            return RunCallError(
                f"{text} The account has no quota left; waiting does not heal it.", retryable=False
            )
        case TroubleKind.NOT_FOUND:
            return RunNotFoundError(text)
        case TroubleKind.REFUSED if trouble.active_run_id or trouble.conversation_locked:
            busy = f"run {trouble.active_run_id}" if trouble.active_run_id else "another response"
            return ThreadBusyError(
                f"{text} It is busy with {busy}, which was left alone. Try again when it ended."
            )
        case TroubleKind.REFUSED if trouble.http_status == _BAD_REQUEST and _ID_IS_NONE.search(trouble.text):
            return RunNotFoundError(text)
        case TroubleKind.REFUSED:
            return RunCallError(f"{text} The same request would be refused again.", retryable=False)
        case _:
            return RunCallError(text, retry_after=trouble.retry_after)


def _route_is_missing(trouble: Trouble) -> bool:
    if trouble.http_status in _ROUTE_IS_MISSING or _INVALID_URL.search(trouble.text):
        return True
    return trouble.kind is TroubleKind.NOT_FOUND and not _THING_IS_MISSING.search(trouble.text)
