# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.bulk.rate_limit import RateLimit, duration

NOW = 1_000.0


def _sent_within(limit: RateLimit, seconds: float, *, start: float = NOW, accepts: bool = True) -> int:
    """Send all that is admitted, ten times a second."""
    sent = 0
    for tick in range(int(seconds * 10)):
        now = start + tick / 10
        count = min(limit.admit(now), 50)
        limit.on_sent(count)
        for _ in range(count if accepts else 0):
            limit.on_accepted(now, {})
        sent += count
    return sent


def test_without_limits_all_is_admitted() -> None:
    assert RateLimit().admit(NOW) >= 10_000


@given(per_minute=st.integers(1, 5_000), seconds=st.integers(10, 120))
def test_a_minute_never_has_more_requests_than_allowed_but_for_a_small_burst(
    per_minute: int, seconds: int
) -> None:
    sent = _sent_within(RateLimit(requests_per_minute=per_minute), seconds)
    at_once = max(1, per_minute / 30)
    # A bucket of one is full until it is asked again, which is up to a tenth of a second later.
    least = per_minute if at_once > 1 else 60 / (60 / per_minute + 0.1)
    assert sent <= per_minute * seconds / 60 + at_once
    assert sent >= min(least * (seconds - 1) / 60, 500 * seconds) - 1


@given(per_minute=st.integers(1_000, 100_000), tokens=st.integers(1, 5_000))
def test_a_minute_never_has_more_tokens_than_allowed_but_for_one_item(per_minute: int, tokens: int) -> None:
    limit = RateLimit(tokens_per_minute=per_minute)
    sent = 0
    for tick in range(600):
        count = limit.admit(NOW + tick / 10, tokens=tokens)
        limit.on_sent(count, tokens=count * tokens)
        sent += count * tokens
    assert sent <= per_minute * (1 + 1 / 30) + tokens
    assert sent >= per_minute - tokens


def test_an_item_larger_than_the_whole_minute_is_sent_all_the_same() -> None:
    limit = RateLimit(tokens_per_minute=100)
    assert limit.admit(NOW, tokens=1_000) == 1
    limit.on_sent(1, tokens=1_000)
    assert limit.admit(NOW + 60, tokens=1) == 0
    assert limit.admit(NOW + 700, tokens=1) > 0


def test_a_refusal_stops_all_creates_for_as_long_as_the_server_says() -> None:
    limit = RateLimit()
    limit.on_refused(NOW, 20)
    assert limit.admit(NOW + 19.9) == 0
    assert _sent_within(limit, 5, start=NOW + 20) > 0


def test_after_a_refusal_it_goes_on_at_half_the_rate_and_grows_again() -> None:
    limit = RateLimit(requests_per_minute=60_000)
    before = sum(_one_second(limit, second, at_most=100) for second in range(60)) / 60
    limit.on_refused(NOW + 60, 1)
    at_once = _one_second(limit, 61, at_most=100)
    later = [_one_second(limit, second, at_most=100) for second in range(62, 180)][-1]
    assert before == 100
    assert 20 <= at_once <= 70
    assert later == 100


def _beats(limit: RateLimit, seconds: int, *, start: float, at_most: int = 100) -> list[int]:
    """Send once a second, as creates are: each batch waits for its commit."""
    sent = []
    for second in range(seconds):
        now = start + second
        count = min(limit.admit(now), at_most)
        limit.on_sent(count)
        for _ in range(count):
            limit.on_accepted(now + 0.5, {})
        sent.append(count)
    return sent


def test_a_refusal_before_anything_was_accepted_is_made_up_for_within_seconds() -> None:
    limit = RateLimit()
    limit.on_refused(NOW, None)
    assert _beats(limit, 15, start=NOW + 1)[-1] == 100


def test_who_sends_once_a_second_sends_at_the_rate_that_is_allowed() -> None:
    limit = RateLimit()
    _beats(limit, 60, start=NOW)
    limit.on_refused(NOW + 60, 1)
    found = _beats(limit, 10, start=NOW + 61)
    assert 40 <= found[3] <= 70


def test_a_server_that_goes_on_refusing_is_not_asked_ever_faster() -> None:
    """Two a second is what it takes."""
    limit = RateLimit()
    refused = accepted = 0
    level = 2.0
    for second in range(120):
        now, level = NOW + second, min(level + 2, 4.0)
        count = min(limit.admit(now), 100)
        limit.on_sent(count)
        for _ in range(count):
            if level >= 1:
                level, accepted = level - 1, accepted + 1
                limit.on_accepted(now + 0.5, {})
            else:
                refused += second > 0
                limit.on_refused(now + 0.5, None)
    assert accepted > 120 * 0.7
    assert refused < 0.3 * accepted


def _one_second(limit: RateLimit, second: int, *, at_most: int) -> int:
    sent = 0
    for tick in range(10):
        now = NOW + second + tick / 10
        count = min(limit.admit(now), at_most // 10)
        limit.on_sent(count)
        for _ in range(count):
            limit.on_accepted(now, {})
        sent += count
    return sent


def test_refusals_in_a_row_that_name_no_time_wait_longer_each_time_up_to_a_minute() -> None:
    limit = RateLimit()
    now, pauses = NOW, []
    for _ in range(9):
        limit.on_refused(now, None)
        pause = next(seconds for seconds in range(1, 100) if limit.admit(now + seconds + 0.5))
        pauses.append(pause)
        now += pause + 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] in {59, 60}


def test_a_hundred_refusals_of_one_burst_count_once() -> None:
    limit = RateLimit()
    for _ in range(100):
        limit.on_refused(NOW, None)
    assert limit.admit(NOW + 12) > 0


def test_the_servers_own_headers_are_obeyed_before_it_refuses() -> None:
    limit = RateLimit()
    limit.on_accepted(NOW, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6s"})
    assert limit.admit(NOW + 5.9) == 0
    assert limit.admit(NOW + 6.1) > 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("6m0s", 360), ("17ms", 0.017), ("1h2m3.5s", 3723.5), ("20", 20), ("", None), ("soon", None)],
)
def test_durations_of_rate_limit_headers_are_read(text: str, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))
