# SPDX-License-Identifier: Apache-2.0
"""What to do about answers to calls that could not be sent, as values."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_openai_runs.runs.acquisition import NotCreated
from airflow_provider_openai_runs.runs.answers import (
    NotSent,
    SendAgain,
    after_failed_answer,
    after_failed_continuation,
)
from airflow_provider_openai_runs.runs.errors import LostCreateError, RunCallError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.record import Record

NOW = 1_700_000_000.0
ERROR = RunCallError("it did not work", retryable=False)


def failure(kind: FailureKind, **more: Any) -> RequestFailure:
    return RequestFailure(kind=kind, text="no luck", **more)


def in_place(kind: FailureKind, *, left: float = 600, until: float | None = None) -> SendAgain | NotSent:
    return after_failed_answer(
        failure(kind), error=ERROR, tries=0, now=NOW, gives_up_at=NOW + left, until=until
    )


def continued(
    kind: FailureKind,
    *,
    left: float = 600,
    until: float | None = None,
    resubmits: int = 0,
    tries: int = 0,
    **more: Any,
) -> SendAgain | NotSent:
    intent = Record(generation=1, token="hash/abc", intent_at=NOW)
    failed = NotCreated(intent=intent, before=None, failure=failure(kind, **more), error=ERROR)
    return after_failed_continuation(
        failed, resubmits=resubmits, tries=tries, now=NOW, gives_up_at=NOW + left, until=until
    )


def test_an_answer_that_is_rejected_is_not_sent_again() -> None:
    assert in_place(FailureKind.REJECTED) == NotSent(error=ERROR, reason="rejected")


def test_a_404_that_names_no_run_rejects_no_answer() -> None:
    assert isinstance(in_place(FailureKind.NOT_FOUND), SendAgain)
    later = in_place(FailureKind.NOT_FOUND, left=0.5)
    assert isinstance(later, NotSent)
    assert (later.reason, later.error.retryable) == ("later", True)


def test_an_answer_that_is_refused_for_its_key_is_left_to_a_retry() -> None:
    for later in (in_place(FailureKind.ACCESS_DENIED), continued(FailureKind.ACCESS_DENIED)):
        assert isinstance(later, NotSent)
        assert (later.reason, later.error.retryable) == ("later", True)


@pytest.mark.parametrize("kind", [FailureKind.RETRY_LATER, FailureKind.NOT_SENT, FailureKind.OUTCOME_UNKNOWN])
def test_an_answer_is_sent_again_while_there_is_time(kind: FailureKind) -> None:
    assert isinstance(in_place(kind), SendAgain)
    assert in_place(kind, left=0.5) == NotSent(error=ERROR, reason="later")
    assert in_place(kind, left=0.5, until=NOW + 1) == NotSent(error=ERROR, reason="late")


def test_a_continuation_that_was_not_accepted_takes_its_intent_back() -> None:
    again = continued(FailureKind.RETRY_LATER)
    assert isinstance(again, SendAgain)
    assert again.forget
    assert continued(FailureKind.REJECTED) == NotSent(error=ERROR, reason="later", forget=True)
    locked = continued(FailureKind.REJECTED, code="conversation_locked")
    assert isinstance(locked, SendAgain)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (FailureKind.NOT_ACCEPTED, {}),
        (FailureKind.NOT_FOUND, {}),
        (FailureKind.REJECTED, {"code": "previous_response_not_found"}),
    ],
)
def test_a_continuation_that_may_pass_in_a_moment_is_sent_again(
    kind: FailureKind, more: dict[str, Any]
) -> None:
    again = continued(kind, **more)
    assert isinstance(again, SendAgain)
    assert again.forget
    later = continued(kind, left=0.5, **more)
    assert isinstance(later, NotSent)
    assert (later.reason, later.forget) == ("later", True)


def test_a_continuation_of_a_response_that_stays_unknown_is_given_up() -> None:
    assert isinstance(continued(FailureKind.NOT_FOUND, tries=10), SendAgain)
    assert isinstance(continued(FailureKind.NOT_FOUND, tries=60), NotSent)


def test_a_continuation_whose_outcome_is_unknown_is_sent_again_only_if_the_user_accepts_the_risk() -> None:
    lost = continued(FailureKind.OUTCOME_UNKNOWN)
    assert isinstance(lost, NotSent)
    assert isinstance(lost.error, LostCreateError)
    assert not lost.forget
    assert isinstance(continued(FailureKind.OUTCOME_UNKNOWN, resubmits=1), SendAgain)
    assert isinstance(continued(FailureKind.OUTCOME_UNKNOWN, resubmits=1, left=0.5), NotSent)
