# SPDX-License-Identifier: Apache-2.0
"""Polls that fail are counted in one line, however many there are."""

from __future__ import annotations

from airflow_provider_openai_runs.bulk.failed_polls import FailedPolls
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure


def test_a_line_counts_the_polls_since_the_last_one_and_gives_the_last_reason() -> None:
    polls = FailedPolls()
    assert polls.line() is None
    polls.on_poll("an answer")
    assert polls.line() is None
    polls.on_poll(RequestFailure(kind=FailureKind.RETRY_LATER, text="Too busy"))
    polls.on_poll("an answer")
    polls.on_poll(RequestFailure(kind=FailureKind.RETRY_LATER, text="Away"))
    line = polls.line() or ""
    assert "2 of the last 3 polls failed, going on" in line
    assert "Away" in line
    assert polls.line() is None
