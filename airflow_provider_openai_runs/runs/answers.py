# SPDX-License-Identifier: Apache-2.0
"""What to do when the answers to a run's calls could not be sent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from airflow_provider_openai_runs.runs.acquisition import NotCreated
from airflow_provider_openai_runs.runs.budgets import ANSWER_PAUSE, NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure, pause_before_retry
from airflow_provider_openai_runs.runs.lost_create import (
    lost_create_error,
    may_be_sent_again,
    pause_before_resubmit,
)

#: Codes by which servers say that they do not know a response, whatever the HTTP status.
_UNKNOWN_RESPONSE = frozenset({"previous_response_not_found", "response_not_found"})
#: The answer itself is wrong, or there is nobody to take it; a key may be fixed.
_REJECTIONS = frozenset({FailureKind.REJECTED, FailureKind.NOT_FOUND})


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAgain:
    """Send the same answers after ``seconds``; ``forget`` takes the intent back before."""

    seconds: float
    forget: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """
    They were not taken.

    :param error: what to raise.
    :param reason: ``"rejected"``: nobody's answer would be taken; ``"late"``: an answer is of no use now;
        ``"later"``: a retry of the task sends them.
    :param forget: take the intent back.
    """

    error: OpenAIRunError
    reason: Literal["rejected", "late", "later"]
    forget: bool = False


def after_failed_answer(
    failure: RequestFailure,
    *,
    error: OpenAIRunError,
    tries: int,
    now: float,
    gives_up_at: float,
    until: float | None,
) -> SendAgain | NotSent:
    """
    Decide about answers that the run itself was to take, and does not show as taken.

    :param error: what a user reads if that is the end.
    :param tries: how often they were sent before.
    :param gives_up_at: Unix seconds after which they are not sent again.
    :param until: Unix seconds after which an answer is of no use.
    """
    if failure.kind in _REJECTIONS and not _is_of_a_gateway(failure):
        return NotSent(error=error, reason="rejected")
    pause = pause_before_retry(failure, tries) if failure.not_accepted else ANSWER_PAUSE
    if (failure.is_transient or _is_of_a_gateway(failure)) and now + pause < gives_up_at:
        return SendAgain(seconds=pause)
    return NotSent(error=_for_later(error, failure), reason=_late_or_later(now, until))


def after_failed_continuation(
    failed: NotCreated,
    *,
    resubmits: int,
    tries: int,
    now: float,
    gives_up_at: float,
    until: float | None,
) -> SendAgain | NotSent:
    """
    Decide about answers that were to start a run of their own, which is paid for.

    :param resubmits: how many creates that were lost may be sent again in this generation.
    """
    failure, intent = failed.failure, failed.intent
    if failure.kind is FailureKind.OUTCOME_UNKNOWN:
        intent = replace(intent, failure=str(failure))
        again = may_be_sent_again(intent, resubmits)
        pause = pause_before_resubmit(intent, failure)
        if again and now + pause < gives_up_at:
            return SendAgain(seconds=pause)
        return NotSent(error=lost_create_error(intent, resubmits, retryable=again), reason="later")
    pause = max(ANSWER_PAUSE, pause_before_retry(failure, tries))
    has_time = now + pause < gives_up_at
    # Nothing was created, and the outputs are in hand: a retry would have to call the functions again.
    is_passing = failure.conversation_locked or failure.is_transient or _is_not_shown_yet(failure, tries)
    if is_passing and has_time:
        return SendAgain(seconds=pause, forget=True)
    error = _for_later(failed.error, failure)
    return NotSent(error=error, reason=_late_or_later(now, until), forget=True)


def _for_later(error: OpenAIRunError, failure: RequestFailure) -> OpenAIRunError:
    """Leave the answers to a retry of the task where a key may be fixed, or a gateway's server be back."""
    if error.retryable or not (failure.is_of_account or _is_of_a_gateway(failure)):
        return error
    return error.saying(f"{error} A retry of the task sends the answers.", retryable=True)


def _is_of_a_gateway(failure: RequestFailure) -> bool:
    """Whether it is a 404 that says nothing of the run."""
    return failure.kind is FailureKind.NOT_FOUND and not failure.says_gone


def _is_not_shown_yet(failure: RequestFailure, tries: int) -> bool:
    """Whether a replica of the server may not know yet the response that asks for the calls."""
    is_unknown = failure.kind is FailureKind.NOT_FOUND or failure.code in _UNKNOWN_RESPONSE
    return is_unknown and tries * ANSWER_PAUSE < NOT_FOUND_GRACE


def _late_or_later(now: float, until: float | None) -> Literal["late", "later"]:
    return "late" if until is not None and now + ANSWER_PAUSE >= until else "later"
