# SPDX-License-Identifier: Apache-2.0
"""From the end of a wait to the error that a user reads: what, which run, limit, its fate, what next."""

from __future__ import annotations

from dataclasses import asdict

from airflow_provider_openai_runs.runs.ceiling import OUTPUT_CEILINGS
from airflow_provider_openai_runs.runs.error_codes import CodeMeaning, meaning_of_run
from airflow_provider_openai_runs.runs.errors import (
    OpenAIRunError,
    RunCancelledError,
    RunEndedError,
    RunExpiredError,
    RunFailedError,
    RunIncompleteError,
    RunNotFoundError,
    RunOutputError,
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
from airflow_provider_openai_runs.runs.usage import as_text
from airflow_provider_openai_runs.runs.withheld import without_text

#: The reason of an answer that no higher ceiling makes whole.
_FILTERED = "content_filter"


def may_be_a_success(status: RunStatus, *, on_incomplete: OnIncomplete) -> bool:
    """Whether a run that ended like this may have done its work; what it wrote decides the rest."""
    return status is RunStatus.COMPLETED or (status is RunStatus.INCOMPLETE and on_incomplete == "accept")


def error_of_run(
    run: Run,
    *,
    on_incomplete: OnIncomplete = "fail",
    is_ours: bool = True,
    is_adopted: bool = False,
    withholds: bool = False,
) -> OpenAIRunError | None:
    """
    Return why a run that ended is no success, or None if it is one.

    :param is_ours: whether this task created it; a sensor only watches, and its retry would see the same.
    :param is_adopted: an earlier attempt of this task created it, and may be who has cancelled it.
    :param withholds: repeat nothing that the model wrote, or its server.
    """
    accepted = may_be_a_success(run.status, on_incomplete=on_incomplete)
    if accepted and run.status is RunStatus.INCOMPLETE and not run.needs_action:
        return None
    if run.status is RunStatus.CANCELLED and is_ours and is_adopted:
        text = (
            f"{run.ref.subject} was cancelled{_seconds_of(run)}, perhaps by an earlier attempt of this task. "
            "A retry starts a new run."
        )
        return about_run(RunCancelledError(text, retryable=True), run)
    kind, what, next_step = _verdict(
        without_text(run, 0) if withholds else run, fails_again=_fails_again(run)
    )
    if kind is None:
        return None
    if not is_ours:
        next_step = "This task only waited for it."
    again = False if not is_ours or _fails_again(run) else None
    return about_run(kind(f"{run.ref.subject} {what}. {next_step}", retryable=again), run)


def about_run(error: OpenAIRunError, run: Run) -> OpenAIRunError:
    """Return the error with what is known of its run."""
    usage = None if run.usage is None else asdict(run.usage)
    return error.about(ref=run.ref.to_json(), status=run.raw_status, usage=usage)


def _verdict(run: Run, *, fails_again: bool) -> tuple[type[OpenAIRunError] | None, str, str]:
    """Return the kind of error, what happened, and what to do next."""
    seconds = _seconds_of(run)
    if run.needs_action:
        what = f"waits for the answer to {describe_calls(run.tool_calls)}, and this task has nobody to answer"
        completed = "It was completed with the call as its output."
        return ToolCallsPendingError, what, completed if run.status is RunStatus.COMPLETED else ""
    match run.status:
        case RunStatus.COMPLETED if run.is_empty:
            nothing = (
                f"was completed{seconds} without any answer: it has no text, calls nothing, refuses nothing"
            )
            return RunEndedError, f"{nothing}{_used(run)}", "A retry starts a new run."
        case RunStatus.COMPLETED:
            return None, "", ""
        case RunStatus.INCOMPLETE:
            return (
                RunIncompleteError,
                f"ended incomplete{seconds}: {_reason(run)}",
                f"{_advice(run)}, or take the partial answer with on_incomplete='accept'.",
            )
        case RunStatus.EXPIRED:
            what = f"expired{seconds}: the server's own limit was over before it ended"
            return RunExpiredError, what, "A retry starts a new run."
        case RunStatus.CANCELLED:
            what = f"was cancelled{seconds} by somebody other than this task"
            return RunCancelledError, what, "It is not started again; clear the task to do so."
        case RunStatus.FAILED:
            again = "The same request would fail again." if fails_again else "A retry starts a new run."
            return RunFailedError, _failure(run, seconds), again
        case _:
            return (
                RunEndedError,
                f"has not ended; its status is {run.raw_status}",
                "A retry polls it again.",
            )


def error_of_answer(run: Run, unfit: str, *, withholds: bool = False) -> RunOutputError:
    """
    Return the error for a typed answer that is none.

    :param unfit: why the text does not fit the type.
    :param withholds: repeat nothing that the model wrote.
    """
    if withholds:
        run, unfit = without_text(run, 0), "the reason quotes it, and text_in_xcom=0 withholds that"
    subject = f"The answer of {run.ref} does not fit output_type"
    if run.refusal is not None:
        text = (
            f"{subject}: the model refused: {message_text(run.refusal).rstrip('.')}. It is not asked again."
        )
        return RunOutputError(text, retryable=False)
    if _was_cut(run):
        return RunOutputError(
            f"{subject}: it was cut short: {_reason(run)}. {_advice(run)}.",
            retryable=False,
        )
    return RunOutputError(f"{subject}: {unfit}. A retry starts a new run.")


def error_of_type(run: Run, fault: str, *, withholds: bool = False) -> RunOutputError:
    """
    Return the error for an answer of which the type cannot say whether it fits.

    :param fault: what has failed in the type.
    """
    if withholds:
        fault = "the reason may quote it, and text_in_xcom=0 withholds that"
    return RunOutputError(
        f"{run.ref.subject} has answered, and output_type itself failed over the answer: {fault}. A retry "
        "reads the same answer once more, and pays nothing."
    )


def _was_cut(run: Run) -> bool:
    """Whether a ceiling ended the answer; some servers say completed all the same."""
    used = run.usage.completion_tokens if run.usage else 0
    ceilings = [run.limits[name] for name in OUTPUT_CEILINGS if name in run.limits]
    return (
        run.status is RunStatus.INCOMPLETE
        or bool((run.incomplete_details or {}).get("reason"))
        or any(0 < ceiling <= used for ceiling in ceilings)
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
    :param raw_status: the run's status at the last poll.
    """
    observed = f" (status {raw_status})" if raw_status else ""
    after = {
        Fate.CANCELLED: "A retry starts a new run.",
        Fate.LEFT_RUNNING: "A retry waits for it again; CancelRunOperator or the hook's cancel() ends it.",
    }.get(fate, "A retry polls it first.")
    if outcome is Outcome.UNREACHABLE:
        return RunUnreachableError(
            f"Nobody could say for minutes how {ref} is doing: {failure}. "
            f"{fate.sentence(raw_status=raw_status)} Fix the connection; a retry then goes on with the same "
            "run."
        ).about(ref=ref.to_json(), status=raw_status)
    last = f" The last request about it failed: {failure}." if failure else ""
    return RunTimeoutError(
        f"{ref.subject} did not end within {limit}{observed}.{last} {fate.sentence(raw_status=raw_status)} "
        f"{after}"
    ).about(ref=ref.to_json(), status=raw_status)


def error_of_unknown_run(ref: RunRef, failure: RequestFailure) -> OpenAIRunError:
    """Return the error for a run that the server does not know."""
    if failure.kind is FailureKind.NOT_FOUND:
        text = f"The server of connection {ref.conn_id!r} knows no {ref}: {failure}."
        return RunNotFoundError(text).about(ref=ref.to_json())
    return RunUnreachableError(f"Could not poll {ref}: {failure}.").about(ref=ref.to_json())


def _fails_again(run: Run) -> bool:
    """Whether it failed for what is known never to pass; servers have words of their own for a bad day."""
    if run.status is not RunStatus.FAILED:
        return False
    error = run.last_error or {}
    meaning = meaning_of_run((error.get("code"), error.get("type")), str(error.get("message") or ""))
    return meaning in {CodeMeaning.ACCOUNT, CodeMeaning.PERMANENT}


def _code(run: Run) -> str:
    return message_text((run.last_error or {}).get("code") or "no code", limit=MAX_STATUS)


def _failure(run: Run, seconds: str) -> str:
    message = message_text((run.last_error or {}).get("message") or "no message").rstrip(".")
    return f"failed{seconds}: {_code(run)}: {message}"


def _reason(run: Run) -> str:
    reason = message_text((run.incomplete_details or {}).get("reason") or "no reason given")
    ceilings = ", ".join(f"{name}={value}" for name, value in run.limits.items())
    return f"{reason}{f' ({ceilings})' if ceilings else ''}{_used(run)}"


def _advice(run: Run) -> str:
    """Say what to change of a request whose answer was cut, since it would be cut again."""
    if (run.incomplete_details or {}).get("reason") == _FILTERED:
        return "The server's content filter cut the answer: change what is asked"
    return "The same request would end the same way: raise the ceiling"


def _used(run: Run) -> str:
    if run.usage is None:
        return ""
    cost = "" if run.cost is None else f", which cost {as_text(run.cost)}"
    return (
        f"; used {run.usage.prompt_tokens} prompt and {run.usage.completion_tokens} completion tokens{cost}"
    )


def _seconds_of(run: Run) -> str:
    ended = run.completed_at or run.failed_at or run.cancelled_at
    return f" after {ended - run.created_at} s" if ended and run.created_at else ""
