# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from logging import INFO, WARNING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult
from airflow_provider_openai_runs.runs.polling import Done, Outcome, PollAgain, PollPolicy, WaitLimits
from airflow_provider_openai_runs.runs.status import RunStatus

START = 1_700_000_000.0
TRANSIENT = [FailureKind.NOT_SENT, FailureKind.RETRY_LATER, FailureKind.OUTCOME_UNKNOWN]
PERMANENT = [FailureKind.NOT_FOUND, FailureKind.ACCESS_DENIED, FailureKind.NO_QUOTA, FailureKind.REJECTED]
TERMINAL = [status for status in RunStatus if status.is_terminal]
#: requires_action is active as well, but ends the wait in another way.
WAITING = [s for s in RunStatus if s.is_active and s is not RunStatus.REQUIRES_ACTION]

ages = st.floats(min_value=0, max_value=1e6)
jitters = st.floats(min_value=0, max_value=1, exclude_max=True)
hints = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def poll(status: RunStatus, *, poll_after: float | None = None) -> PollResult:
    return PollResult(
        status=status,
        raw_status=status.value,
        poll_after=poll_after,
        needs_action=status is RunStatus.REQUIRES_ACTION,
    )


def failure(kind: FailureKind, *, retry_after: float | None = None) -> RequestFailure:
    return RequestFailure(kind=kind, text="no luck", retry_after=retry_after)


def waiting(
    *,
    deadline: float | None = None,
    attempt_deadline: float | None = None,
    poll_interval: float | None = None,
    grace_until: float = 0.0,
    jitter: float = 0.0,
) -> PollPolicy:
    limits = WaitLimits(
        created_at=START,
        deadline=deadline,
        attempt_deadline=attempt_deadline,
        poll_interval=poll_interval,
        not_found_grace_until=grace_until,
    )
    return PollPolicy(limits, started_at=START, jitter=lambda: jitter)


@given(status=st.sampled_from(TERMINAL), late=st.floats(min_value=-1e6, max_value=1e6))
def test_a_run_found_ended_has_ended_whatever_the_clock_says(status: RunStatus, late: float) -> None:
    move = waiting(deadline=START, attempt_deadline=START).on_result(poll(status), now=START + late)
    assert isinstance(move, Done)
    assert move.outcome is Outcome.ENDED
    assert move.polled is not None
    assert move.polled.status is status


def test_a_run_found_completed_after_the_deadline_has_won() -> None:
    wait = waiting(deadline=START + 60)
    assert isinstance(wait.on_result(poll(RunStatus.IN_PROGRESS), now=START + 59), PollAgain)
    move = wait.on_result(poll(RunStatus.COMPLETED), now=START + 3600)
    assert isinstance(move, Done)
    assert move.outcome is Outcome.ENDED


def test_a_pending_tool_call_is_reported_even_after_the_deadline() -> None:
    move = waiting(deadline=START).on_result(poll(RunStatus.REQUIRES_ACTION), now=START + 1)
    assert isinstance(move, Done)
    assert move.outcome is Outcome.NEEDS_ACTION


def test_a_completed_response_with_a_pending_call_is_no_answer_yet() -> None:
    observed = PollResult(status=RunStatus.COMPLETED, raw_status="completed", needs_action=True)
    move = waiting().on_result(observed, now=START)
    assert isinstance(move, Done)
    assert move.outcome is Outcome.NEEDS_ACTION


def test_a_wait_for_other_statuses_goes_on_while_somebody_else_is_to_answer_the_calls() -> None:
    wait = PollPolicy(WaitLimits(created_at=START, targets=frozenset({"queued"})), started_at=START)

    assert isinstance(wait.on_result(poll(RunStatus.REQUIRES_ACTION), now=START), PollAgain)
    move = wait.on_result(poll(RunStatus.QUEUED), now=START + 1)
    assert isinstance(move, Done)
    assert move.outcome is Outcome.REACHED


@pytest.mark.parametrize("status", WAITING)
def test_an_active_run_is_waited_for_until_its_deadline_and_no_longer(status: RunStatus) -> None:
    wait = waiting(deadline=START + 60)
    assert isinstance(wait.on_result(poll(status), now=START + 59.9), PollAgain)
    move = wait.on_result(poll(status), now=START + 60)
    assert isinstance(move, Done)
    assert move.outcome is Outcome.WINDOW_OVER


def test_the_end_of_the_attempt_differs_from_the_end_of_the_window() -> None:
    move = waiting(deadline=START + 100, attempt_deadline=START + 60).on_result(
        poll(RunStatus.QUEUED), now=START + 60
    )
    assert isinstance(move, Done)
    assert move.outcome is Outcome.EXECUTION_TIMEOUT


def test_without_a_deadline_an_unknown_status_is_waited_for_without_an_end() -> None:
    wait = waiting()
    for years in range(5):
        now = START + years * 365 * 86400
        assert isinstance(wait.on_result(poll(RunStatus.UNKNOWN), now=now), PollAgain)


@given(age=ages, jitter=jitters)
@example(age=100.0, jitter=0.0)
def test_the_lag_stays_below_a_second_or_a_tenth_of_the_age(age: float, jitter: float) -> None:
    move = waiting(jitter=jitter).on_result(poll(RunStatus.IN_PROGRESS), now=START + age)
    assert isinstance(move, PollAgain)
    assert 1 <= move.seconds <= 30
    assert move.seconds <= max(1, age / 10) + 1e-6


def test_a_long_run_is_asked_about_twice_a_minute() -> None:
    move = waiting(jitter=0).on_result(poll(RunStatus.IN_PROGRESS), now=START + 7200)
    assert isinstance(move, PollAgain)
    assert move.seconds == 30


def test_a_clock_that_went_backwards_does_no_harm() -> None:
    move = waiting().on_result(poll(RunStatus.IN_PROGRESS), now=START - 500)
    assert isinstance(move, PollAgain)
    assert move.seconds == 1


@given(hint=hints.filter(lambda value: value is not None), age=ages)
def test_the_hint_of_the_server_rules_but_within_bounds(hint: float, age: float) -> None:
    wait = waiting(poll_interval=7)
    move = wait.on_result(poll(RunStatus.IN_PROGRESS, poll_after=hint), now=START + age)
    assert isinstance(move, PollAgain)
    assert move.seconds == min(max(math.ceil(hint), 1), 120)


@given(age=ages, jitter=jitters)
def test_a_fixed_interval_is_kept_whatever_the_age(age: float, jitter: float) -> None:
    move = waiting(poll_interval=0.2, jitter=jitter).on_result(poll(RunStatus.QUEUED), now=START + age)
    assert isinstance(move, PollAgain)
    assert move.seconds == 0.2


moments = st.lists(
    st.tuples(
        st.floats(min_value=0.01, max_value=200),
        st.sampled_from([*WAITING, *TRANSIENT, *PERMANENT]),
        hints,
    ),
    max_size=30,
)


@given(moments=moments, window=st.floats(min_value=1, max_value=2000), jitter=jitters)
def test_no_wait_lasts_past_the_deadline(
    moments: list[tuple[float, RunStatus | FailureKind, float | None]], window: float, jitter: float
) -> None:
    deadline = START + window
    wait = waiting(deadline=deadline, jitter=jitter)
    now = START
    for later, what, hint in moments:
        now += later
        move = (
            wait.on_result(poll(what, poll_after=hint), now=now)
            if isinstance(what, RunStatus)
            else wait.on_error(failure(what, retry_after=hint), now=now)
        )
        if isinstance(move, Done):
            break
        assert now < deadline
        assert move.seconds >= 0
        assert now + move.seconds <= deadline + 1e-3
    else:
        assert now < deadline


@given(
    kinds=st.lists(st.sampled_from(TRANSIENT), min_size=1, max_size=30),
    gap=st.floats(min_value=0.1, max_value=1e4),
    jitter=jitters,
)
def test_a_transient_failure_never_ends_a_wait_before_the_deadline(
    kinds: list[FailureKind], gap: float, jitter: float
) -> None:
    deadline = START + gap * (len(kinds) + 1)
    wait = waiting(deadline=deadline, jitter=jitter)
    for place, kind in enumerate(kinds, start=1):
        move = wait.on_error(failure(kind), now=START + gap * place)
        assert isinstance(move, PollAgain)
        assert not move.refresh_connection
    end = wait.on_error(failure(kinds[0]), now=deadline)
    assert isinstance(end, Done)
    assert end.outcome is Outcome.WINDOW_OVER


@pytest.mark.parametrize("kind", PERMANENT)
def test_a_permanent_failure_ends_the_wait_after_five_minutes_and_reconnects_before(
    kind: FailureKind,
) -> None:
    wait = waiting()
    for after in (0, 100, 299):
        move = wait.on_error(failure(kind), now=START + after)
        assert isinstance(move, PollAgain)
        assert move.refresh_connection
    end = wait.on_error(failure(kind), now=START + 300)
    assert isinstance(end, Done)
    assert end.outcome is Outcome.UNREACHABLE
    assert end.failure is not None
    assert end.failure.kind is kind


def test_one_good_poll_renews_the_budget() -> None:
    wait = waiting()
    wait.on_error(failure(FailureKind.ACCESS_DENIED), now=START)
    wait.on_result(poll(RunStatus.IN_PROGRESS), now=START + 299)
    wait.on_error(failure(FailureKind.ACCESS_DENIED), now=START + 301)
    assert isinstance(wait.on_error(failure(FailureKind.ACCESS_DENIED), now=START + 600), PollAgain)
    assert isinstance(wait.on_error(failure(FailureKind.ACCESS_DENIED), now=START + 601), Done)


def test_a_refused_key_after_a_long_outage_is_read_again_before_the_wait_ends() -> None:
    wait = waiting()
    for after in range(0, 1000, 30):
        assert isinstance(wait.on_error(failure(FailureKind.RETRY_LATER), now=START + after), PollAgain)
    move = wait.on_error(failure(FailureKind.ACCESS_DENIED), now=START + 1000)
    assert isinstance(move, PollAgain)
    assert move.refresh_connection


def test_outages_in_between_do_not_lengthen_the_budget() -> None:
    wait = waiting()
    wait.on_error(failure(FailureKind.ACCESS_DENIED), now=START)
    wait.on_error(failure(FailureKind.OUTCOME_UNKNOWN), now=START + 200)
    assert isinstance(wait.on_error(failure(FailureKind.OUTCOME_UNKNOWN), now=START + 310), PollAgain)
    assert isinstance(wait.on_error(failure(FailureKind.ACCESS_DENIED), now=START + 320), Done)


def test_a_fresh_run_that_is_not_found_is_only_not_visible_yet() -> None:
    wait = waiting(grace_until=START + 60)
    move = wait.on_error(failure(FailureKind.NOT_FOUND), now=START + 33)
    assert isinstance(move, PollAgain)
    assert not move.refresh_connection
    later = wait.on_error(failure(FailureKind.NOT_FOUND), now=START + 61)
    assert isinstance(later, PollAgain)
    assert later.refresh_connection


@given(failures=st.integers(min_value=1, max_value=50), jitter=jitters, retry_after=hints)
def test_backing_off_grows_but_stays_below_two_minutes(
    failures: int, jitter: float, retry_after: float | None
) -> None:
    wait = waiting(jitter=jitter)
    for count in range(failures):
        move = wait.on_error(failure(FailureKind.RETRY_LATER, retry_after=retry_after), now=START)
        assert isinstance(move, PollAgain)
        assert 0.75 * min(2**count, 30) <= move.seconds <= (37.5 if retry_after is None else 120)
        if retry_after is not None:
            assert move.seconds >= min(max(retry_after, 1), 120)


def test_the_log_tells_when_failures_began_and_ended_but_nothing_for_each_poll() -> None:
    wait = waiting()
    assert wait.on_result(poll(RunStatus.QUEUED), now=START).notes == ((INFO, "Status unseen -> queued"),)
    assert wait.on_result(poll(RunStatus.QUEUED), now=START + 1).notes == ()
    (began,) = wait.on_error(failure(FailureKind.RETRY_LATER), now=START + 2).notes
    assert began == (WARNING, "Could not poll the run, going on: no luck")
    assert wait.on_error(failure(FailureKind.RETRY_LATER), now=START + 3).notes == ()
    ended, changed = wait.on_result(poll(RunStatus.IN_PROGRESS), now=START + 11).notes
    assert "2 failed polls in 10 s" in ended.text
    assert changed == (INFO, "Status queued -> in_progress")


def test_a_long_wait_says_after_ten_minutes_and_then_each_hour_that_it_goes_on() -> None:
    wait = waiting(deadline=START + 86_400, attempt_deadline=START + 7 * 86_400)
    said = []
    for seconds in range(0, 86_400, 30):
        now = START + seconds
        failed = 3_000 <= seconds < 3_060
        decision = (
            wait.on_error(failure(FailureKind.RETRY_LATER), now=now)
            if failed
            else wait.on_result(poll(RunStatus.IN_PROGRESS), now=now)
        )
        said += [(seconds, note) for note in decision.notes if note.text.startswith("Still")]

    assert [seconds for seconds, _ in said] == [600 + 3_600 * hour for hour in range(24)]
    until = "waiting until 2023-11-15 22:13:20 UTC"
    assert said[0][1] == (INFO, f"Still in_progress, 10 min old, {until}; no poll has failed")
    assert said[1][1].text == (
        f"Still in_progress, 70 min old, {until}; the last poll that failed, 20 min ago: no luck"
    )


def test_a_long_wait_says_so_too_where_every_poll_fails_and_nobody_knows_its_age() -> None:
    wait = PollPolicy(WaitLimits(created_at=0.0), started_at=START)
    notes = [
        note.text
        for seconds in range(0, 700, 30)
        for note in wait.on_error(failure(FailureKind.OUTCOME_UNKNOWN), now=START + seconds).notes
    ]
    assert notes == [
        "Could not poll the run, going on: no luck",
        "Still unseen, waiting without an end; the last poll that failed, 0 min ago: no luck",
    ]


def test_a_status_nobody_knows_is_warned_about_once() -> None:
    wait = waiting()
    observed = PollResult(status=RunStatus.UNKNOWN, raw_status="pondering")
    (note,) = wait.on_result(observed, now=START).notes
    assert note.level == WARNING
    assert "pondering (a status unknown to this package; it counts as active)" in note.text
    assert wait.on_result(observed, now=START + 1).notes == ()


def test_a_sensor_gives_a_run_up_that_its_server_does_not_know_and_waits_out_a_gateway() -> None:
    limits = WaitLimits(created_at=START, targets=frozenset({"completed"}))
    gone = RequestFailure(kind=FailureKind.NOT_FOUND, text="No run found with id 'run_1'.")
    nobody = RequestFailure(kind=FailureKind.NOT_FOUND, text="no healthy upstream")
    found = PollPolicy(limits, started_at=START).on_error(gone, now=START + 100)
    assert isinstance(found, Done)
    assert found.outcome is Outcome.UNREACHABLE
    assert isinstance(PollPolicy(limits, started_at=START).on_error(nobody, now=START + 100), PollAgain)
