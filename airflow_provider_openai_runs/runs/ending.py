# SPDX-License-Identifier: Apache-2.0
"""From the end of a wait to the error that a user reads: what, which run, limit, its fate, what next."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

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
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.trouble import Trouble, TroubleKind, safe_text
from airflow_provider_openai_runs.runs.waiting import Outcome

OnIncomplete = Literal["fail", "accept"]

#: Codes of ``last_error`` / ``error`` after which the same request may well succeed.
_HEALABLE_CODES = frozenset({"server_error", "rate_limit_exceeded", "vector_store_timeout"})


class Fate(StrEnum):
    """What became of the run itself when a wait ended; every message says it."""

    ENDED = "ended"
    CANCELLED = "cancelled"
    CANCELLING = "cancelling"
    LEFT_RUNNING = "left_running"
    NOT_CANCELLED = "not_cancelled"

    def sentence(self, *, word: str | None = None) -> str:
        """Say it in a sentence; ``word`` is the run's status in the server's word."""
        return {
            Fate.ENDED: f"The run had ended as {word}.",
            Fate.CANCELLED: "The run was cancelled.",
            Fate.CANCELLING: "The run was asked to cancel and had not ended when last seen.",
            Fate.LEFT_RUNNING: "The run was left running and billing.",
            Fate.NOT_CANCELLED: "The run could not be cancelled and may be running and billing.",
        }[self]


def error_of_run(run: Run, *, on_incomplete: OnIncomplete = "fail") -> OpenAIRunError | None:
    """Return why a run that ended is no success, or None if it is one."""
    seconds = _seconds_of(run)
    if run.needs_action:
        calls = ", ".join(f"{c.name}({safe_text(c.arguments)[:100]})" for c in run.tool_calls) or "unnamed"
        return ToolCallsPendingError(
            f"{_subject(run.ref)} waits for the answer to {calls}, and this task has nobody to answer. "
            + ("It was completed with the call as its output." if run.status is RunStatus.COMPLETED else "")
        )
    match run.status:
        case RunStatus.COMPLETED:
            return None
        case RunStatus.INCOMPLETE if on_incomplete == "accept":
            return None
        case RunStatus.INCOMPLETE:
            return RunIncompleteError(
                f"{_subject(run.ref)} ended incomplete{seconds}: {_reason(run)}. What it wrote until then "
                "is in XCom. The same request would end the same way: raise the ceiling, or take the "
                "partial answer with on_incomplete='accept'."
            )
        case RunStatus.EXPIRED:
            return RunExpiredError(
                f"{_subject(run.ref)} expired{seconds}: the server's own limit was over before it ended. A "
                "retry starts a new run."
            )
        case RunStatus.CANCELLED:
            return RunCancelledError(
                f"{_subject(run.ref)} was cancelled{seconds} by somebody other than this task. It is not "
                "started again; clear the task to do so."
            )
        case RunStatus.FAILED:
            return _failed(run, seconds)
        case _:
            return RunEndedError(f"{_subject(run.ref)} has not ended; its status is {run.word}.")


def error_of_wait(
    outcome: Outcome, ref: RunRef, *, limit: str, fate: Fate, word: str | None, trouble: str | None = None
) -> OpenAIRunError:
    """
    Return the error for a wait that was over before the run was.

    :param limit: the limit that was over, as in ``completion_window=600 s``.
    :param word: the run's status when last seen.
    """
    seen = f" (status {word})" if word else ""
    after = {
        Fate.CANCELLED: "A retry starts a new run.",
        Fate.LEFT_RUNNING: "A retry waits for it again; CancelRunOperator or the hook's cancel() ends it.",
    }.get(fate, "A retry looks at it first.")
    if outcome is Outcome.UNREACHABLE:
        return RunUnreachableError(
            f"Nobody could say for minutes how {ref} is doing: {trouble}. {fate.sentence(word=word)} Mend "
            "the connection; a retry then goes on with the same run."
        )
    return RunTimeoutError(
        f"{_subject(ref)} did not end within {limit}{seen}. {fate.sentence(word=word)} {after}"
    )


def error_of_unknown_run(ref: RunRef, trouble: Trouble) -> OpenAIRunError:
    """Return the error for a run that the server does not know."""
    if trouble.kind is TroubleKind.NOT_FOUND:
        return RunNotFoundError(f"The server of connection {ref.conn_id!r} knows no {ref}: {trouble}.")
    return RunUnreachableError(f"Could not look at {ref}: {trouble}.")


def _failed(run: Run, seconds: str) -> OpenAIRunError:
    error = run.last_error or {}
    code = safe_text(error.get("code") or "no code")
    healable = code in _HEALABLE_CODES
    return RunFailedError(
        f"{_subject(run.ref)} failed{seconds}: {code}: {safe_text(error.get('message') or 'no message')}. "
        + ("A retry starts a new run." if healable else "The same request would fail again."),
        retryable=healable,
    )


def _reason(run: Run) -> str:
    reason = safe_text((run.incomplete_details or {}).get("reason") or "no reason given")
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


def _subject(ref: RunRef) -> str:
    words = str(ref)
    return words[0].upper() + words[1:]
