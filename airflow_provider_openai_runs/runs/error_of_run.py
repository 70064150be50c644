# SPDX-License-Identifier: Apache-2.0
"""From the end of a wait to the error that a user reads: what, which run, limit, its fate, what next."""

from __future__ import annotations

import re

from airflow_provider_openai_runs.runs.errors import (
    OpenAIRunError,
    RunCancelledError,
    RunEndedError,
    RunExpiredError,
    RunFailedError,
    RunIncompleteError,
    RunNotFoundError,
    RunTimeoutError,
    RunUnreachableError,
    ToolCallsPendingError,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.fate import Fate
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.policies import OnIncomplete
from airflow_provider_openai_runs.runs.polling import Outcome
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.text import MAX_STATUS, message_text
from airflow_provider_openai_runs.runs.tools import describe_calls

#: Codes of ``last_error`` / ``error`` after which the same request would fail again. Any other one, and none
#: at all, may heal: servers have words of their own for a bad day.
_PERMANENT_CODE = re.compile(
    r"^(invalid_|unsupported_|image_|empty_|failed_to_download|insufficient_quota|data_residency|content_)"
    r"|_policy(_violation)?$|_not_found$"
)


def error_of_run(
    run: Run, *, on_incomplete: OnIncomplete = "fail", is_ours: bool = True
) -> OpenAIRunError | None:
    """
    Return why a run that ended is no success, or None if it is one.

    :param is_ours: whether this task created it; a sensor only watches, and its retry would see the same.
    """
    if run.status is RunStatus.INCOMPLETE and on_incomplete == "accept" and not run.needs_action:
        return None
    kind, what, next_step = _verdict(run)
    if kind is None:
        return None
    if not is_ours:
        return kind(f"{run.ref.subject} {what}. This task only waited for it.", retryable=False)
    retryable = run.status is not RunStatus.FAILED or not _PERMANENT_CODE.search(_code(run))
    return kind(f"{run.ref.subject} {what}. {next_step}", retryable=None if retryable else False)


def _verdict(run: Run) -> tuple[type[OpenAIRunError] | None, str, str]:
    """Return the kind of error, what happened, and what to do next."""
    seconds = _seconds_of(run)
    if run.needs_action:
        what = f"waits for the answer to {describe_calls(run.tool_calls)}, and this task has nobody to answer"
        completed = "It was completed with the call as its output."
        return ToolCallsPendingError, what, completed if run.status is RunStatus.COMPLETED else ""
    match run.status:
        case RunStatus.COMPLETED:
            return None, "", ""
        case RunStatus.INCOMPLETE:
            return (
                RunIncompleteError,
                f"ended incomplete{seconds}: {_reason(run)}",
                (
                    "What it wrote until then is in XCom. The same request would end the same way: raise the "
                    "ceiling, or take the partial answer with on_incomplete='accept'."
                ),
            )
        case RunStatus.EXPIRED:
            what = f"expired{seconds}: the server's own limit was over before it ended"
            return RunExpiredError, what, "A retry starts a new run."
        case RunStatus.CANCELLED:
            what = f"was cancelled{seconds} by somebody other than this task"
            return RunCancelledError, what, "It is not started again; clear the task to do so."
        case RunStatus.FAILED:
            again = "The same request would fail again."
            retryable = not _PERMANENT_CODE.search(_code(run))
            return RunFailedError, _failure(run, seconds), "A retry starts a new run." if retryable else again
        case _:
            return (
                RunEndedError,
                f"has not ended; its status is {run.raw_status}",
                "A retry looks at it again.",
            )


def error_of_wait(
    outcome: Outcome,
    ref: RunRef,
    *,
    limit: str,
    fate: Fate,
    raw_status: str | None,
    failure: str | None = None,
) -> OpenAIRunError:
    """
    Return the error for a wait that was over before the run was.

    :param limit: the limit that was over, as in ``completion_window=600 s``.
    :param word: the run's status when last seen.
    """
    observed = f" (status {raw_status})" if raw_status else ""
    after = {
        Fate.CANCELLED: "A retry starts a new run.",
        Fate.LEFT_RUNNING: "A retry waits for it again; CancelRunOperator or the hook's cancel() ends it.",
    }.get(fate, "A retry looks at it first.")
    if outcome is Outcome.UNREACHABLE:
        return RunUnreachableError(
            f"Nobody could say for minutes how {ref} is doing: {failure}. "
            f"{fate.sentence(raw_status=raw_status)} Fix the connection; a retry then goes on with the same "
            "run."
        )
    return RunTimeoutError(
        f"{ref.subject} did not end within {limit}{observed}. {fate.sentence(raw_status=raw_status)} {after}"
    )


def error_of_unknown_run(ref: RunRef, failure: RequestFailure) -> OpenAIRunError:
    """Return the error for a run that the server does not know."""
    if failure.kind is FailureKind.NOT_FOUND:
        return RunNotFoundError(f"The server of connection {ref.conn_id!r} knows no {ref}: {failure}.")
    return RunUnreachableError(f"Could not look at {ref}: {failure}.")


def _code(run: Run) -> str:
    return message_text((run.last_error or {}).get("code") or "no code", limit=MAX_STATUS)


def _failure(run: Run, seconds: str) -> str:
    message = message_text((run.last_error or {}).get("message") or "no message").rstrip(".")
    return f"failed{seconds}: {_code(run)}: {message}"


def _reason(run: Run) -> str:
    reason = message_text((run.incomplete_details or {}).get("reason") or "no reason given")
    ceilings = ", ".join(f"{name}={value}" for name, value in run.limits.items())
    used = (
        f"; used {run.usage.prompt_tokens} prompt and {run.usage.completion_tokens} completion tokens"
        if run.usage
        else ""
    )
    return f"{reason}{f' ({ceilings})' if ceilings else ''}{used}"


def _seconds_of(run: Run) -> str:
    ended = run.completed_at or run.failed_at or run.cancelled_at
    return f" after {ended - run.created_at} s" if ended and run.created_at else ""
