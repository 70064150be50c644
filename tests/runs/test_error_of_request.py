# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_openai_runs.runs import errors
from airflow_provider_openai_runs.runs.error_of_request import error_of_request
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import wire_of

BUSY = "Thread thread_1 already has an active run run_7."


def error(
    kind: FailureKind,
    text: str = "no luck",
    *,
    status: int | None = None,
    code: str | None = None,
    of: RunKind = RunKind.RESPONSE,
) -> errors.OpenAIRunError:
    failure = RequestFailure(kind=kind, text=text, http_status=status, code=code, retry_after=5)
    missing_route = wire_of(of).missing_route(failure)
    return error_of_request(failure, doing="create a run", conn_id="ai", missing_route=missing_route)


@pytest.mark.parametrize(
    ("kind", "status", "expected", "retryable"),
    [
        (FailureKind.ACCESS_DENIED, 401, errors.RunConnectionError, False),
        (FailureKind.ACCESS_DENIED, None, errors.RunConnectionError, False),
        (FailureKind.NO_QUOTA, 429, errors.RunCallError, False),
        (FailureKind.NOT_FOUND, 404, errors.RunNotFoundError, False),
        (FailureKind.REJECTED, 400, errors.RunCallError, False),
        (FailureKind.RETRY_LATER, 429, errors.RunCallError, True),
        (FailureKind.OUTCOME_UNKNOWN, 500, errors.RunCallError, True),
        (FailureKind.NOT_SENT, None, errors.RunCallError, True),
    ],
)
def test_each_failure_has_its_error(
    kind: FailureKind, status: int | None, expected: type[Exception], *, retryable: bool
) -> None:
    found = error(kind, status=status)
    assert type(found) is expected
    assert found.retryable is retryable
    assert all(word in str(found) for word in ("create a run", "'ai'", "no luck"))


def test_a_server_that_asks_for_time_is_heard() -> None:
    assert error(FailureKind.RETRY_LATER, status=429).retry_after == 5


def test_a_busy_thread_names_the_run_that_was_left_alone() -> None:
    found = error(FailureKind.REJECTED, BUSY, status=400, of=RunKind.THREAD_RUN)
    assert type(found) is errors.ThreadBusyError
    assert found.retryable
    assert "run run_7" in str(found)


def test_a_locked_conversation_is_busy_as_well() -> None:
    found = error(FailureKind.REJECTED, "locked", status=400, code="conversation_locked")
    assert type(found) is errors.ThreadBusyError
    assert "another response" in str(found)


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        (FailureKind.NOT_FOUND, 404, "Not Found"),
        (FailureKind.NOT_FOUND, 404, "Invalid URL (POST /v1/threads/thread_1/runs)"),
        (FailureKind.REJECTED, 405, "Method Not Allowed"),
        (FailureKind.REJECTED, 410, "Gone"),
        (FailureKind.OUTCOME_UNKNOWN, 501, "Not Implemented"),
    ],
)
def test_a_server_without_threads_differs_from_a_thread_that_is_missing(
    kind: FailureKind, status: int, text: str
) -> None:
    found = error(kind, text, status=status, of=RunKind.THREAD_RUN)
    assert type(found) is errors.ThreadsNotServedError
    assert "CreateResponseOperator" in str(found)
    assert type(error(kind, text, status=status)) is not errors.ThreadsNotServedError


@pytest.mark.parametrize(
    "text",
    [
        "No thread found with id 'thread_abc123'.",
        "The model gpt-9 does not exist",
        "Thread thread_1 not found",
        "Run 507f1f77bcf86cd799439011 not found",
        "Assistant not found",
    ],
)
def test_a_thing_that_is_missing_is_not_found(text: str) -> None:
    found = error(FailureKind.NOT_FOUND, text, status=404, of=RunKind.THREAD_RUN)
    assert type(found) is errors.RunNotFoundError


@pytest.mark.parametrize(
    "text", ["Malformed identifier.", "Invalid response id", "Response with id 'resp_1' not found."]
)
def test_an_id_that_is_refused_is_not_found_either(text: str) -> None:
    assert type(error(FailureKind.REJECTED, text, status=400)) is errors.RunNotFoundError
    assert type(error(FailureKind.REJECTED, text, status=422)) is errors.RunCallError
