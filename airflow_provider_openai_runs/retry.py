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

from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError, ThreadBusyError
from airflow_provider_openai_runs.runs.failure import bounded_retry_after

if TYPE_CHECKING:
    from airflow.sdk import Context


class OpenAIRunRetryPolicy(RetryPolicy):
    """
    Wait as long as the server asked, retry what is transient, and fail at once otherwise.

    A server that has no room for a create yet (a 429 that says how long to wait, a busy thread) costs no
    retry from Airflow 3.4 on. Errors of other kinds, and of a task that has a run, follow the task's own
    ``retries`` and ``retry_delay``.
    See https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/tasks.html.

    :param reschedule_timeout: how long a task may wait for room without using a retry, from the first time on
        (3.4+); None uses retries.
    """

    def __init__(self, *, reschedule_timeout: timedelta | None = timedelta(hours=24)) -> None:
        self.reschedule_timeout = reschedule_timeout

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
        delay = None if seconds is None else timedelta(seconds=seconds)
        reason = "the thread is busy" if delay is None else f"the server asked to wait {delay}"
        # With a run, something paid for waits: for the answers to its calls, or to be read, and not for ever.
        has_no_room = exception.ref is None and (
            isinstance(exception, ThreadBusyError)
            or (isinstance(exception, RunCallError) and delay is not None)
        )
        reschedule = getattr(RetryDecision, "reschedule", None)  # Airflow 3.4+
        if has_no_room and reschedule is not None and self.reschedule_timeout is not None:
            decision: RetryDecision = reschedule(
                delay=delay, reschedule_timeout=self.reschedule_timeout, reason=reason
            )
            return decision
        return RetryDecision.default() if delay is None else RetryDecision.retry(delay=delay, reason=reason)

    def serialize(self) -> dict[str, Any]:
        """Return the settings."""
        timeout = self.reschedule_timeout
        return {"reschedule_timeout": None if timeout is None else timeout.total_seconds()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> OpenAIRunRetryPolicy:
        """Return the policy; an older version has stored no settings."""
        if "reschedule_timeout" not in data:
            return cls()
        seconds = data["reschedule_timeout"]
        return cls(reschedule_timeout=None if seconds is None else timedelta(seconds=seconds))


__all__ = ["OpenAIRunRetryPolicy"]
