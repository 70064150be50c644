# SPDX-License-Identifier: Apache-2.0
"""From a request that failed to the error that a user reads."""

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
from airflow_provider_openai_runs.runs.failure import (
    ROUTE_IS_MISSING,
    FailureKind,
    RequestFailure,
    bounded_retry_after,
)

_BAD_REQUEST = 400
#: How servers describe an id that cannot be one of theirs, for which they answer 400 in place of 404.
_ID_IS_NONE = re.compile(r"(?i)\b(malformed|invalid|unknown)[\w ]* (id|identifier)\b|\bnot found\b")


def error_of_request(
    failure: RequestFailure,
    *,
    doing: str,
    conn_id: str,
    missing_route: str | None = None,
    base_url: str = "",
) -> OpenAIRunError:
    """
    Return the error for a request that failed for good.

    :param doing: what was attempted, as in "create a thread run on thread_1".
    :param base_url: the connection's address as it is used.
    :param missing_route: what the wire API says of a server that does not speak it; None if it does.
    """
    if missing_route is not None:
        return ThreadsNotServedError(
            f"Could not {doing}: the server of connection {conn_id!r} {missing_route}"
        )
    text = f"Could not {doing} (connection {conn_id!r}): {failure}."
    match failure.kind:
        case FailureKind.ACCESS_DENIED:
            if failure.http_status is None:
                return RunConnectionError(text)
            return RunConnectionError(
                f"{text} The server refused the key or its rights. Fix the connection, then clear the task."
            )
        case FailureKind.NO_QUOTA:
            return RunCallError(
                f"{text} The account has no quota left, or is not active; waiting does not help.",
                retryable=False,
            )
        case FailureKind.TOO_LARGE:
            return RunCallError(
                f"{text} The run has ended, and nothing is billed any more; only what it has written is too "
                "large for this read. Give the task output_path=..., so that its retry writes all of it to "
                "storage and pays nothing again; or read the run by a Get operator with output_path=... ."
            )
        case FailureKind.NOT_FOUND:
            return _not_found(text, failure, base_url)
        case FailureKind.REJECTED | FailureKind.NOT_ACCEPTED if (
            failure.active_run_id or failure.conversation_locked
        ):
            busy = f"run {failure.active_run_id}" if failure.active_run_id else "another response"
            return ThreadBusyError(
                f"{text} It is busy with {busy}, which was left alone. Try again when it ended."
            )
        case FailureKind.REJECTED if failure.http_status == _BAD_REQUEST and _ID_IS_NONE.search(failure.text):
            return RunNotFoundError(text)
        case FailureKind.REJECTED:
            return RunCallError(f"{text} The same request would be refused again.", retryable=False)
        case _:
            return RunCallError(text, retry_after=bounded_retry_after(failure.retry_after))


def _not_found(text: str, failure: RequestFailure, base_url: str) -> OpenAIRunError:
    if not ROUTE_IS_MISSING.search(failure.text):
        return RunNotFoundError(text)
    return RunConnectionError(
        f"{text} That is no answer about a run: the whole route is missing at {base_url or 'its Host'}. "
        "The connection's Host usually ends in /v1; if it does, this server may not know the route."
    )
