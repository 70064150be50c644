# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_openai_runs.runs import errors
from airflow_provider_openai_runs.runs.error_of_run import (
    error_of_answer,
    error_of_run,
    error_of_unknown_run,
    error_of_wait,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.fate import Fate
from airflow_provider_openai_runs.runs.model import Run, RunRef, ToolCall
from airflow_provider_openai_runs.runs.polling import Outcome
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.usage import Usage

REF = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="ai")


def run(status: RunStatus, **values: Any) -> Run:
    return Run(ref=REF, status=status, raw_status=status.value, object="thread.run", **values)


def test_a_completed_run_is_no_error() -> None:
    assert error_of_run(run(RunStatus.COMPLETED)) is None


def test_an_incomplete_run_is_an_error_only_where_it_is_not_accepted() -> None:
    cut = run(
        RunStatus.INCOMPLETE,
        incomplete_details={"reason": "max_completion_tokens"},
        limits={"max_completion_tokens": 256},
        usage=Usage(prompt_tokens=7, completion_tokens=256, total_tokens=263),
        created_at=100,
        completed_at=160,
    )
    assert error_of_run(cut, on_incomplete="accept") is None
    error = error_of_run(cut)
    assert isinstance(error, errors.RunIncompleteError)
    for word in ("run_1", "after 60 s", "max_completion_tokens=256", "7 prompt", "on_incomplete='accept'"):
        assert word in str(error)
    assert "no reason given" in str(error_of_run(run(RunStatus.INCOMPLETE)))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (RunStatus.EXPIRED, errors.RunExpiredError),
        (RunStatus.CANCELLED, errors.RunCancelledError),
        (RunStatus.FAILED, errors.RunFailedError),
        (RunStatus.IN_PROGRESS, errors.RunEndedError),
        (RunStatus.REQUIRES_ACTION, errors.ToolCallsPendingError),
    ],
)
def test_each_bad_end_has_its_error_that_names_the_run(status: RunStatus, expected: type[Exception]) -> None:
    error = error_of_run(run(status))
    assert type(error) is expected
    assert "run_1" in str(error)


@pytest.mark.parametrize(
    ("code", "retryable"), [("server_error", True), ("rate_limit_exceeded", True), ("invalid_prompt", False)]
)
def test_the_code_of_a_failure_decides_whether_a_retry_can_help(code: str, *, retryable: bool) -> None:
    error = error_of_run(
        run(RunStatus.FAILED, last_error={"code": code, "message": "key sk-abcdefgh1 broke"})
    )
    assert error is not None
    assert error.retryable is retryable
    assert f"{code}: key *** broke" in str(error)


def test_a_failure_without_words_says_so() -> None:
    assert "no code: no message" in str(error_of_run(run(RunStatus.FAILED)))


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.REQUIRES_ACTION])
def test_pending_calls_are_named(status: RunStatus) -> None:
    calls = (ToolCall(id="c", name="weather", arguments='{"city": "Rome"}'),)
    error = error_of_run(run(status, tool_calls=calls))
    assert isinstance(error, errors.ToolCallsPendingError)
    assert 'weather({"city": "Rome"})' in str(error)


@pytest.mark.parametrize("fate", Fate)
@pytest.mark.parametrize("outcome", [Outcome.WINDOW_OVER, Outcome.EXECUTION_TIMEOUT, Outcome.UNREACHABLE])
def test_the_end_of_a_wait_tells_the_fate_of_the_run(outcome: Outcome, fate: Fate) -> None:
    error = error_of_wait(
        outcome,
        REF,
        limit="completion_window=600 s",
        fate=fate,
        raw_status="in_progress",
        failure="HTTP 401: no",
    )
    unreachable = outcome is Outcome.UNREACHABLE
    assert type(error) is (errors.RunUnreachableError if unreachable else errors.RunTimeoutError)
    assert fate.sentence(raw_status="in_progress") in str(error)
    assert ("HTTP 401" if unreachable else "completion_window=600 s") in str(error)
    assert "run_1" in str(error)
    assert "retry" in str(error)


def test_a_wait_that_saw_nothing_names_no_status() -> None:
    error = error_of_wait(Outcome.WINDOW_OVER, REF, limit="x", fate=Fate.LEFT_RUNNING, raw_status=None)
    assert "(status" not in str(error)


def test_a_run_that_nobody_knows_differs_from_one_that_nobody_could_poll() -> None:
    gone = error_of_unknown_run(REF, RequestFailure(kind=FailureKind.NOT_FOUND, text="no"))
    assert type(gone) is errors.RunNotFoundError
    assert "'ai'" in str(gone)
    assert type(error_of_unknown_run(REF, RequestFailure(kind=FailureKind.RETRY_LATER, text="no"))) is (
        errors.RunUnreachableError
    )


def test_a_completed_run_without_any_answer_is_an_error_that_says_so() -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    error = error_of_run(run(RunStatus.COMPLETED, is_empty=True, usage=usage))
    assert type(error) is errors.RunEndedError
    assert error.retryable
    assert "without any answer" in str(error)
    assert "2 completion tokens" in str(error)
    assert error_of_run(run(RunStatus.COMPLETED, refusal="No.")) is None


def test_a_refused_typed_answer_says_what_the_model_said_and_not_retried() -> None:
    error = error_of_answer(run(RunStatus.COMPLETED, refusal="I cannot help."), "The answer is empty")
    assert not error.retryable
    assert "the model refused: I cannot help." in str(error)
    assert "empty" not in str(error)


@pytest.mark.parametrize(
    "cut",
    [
        run(
            RunStatus.INCOMPLETE,
            incomplete_details={"reason": "max_output_tokens"},
            limits={"max_output_tokens": 16},
        ),
        run(
            RunStatus.COMPLETED,
            usage=Usage(completion_tokens=16, total_tokens=17),
            limits={"max_output_tokens": 16},
        ),
        run(
            RunStatus.COMPLETED,
            incomplete_details={"reason": "max_output_tokens"},
            limits={"max_output_tokens": 16},
        ),
    ],
)
def test_a_typed_answer_that_was_cut_names_its_ceiling_and_is_not_retried(cut: Run) -> None:
    error = error_of_answer(cut, "Invalid JSON: EOF at line 1 column 9")
    assert not error.retryable
    assert "max_output_tokens=16" in str(error)
    assert "column" not in str(error)


def test_no_higher_ceiling_is_advised_where_a_content_filter_cut_the_answer() -> None:
    cut = run(RunStatus.INCOMPLETE, incomplete_details={"reason": "content_filter"})
    for error in (error_of_run(cut), error_of_answer(cut, "Invalid JSON")):
        assert error is not None
        assert "The server's content filter cut the answer" in str(error)
        assert "ceiling" not in str(error)


def test_any_other_unfit_answer_is_retried() -> None:
    error = error_of_answer(run(RunStatus.COMPLETED), "Field required (at day)")
    assert error.retryable
    assert "does not fit output_type: Field required (at day)" in str(error)
