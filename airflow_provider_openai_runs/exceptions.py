# SPDX-License-Identifier: Apache-2.0
"""
The errors to catch, and how they become Airflow's own kinds.

What an operator raises is a member of the tree in ``runs/errors.py`` *and* an ``AirflowException``; where a
retry would only fail again it is an ``AirflowFailException``, which ends the task at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
from airflow_provider_openai_runs.runs.headline import headline

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.runs.model import RunRef


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Raise the package's errors as Airflow's own kinds."""
    try:
        yield
    except OpenAIRunError as error:
        raise as_airflow(error) from error.__cause__


@contextmanager
def task_errors(log: Logger, *, run: Callable[[], tuple[RunRef | None, str]]) -> Iterator[None]:
    """
    Raise the package's errors as Airflow's own kinds, and log each in a line before Airflow's traceback.

    :param run: says which run the task is about, if it knows, and the address of its page.
    """
    try:
        with airflow_errors():
            yield
    except OpenAIRunError as error:
        ref, url = run()
        error.about(ref=ref.to_json() if ref else None, url=url or None)
        if not error.is_logged:
            log.error("%s", headline(error))  # noqa: TRY400 # the traceback is Airflow's next line
        raise


def as_airflow(error: OpenAIRunError) -> OpenAIRunError:
    """Return the same error as one that Airflow understands: retry it, or fail at once."""
    from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException  # noqa: PLC0415

    if isinstance(error, AirflowException):
        return error
    kind = AirflowException if error.retryable else AirflowFailException
    ours = type(error)
    combined: type[OpenAIRunError] = type(
        ours.__name__, (ours, kind), {"__module__": __name__, "plain": ours}
    )
    return error.as_kind(combined, str(error))


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
    "task_errors",
]
