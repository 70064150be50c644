# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.end_of_attempt import (
    ENDED,
    UNKNOWN,
    Cause,
    Ending,
    TaskState,
    ending_of,
)

OTHERS = [
    "up_for_retry",
    "reset",
    "scheduled",
    "queued",
    "deferred",
    "awaiting_input",
    "a_state_of_a_later_airflow",
]
OVER = [*sorted(ENDED), None, "restarting"]

causes = st.sampled_from(Cause)
states = st.sampled_from([UNKNOWN, *(TaskState(name) for name in [*OTHERS, *OVER, "running"])])


@given(cause=causes, name=st.sampled_from(OVER), retry_left=st.booleans(), adoptable=st.booleans())
def test_a_positive_ended_cancels(
    cause: Cause, name: str | None, *, retry_left: bool, adoptable: bool
) -> None:
    found = ending_of(cause, TaskState(name), retry_left=retry_left, adoptable=adoptable)
    assert found is Ending.CANCEL


@given(cause=causes, name=st.sampled_from(OTHERS), retry_left=st.booleans())
def test_a_positive_goes_on_leaves_even_on_the_last_try(cause: Cause, name: str, *, retry_left: bool) -> None:
    found = ending_of(cause, TaskState(name), retry_left=retry_left, adoptable=True)
    assert found is Ending.LEAVE


@given(cause=causes, state=states, retry_left=st.booleans())
def test_a_run_that_no_other_attempt_would_find_is_never_left(
    cause: Cause, state: TaskState, *, retry_left: bool
) -> None:
    assert ending_of(cause, state, retry_left=retry_left, adoptable=False) is Ending.CANCEL


@given(cause=causes, state=states)
def test_a_run_is_never_left_to_a_retry_that_does_not_come(cause: Cause, state: TaskState) -> None:
    found = ending_of(cause, state, retry_left=False, adoptable=True)
    assert found is not Ending.LEAVE_UNASKED
    assert found is not Ending.LEAVE or state.name in OTHERS


@pytest.mark.parametrize(
    ("cause", "state", "retry_left", "expected"),
    [
        (Cause.KILLED, UNKNOWN, True, Ending.LEAVE_UNASKED),
        (Cause.TIMED_OUT, UNKNOWN, True, Ending.LEAVE_UNASKED),
        (Cause.FAILED, UNKNOWN, True, Ending.LEAVE_UNASKED),
        (Cause.KILLED, UNKNOWN, False, Ending.CANCEL_IF_OURS),
        (Cause.KILLED, TaskState("running"), True, Ending.LEAVE),
        (Cause.KILLED, TaskState("running"), False, Ending.CANCEL_IF_OURS),
        (Cause.TIMED_OUT, TaskState("running"), True, Ending.CANCEL_IF_OURS),
        (Cause.TIMED_OUT, TaskState("running"), False, Ending.CANCEL_IF_OURS),
        (Cause.FAILED, TaskState("running"), True, Ending.LEAVE),
        (Cause.FAILED, TaskState("running"), False, Ending.CANCEL_IF_OURS),
    ],
    ids=str,
)
def test_running_and_no_answer_go_by_the_retry_and_the_record(
    cause: Cause, state: TaskState, *, retry_left: bool, expected: Ending
) -> None:
    assert ending_of(cause, state, retry_left=retry_left, adoptable=True) is expected
