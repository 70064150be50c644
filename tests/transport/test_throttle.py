# SPDX-License-Identifier: Apache-2.0
"""What one poll learns, all polls of its connection heed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.transport.throttle import Throttle

NOW = 1000.0


def busy(retry_after: float | None = 20.0) -> RequestFailure:
    return RequestFailure(
        kind=FailureKind.RETRY_LATER, text="Rate limit", http_status=429, retry_after=retry_after
    )


UNANSWERED = RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text="Connection reset")
NOT_SENT = RequestFailure(kind=FailureKind.NOT_SENT, text="Connection refused")


def held_for(throttle: Throttle, now: float) -> float:
    held = throttle.admit(now)
    return 0.0 if held is None or held.retry_after is None else held.retry_after


def away(jitter: float = 0.0) -> Throttle:
    throttle = Throttle(lambda: jitter)
    for _ in range(10):
        throttle.on_failure(NOT_SENT, NOW)
    return throttle


def test_polls_leave_while_all_is_well() -> None:
    throttle = Throttle()
    for tick in range(20):
        assert throttle.admit(NOW + tick) is None
        throttle.on_answer(NOW + tick)


@pytest.mark.parametrize(("after", "left"), [(0.0, 20.0), (19.0, 1.0), (20.0, 0.0)])
def test_no_poll_leaves_before_the_time_that_the_server_named(after: float, left: float) -> None:
    throttle = Throttle(lambda: 0.0)
    throttle.on_failure(busy(), NOW)
    assert held_for(throttle, NOW + after) == left


def test_a_poll_that_is_not_sent_says_why() -> None:
    throttle = Throttle()
    throttle.on_failure(busy(), NOW)
    held = throttle.admit(NOW)
    assert held is not None
    assert (held.kind, held.http_status, held.is_transient) == (FailureKind.RETRY_LATER, 429, True)
    assert "Rate limit" in held.text
    assert "not sent" in held.text


def test_polls_that_were_held_back_leave_over_as_long_a_time_as_they_gathered() -> None:
    first, last = Throttle(lambda: 0.0), Throttle(lambda: 0.999)
    for throttle in (first, last):
        throttle.on_failure(busy(10.0), NOW)
        throttle.admit(NOW)
    assert held_for(first, NOW + 5) == 5
    assert held_for(last, NOW + 5) == pytest.approx(5 + 10, abs=0.1)


def test_an_answer_to_a_poll_that_was_on_its_way_does_not_end_the_throttling() -> None:
    throttle = Throttle(lambda: 0.0)
    throttle.on_failure(busy(), NOW)
    throttle.on_answer(NOW + 0.05)
    assert held_for(throttle, NOW + 1) == 19


def test_no_server_holds_polls_back_for_longer_than_two_minutes() -> None:
    throttle = Throttle(lambda: 0.0)
    throttle.on_failure(busy(3600.0), NOW)
    assert held_for(throttle, NOW) == 120


def test_one_stuck_run_does_not_hold_the_others_back() -> None:
    throttle = Throttle()
    for tick in range(50):
        assert throttle.admit(NOW + tick) is None
        (throttle.on_answer(NOW + tick) if tick % 5 == 0 else throttle.on_failure(UNANSWERED, NOW + tick))


@pytest.mark.parametrize("failure", [UNANSWERED, NOT_SENT, busy(None)])
def test_a_server_that_answers_nobody_is_asked_by_one_poll_at_a_time(failure: RequestFailure) -> None:
    throttle = Throttle(lambda: 0.0)
    for _ in range(10):
        throttle.on_failure(failure, NOW)
    assert throttle.admit(NOW) is None
    assert all(held_for(throttle, NOW + tick / 10) > 0 for tick in range(10))
    assert throttle.admit(NOW + 1) is None


def test_a_server_that_is_away_is_asked_at_least_every_ten_seconds() -> None:
    throttle = away()
    asked = []
    for tick in range(3000):
        now = NOW + tick / 10
        if throttle.admit(now) is None:
            asked.append(now)
            throttle.on_failure(NOT_SENT, now)
    gaps = [after - before for before, after in pairwise(asked)]
    assert max(gaps) == pytest.approx(10, abs=0.2)
    assert gaps[0] < gaps[-1]


def test_a_server_that_is_back_is_asked_by_all_again_but_not_at_once() -> None:
    throttle = away(jitter=0.999)
    assert throttle.admit(NOW) is None
    for tick in range(60):
        throttle.admit(NOW + tick)
        throttle.on_failure(NOT_SENT, NOW + tick)
    spread = held_for(throttle, NOW + 60) or held_for(throttle, NOW + 61)
    assert 25 < spread < 45
    throttle.on_answer(NOW + 62)
    assert all(throttle.admit(NOW + 62 + tick / 100) is None for tick in range(100))


def test_a_refusal_is_an_answer() -> None:
    throttle = away()
    throttle.on_failure(RequestFailure(kind=FailureKind.ACCESS_DENIED, text="No", http_status=401), NOW)
    assert [throttle.admit(NOW), throttle.admit(NOW)] == [None, None]
