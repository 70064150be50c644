# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.bulk.item_errors import FirstFailures, most_frequent
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.parts import Outcome
from airflow_provider_openai_runs.runs.failure import FailureKind
from tests.support.bulk_task import refused

if TYPE_CHECKING:
    import pytest


def test_the_error_that_most_items_have_is_found_whatever_ids_are_in_it() -> None:
    errors = [f"Response resp_0a1b2c3d{number:02} failed: Oh." for number in range(7)]
    found = most_frequent(["HTTP 400: no such model.", *errors, "HTTP 400: no such model."])
    assert found == "Response resp_0a1b2c3d00 failed: Oh (7 such items)"


def test_what_the_task_has_cancelled_itself_hides_no_reason() -> None:
    cancelled = "Response resp_1 was cancelled by this task: more items than max_failed have failed."
    assert most_frequent([cancelled, cancelled, "HTTP 400: no."]) == "HTTP 400: no (1 such items)"
    assert most_frequent([cancelled]) is None


def test_no_answer_is_quoted() -> None:
    found = most_frequent(["The answer of resp_1 does not fit output_type: it is\n'a secret'."])
    assert found == "The answer of resp_1 does not fit output_type (1 such items)"


def test_the_log_says_once_how_items_fail(caplog: pytest.LogCaptureFixture) -> None:
    log: Any = logging.getLogger("task")
    first = FirstFailures(log=log)
    for row in range(3):
        first.on_refused(row, refused(FailureKind.RETRY_LATER, status=429))
        first.on_refused(row, refused(FailureKind.REJECTED, status=400))
        for state in (ItemState.FAILED, ItemState.LOST):
            first.on_outcome(Outcome(row=row, state=state, error="HTTP 400: no."))
    assert caplog.messages == [
        "Row 0: its create was not accepted, and may be sent again: HTTP 429: the server says no",
        "Row 0 has failed, the first one: HTTP 400: no",
        "Row 0 is lost, the first one: HTTP 400: no",
    ]
