# SPDX-License-Identifier: Apache-2.0
"""What one look learns, all looks of its connection heed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from airflow_provider_openai_runs.hooks.pace import Pace
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure

NOW = 1000.0


def busy(retry_after: float | None = 20.0) -> RequestFailure:
    return RequestFailure(
        kind=FailureKind.RETRY_LATER, text="Rate limit", http_status=429, retry_after=retry_after
    )


NO_ANSWER = RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text="Connection reset")
NOT_SENT = RequestFailure(kind=FailureKind.NOT_SENT, text="Connection refused")


def held_for(pace: Pace, now: float) -> float:
    held = pace.hold(now)
    return 0.0 if held is None or held.retry_after is None else held.retry_after


def away(jitter: float = 0.0) -> Pace:
    pace = Pace(lambda: jitter)
    for _ in range(10):
        pace.on_error(NOT_SENT, NOW)
    return pace


def test_looks_leave_while_all_is_well() -> None:
    pace = Pace()
    for tick in range(20):
        assert pace.hold(NOW + tick) is None
        pace.on_answer(NOW + tick)


@pytest.mark.parametrize(("after", "left"), [(0.0, 20.0), (19.0, 1.0), (20.0, 0.0)])
def test_no_look_leaves_before_the_time_that_the_server_named(after: float, left: float) -> None:
    pace = Pace(lambda: 0.0)
    pace.on_error(busy(), NOW)
    assert held_for(pace, NOW + after) == left


def test_a_look_that_is_held_back_says_why() -> None:
    pace = Pace()
    pace.on_error(busy(), NOW)
    held = pace.hold(NOW)
    assert held is not None
    assert (held.kind, held.http_status, held.is_transient) == (FailureKind.RETRY_LATER, 429, True)
    assert "Rate limit" in held.text
    assert "held back" in held.text


def test_looks_that_were_held_back_leave_over_as_long_a_time_as_they_gathered() -> None:
    first, last = Pace(lambda: 0.0), Pace(lambda: 0.999)
    for pace in (first, last):
        pace.on_error(busy(10.0), NOW)
        pace.hold(NOW)
    assert held_for(first, NOW + 5) == 5
    assert held_for(last, NOW + 5) == pytest.approx(5 + 10, abs=0.1)


def test_an_answer_to_a_look_that_was_on_its_way_does_not_end_the_patience() -> None:
    pace = Pace(lambda: 0.0)
    pace.on_error(busy(), NOW)
    pace.on_answer(NOW + 0.05)
    assert held_for(pace, NOW + 1) == 19


def test_no_server_holds_looks_back_for_longer_than_two_minutes() -> None:
    pace = Pace(lambda: 0.0)
    pace.on_error(busy(3600.0), NOW)
    assert held_for(pace, NOW) == 120


def test_one_stuck_run_does_not_hold_the_others_back() -> None:
    pace = Pace()
    for tick in range(50):
        assert pace.hold(NOW + tick) is None
        (pace.on_answer(NOW + tick) if tick % 5 == 0 else pace.on_error(NO_ANSWER, NOW + tick))


@pytest.mark.parametrize("failure", [NO_ANSWER, NOT_SENT, busy(None)])
def test_a_server_that_answers_nobody_is_asked_by_one_look_at_a_time(failure: RequestFailure) -> None:
    pace = Pace(lambda: 0.0)
    for _ in range(10):
        pace.on_error(failure, NOW)
    assert pace.hold(NOW) is None
    assert all(held_for(pace, NOW + tick / 10) > 0 for tick in range(10))
    assert pace.hold(NOW + 1) is None


def test_a_server_that_is_away_is_asked_at_least_every_ten_seconds() -> None:
    pace = away()
    asked = []
    for tick in range(3000):
        now = NOW + tick / 10
        if pace.hold(now) is None:
            asked.append(now)
            pace.on_error(NOT_SENT, now)
    gaps = [after - before for before, after in pairwise(asked)]
    assert max(gaps) == pytest.approx(10, abs=0.2)
    assert gaps[0] < gaps[-1]


def test_a_server_that_is_back_is_asked_by_all_again_but_not_at_once() -> None:
    pace = away(jitter=0.999)
    assert pace.hold(NOW) is None
    for tick in range(60):
        pace.hold(NOW + tick)
        pace.on_error(NOT_SENT, NOW + tick)
    spread = held_for(pace, NOW + 60) or held_for(pace, NOW + 61)
    assert 25 < spread < 45
    pace.on_answer(NOW + 62)
    assert all(pace.hold(NOW + 62 + tick / 100) is None for tick in range(100))


def test_a_refusal_is_an_answer() -> None:
    pace = away()
    pace.on_error(RequestFailure(kind=FailureKind.ACCESS_DENIED, text="No", http_status=401), NOW)
    assert [pace.hold(NOW), pace.hold(NOW)] == [None, None]
