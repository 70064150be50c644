# SPDX-License-Identifier: Apache-2.0
"""A retry policy for tasks with runs (Airflow 3.3+): ``retry_policy=OpenAIRunRetryPolicy()``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

try:
    from airflow.sdk import RetryDecision, RetryPolicy
except ImportError as error:
    raise ImportError(
        "OpenAIRunRetryPolicy needs Airflow 3.3, the first one with retry_policy=. Below it, leave the "
        "argument "
        "out: the operators fail at once by themselves where a retry cannot help."
    ) from error

from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import bounded_retry_after

if TYPE_CHECKING:
    from airflow.sdk import Context


class OpenAIRunRetryPolicy(RetryPolicy):
    """
    Wait as long as the server asked, retry what is transient, and fail at once otherwise.

    Errors of other kinds follow the task's own ``retries`` and ``retry_delay``.
    See https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/tasks.html.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide after a failed attempt."""
        del try_number, max_tries, context
        if not isinstance(exception, OpenAIRunError):
            return RetryDecision.default()
        if not exception.retryable:
            return RetryDecision.fail(reason="the same request would fail again")
        seconds = bounded_retry_after(exception.retry_after)
        if seconds is None:
            return RetryDecision.default()
        delay = timedelta(seconds=seconds)
        return RetryDecision.retry(delay=delay, reason=f"the server asked to wait {delay}")

    def serialize(self) -> dict[str, Any]:
        """Return nothing: the policy has no settings."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> OpenAIRunRetryPolicy:
        """Return the policy."""
        del data
        return cls()


__all__ = ["OpenAIRunRetryPolicy"]
