# SPDX-License-Identifier: Apache-2.0
"""
The errors to catch, and how they become Airflow's own kinds.

What an operator raises is a member of the tree in ``runs/errors.py`` *and* an ``AirflowException``; where a
retry would only fail again it is an ``AirflowFailException``, which ends the task at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_openai_runs.runs.errors import (
    CeilingReachedError,
    LostCreateError,
    OpenAIRunError,
    RunCallError,
    RunCancelledError,
    RunConnectionError,
    RunEndedError,
    RunExpiredError,
    RunFailedError,
    RunIncompleteError,
    RunNotFoundError,
    RunOutputError,
    RunRequestError,
    RunStorageError,
    RunTimeoutError,
    RunUnreachableError,
    ThreadBusyError,
    ThreadsNotServedError,
    ToolCallsFailedError,
    ToolCallsPendingError,
)


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Raise the package's errors as Airflow's own kinds."""
    try:
        yield
    except OpenAIRunError as error:
        raise as_airflow(error) from error.__cause__


def as_airflow(error: OpenAIRunError) -> OpenAIRunError:
    """Return the same error as one that Airflow understands: retry it, or fail at once."""
    from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException  # noqa: PLC0415

    if isinstance(error, AirflowException):
        return error
    kind = AirflowException if error.retryable else AirflowFailException
    ours = type(error)
    combined: type[OpenAIRunError] = type(ours.__name__, (ours, kind), {"__module__": __name__})
    return combined(str(error), retryable=error.retryable, retry_after=error.retry_after)


__all__ = [
    "CeilingReachedError",
    "LostCreateError",
    "OpenAIRunError",
    "RunCallError",
    "RunCancelledError",
    "RunConnectionError",
    "RunEndedError",
    "RunExpiredError",
    "RunFailedError",
    "RunIncompleteError",
    "RunNotFoundError",
    "RunOutputError",
    "RunRequestError",
    "RunStorageError",
    "RunTimeoutError",
    "RunUnreachableError",
    "ThreadBusyError",
    "ThreadsNotServedError",
    "ToolCallsFailedError",
    "ToolCallsPendingError",
    "airflow_errors",
    "as_airflow",
]
