# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.failure import Trouble, TroubleKind
from airflow_provider_openai_runs.runs.model import Look
from airflow_provider_openai_runs.runs.polling import Finish, KeepWaiting, Outcome, Waiting, WaitLimits
from airflow_provider_openai_runs.runs.status import RunStatus

START = 1_700_000_000.0
TRANSIENT = [TroubleKind.NOT_SENT, TroubleKind.BUSY, TroubleKind.NO_ANSWER]
PERMANENT = [TroubleKind.NOT_FOUND, TroubleKind.KEY_REFUSED, TroubleKind.NO_QUOTA, TroubleKind.REFUSED]
TERMINAL = [status for status in RunStatus if status.is_terminal]
#: requires_action is active as well, but ends the wait in another way.
WAITING = [s for s in RunStatus if s.is_active and s is not RunStatus.REQUIRES_ACTION]

ages = st.floats(min_value=0, max_value=1e6)
jitters = st.floats(min_value=0, max_value=1, exclude_max=True)
hints = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def look(status: RunStatus, *, poll_after: float | None = None) -> Look:
    return Look(
        status=status,
        word=status.value,
        poll_after=poll_after,
        needs_action=status is RunStatus.REQUIRES_ACTION,
    )


def trouble(kind: TroubleKind, *, retry_after: float | None = None) -> Trouble:
    return Trouble(kind=kind, text="no luck", retry_after=retry_after)


def waiting(
    *,
    deadline: float | None = None,
    attempt_deadline: float | None = None,
    poll_interval: float | None = None,
    grace_until: float = 0.0,
    jitter: float = 0.0,
) -> Waiting:
    limits = WaitLimits(
        created_at=START,
        deadline=deadline,
        attempt_deadline=attempt_deadline,
        poll_interval=poll_interval,
        not_found_grace_until=grace_until,
    )
    return Waiting(limits, started_at=START, jitter=lambda: jitter)


@given(status=st.sampled_from(TERMINAL), late=st.floats(min_value=-1e6, max_value=1e6))
def test_a_run_found_ended_has_ended_whatever_the_clock_says(status: RunStatus, late: float) -> None:
    move = waiting(deadline=START, attempt_deadline=START).on_look(look(status), now=START + late)
    assert isinstance(move, Finish)
    assert move.outcome is Outcome.ENDED
    assert move.look is not None
    assert move.look.status is status


def test_a_run_found_completed_after_the_deadline_has_won() -> None:
    wait = waiting(deadline=START + 60)
    assert isinstance(wait.on_look(look(RunStatus.IN_PROGRESS), now=START + 59), KeepWaiting)
    move = wait.on_look(look(RunStatus.COMPLETED), now=START + 3600)
    assert isinstance(move, Finish)
    assert move.outcome is Outcome.ENDED


def test_a_pending_tool_call_is_told_even_after_the_deadline() -> None:
    move = waiting(deadline=START).on_look(look(RunStatus.REQUIRES_ACTION), now=START + 1)
    assert isinstance(move, Finish)
    assert move.outcome is Outcome.NEEDS_ACTION


def test_a_completed_response_with_a_pending_call_is_no_answer_yet() -> None:
    seen = Look(status=RunStatus.COMPLETED, word="completed", needs_action=True)
    move = waiting().on_look(seen, now=START)
    assert isinstance(move, Finish)
    assert move.outcome is Outcome.NEEDS_ACTION


@pytest.mark.parametrize("status", WAITING)
def test_an_active_run_is_waited_for_until_its_deadline_and_no_longer(status: RunStatus) -> None:
    wait = waiting(deadline=START + 60)
    assert isinstance(wait.on_look(look(status), now=START + 59.9), KeepWaiting)
    move = wait.on_look(look(status), now=START + 60)
    assert isinstance(move, Finish)
    assert move.outcome is Outcome.WINDOW_OVER


def test_the_end_of_the_attempt_is_told_apart_from_the_end_of_the_window() -> None:
    move = waiting(deadline=START + 100, attempt_deadline=START + 60).on_look(
        look(RunStatus.QUEUED), now=START + 60
    )
    assert isinstance(move, Finish)
    assert move.outcome is Outcome.EXECUTION_TIMEOUT


def test_without_a_deadline_an_unknown_status_is_waited_for_without_an_end() -> None:
    wait = waiting()
    for years in range(5):
        now = START + years * 365 * 86400
        assert isinstance(wait.on_look(look(RunStatus.UNKNOWN), now=now), KeepWaiting)


@given(age=ages, jitter=jitters)
def test_the_lag_stays_below_a_second_or_a_tenth_of_the_age(age: float, jitter: float) -> None:
    move = waiting(jitter=jitter).on_look(look(RunStatus.IN_PROGRESS), now=START + age)
    assert isinstance(move, KeepWaiting)
    assert 1 <= move.seconds <= 30
    assert move.seconds <= max(1, age / 10) + 1e-6


def test_a_long_run_is_asked_about_twice_a_minute() -> None:
    move = waiting(jitter=0).on_look(look(RunStatus.IN_PROGRESS), now=START + 7200)
    assert isinstance(move, KeepWaiting)
    assert move.seconds == 30


def test_a_clock_that_went_backwards_does_no_harm() -> None:
    move = waiting().on_look(look(RunStatus.IN_PROGRESS), now=START - 500)
    assert isinstance(move, KeepWaiting)
    assert move.seconds == 1


@given(hint=hints.filter(lambda value: value is not None), age=ages)
def test_the_hint_of_the_server_rules_but_within_bounds(hint: float, age: float) -> None:
    wait = waiting(poll_interval=7)
    move = wait.on_look(look(RunStatus.IN_PROGRESS, poll_after=hint), now=START + age)
    assert isinstance(move, KeepWaiting)
    assert move.seconds == min(max(hint, 1), 120)


@given(age=ages, jitter=jitters)
def test_a_fixed_interval_is_kept_whatever_the_age(age: float, jitter: float) -> None:
    move = waiting(poll_interval=0.2, jitter=jitter).on_look(look(RunStatus.QUEUED), now=START + age)
    assert isinstance(move, KeepWaiting)
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
    moments: list[tuple[float, RunStatus | TroubleKind, float | None]], window: float, jitter: float
) -> None:
    deadline = START + window
    wait = waiting(deadline=deadline, jitter=jitter)
    now = START
    for later, what, hint in moments:
        now += later
        move = (
            wait.on_look(look(what, poll_after=hint), now=now)
            if isinstance(what, RunStatus)
            else wait.on_trouble(trouble(what, retry_after=hint), now=now)
        )
        if isinstance(move, Finish):
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
def test_transient_trouble_never_ends_a_wait_before_the_deadline(
    kinds: list[TroubleKind], gap: float, jitter: float
) -> None:
    deadline = START + gap * (len(kinds) + 1)
    wait = waiting(deadline=deadline, jitter=jitter)
    for place, kind in enumerate(kinds, start=1):
        move = wait.on_trouble(trouble(kind), now=START + gap * place)
        assert isinstance(move, KeepWaiting)
        assert not move.reconnect
    end = wait.on_trouble(trouble(kinds[0]), now=deadline)
    assert isinstance(end, Finish)
    assert end.outcome is Outcome.WINDOW_OVER


@pytest.mark.parametrize("kind", PERMANENT)
def test_permanent_trouble_ends_the_wait_after_five_minutes_and_reconnects_before(kind: TroubleKind) -> None:
    wait = waiting()
    for after in (0, 100, 299):
        move = wait.on_trouble(trouble(kind), now=START + after)
        assert isinstance(move, KeepWaiting)
        assert move.reconnect
    end = wait.on_trouble(trouble(kind), now=START + 300)
    assert isinstance(end, Finish)
    assert end.outcome is Outcome.UNREACHABLE
    assert end.trouble is not None
    assert end.trouble.kind is kind


def test_one_good_look_renews_the_patience() -> None:
    wait = waiting()
    wait.on_trouble(trouble(TroubleKind.KEY_REFUSED), now=START)
    wait.on_look(look(RunStatus.IN_PROGRESS), now=START + 299)
    wait.on_trouble(trouble(TroubleKind.KEY_REFUSED), now=START + 301)
    assert isinstance(wait.on_trouble(trouble(TroubleKind.KEY_REFUSED), now=START + 600), KeepWaiting)
    assert isinstance(wait.on_trouble(trouble(TroubleKind.KEY_REFUSED), now=START + 601), Finish)


def test_a_refused_key_after_a_long_outage_is_read_again_before_the_wait_ends() -> None:
    wait = waiting()
    for after in range(0, 1000, 30):
        assert isinstance(wait.on_trouble(trouble(TroubleKind.BUSY), now=START + after), KeepWaiting)
    move = wait.on_trouble(trouble(TroubleKind.KEY_REFUSED), now=START + 1000)
    assert isinstance(move, KeepWaiting)
    assert move.reconnect


def test_outages_in_between_do_not_lengthen_the_patience() -> None:
    wait = waiting()
    wait.on_trouble(trouble(TroubleKind.KEY_REFUSED), now=START)
    wait.on_trouble(trouble(TroubleKind.NO_ANSWER), now=START + 200)
    assert isinstance(wait.on_trouble(trouble(TroubleKind.NO_ANSWER), now=START + 310), KeepWaiting)
    assert isinstance(wait.on_trouble(trouble(TroubleKind.KEY_REFUSED), now=START + 320), Finish)


def test_a_fresh_run_that_is_not_found_is_only_not_visible_yet() -> None:
    wait = waiting(grace_until=START + 60)
    move = wait.on_trouble(trouble(TroubleKind.NOT_FOUND), now=START + 33)
    assert isinstance(move, KeepWaiting)
    assert not move.reconnect
    later = wait.on_trouble(trouble(TroubleKind.NOT_FOUND), now=START + 61)
    assert isinstance(later, KeepWaiting)
    assert later.reconnect


@given(failures=st.integers(min_value=1, max_value=50), jitter=jitters, retry_after=hints)
def test_backing_off_grows_but_stays_below_two_minutes(
    failures: int, jitter: float, retry_after: float | None
) -> None:
    wait = waiting(jitter=jitter)
    for count in range(failures):
        move = wait.on_trouble(trouble(TroubleKind.BUSY, retry_after=retry_after), now=START)
        assert isinstance(move, KeepWaiting)
        assert 0.75 * min(2**count, 30) <= move.seconds <= (37.5 if retry_after is None else 120)
        if retry_after is not None:
            assert move.seconds >= min(max(retry_after, 1), 120)


def test_the_log_tells_when_trouble_began_and_ended_but_nothing_for_each_look() -> None:
    wait = waiting()
    assert wait.on_look(look(RunStatus.QUEUED), now=START).notes == ("Status unseen -> queued",)
    assert wait.on_look(look(RunStatus.QUEUED), now=START + 1).notes == ()
    (began,) = wait.on_trouble(trouble(TroubleKind.BUSY), now=START + 2).notes
    assert "no luck" in began
    assert wait.on_trouble(trouble(TroubleKind.BUSY), now=START + 3).notes == ()
    ended, changed = wait.on_look(look(RunStatus.IN_PROGRESS), now=START + 11).notes
    assert "2 failed looks in 10 s" in ended
    assert changed == "Status queued -> in_progress"


def test_a_status_nobody_knows_is_warned_about_once() -> None:
    wait = waiting()
    seen = Look(status=RunStatus.UNKNOWN, word="pondering")
    (note,) = wait.on_look(seen, now=START).notes
    assert "pondering (a status unknown to this package; it counts as active)" in note
    assert wait.on_look(seen, now=START + 1).notes == ()
