# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

from airflow_provider_openai_runs.simulator import Limits, Simulator
from airflow_provider_openai_runs.simulator.limits import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

CREATE = {"model": "gpt-4o", "input": "x" * 40, "background": True}


def limits_in(headers: Mapping[str, str], kind: str) -> list[str]:
    return [headers[f"x-ratelimit-{what}-{kind}"] for what in ("limit", "remaining", "reset")]


def test_without_limits_replies_say_nothing_of_them(http: httpx2.Client) -> None:
    headers = http.post("/responses", json=CREATE).headers
    assert not [name for name in headers if name.startswith("x-ratelimit")]


def test_replies_to_creates_say_what_is_left(http: httpx2.Client, simulator: Simulator) -> None:
    simulator.limit(Limits(requests_per_minute=60, tokens_per_minute=60_000))
    made = http.post("/responses", json={**CREATE, "max_output_tokens": 50})
    assert limits_in(made.headers, "requests") == ["60", "59", "1s"]
    assert limits_in(made.headers, "tokens") == ["60000", "59940", "60ms"]
    read = http.get(f"/responses/{made.json()['id']}")
    assert "x-ratelimit-limit-requests" not in read.headers


def test_what_is_above_the_limit_is_refused_until_there_is_room(
    http: httpx2.Client,
    simulator: Simulator,
) -> None:
    simulator.limit(Limits(requests_per_minute=2))
    assert [http.post("/responses", json=CREATE).status_code for _ in range(3)] == [200, 200, 429]
    refused = http.post("/responses", json=CREATE)
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "on requests per min (RPM): Limit 2, Used 2, Requested 1." in error["message"]
    assert 25 <= int(refused.headers["retry-after"]) <= 30
    assert int(refused.headers["retry-after-ms"]) <= 30_000
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(simulator.runs()) == 2
    simulator.advance(30)
    assert [http.post("/responses", json=CREATE).status_code for _ in range(2)] == [200, 429]


def test_tokens_are_limited_too_and_a_request_above_the_limit_waits_for_all_of_it(
    http: httpx2.Client,
    simulator: Simulator,
) -> None:
    simulator.limit(Limits(tokens_per_minute=100))
    large = {**CREATE, "input": "x" * 4_000}
    assert http.post("/responses", json=large).status_code == 200
    refused = http.post("/responses", json=CREATE)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "tokens")
    assert 4 <= int(refused.headers["retry-after"]) <= 6


def test_limits_are_set_from_outside_and_forgotten_by_a_reset(
    http: httpx2.Client,
    simulator: Simulator,
) -> None:
    control = f"{simulator.root_url}/simulator/limits"
    assert httpx2.post(control, json={"requests_per_minute": 1}).json() == {}
    assert [http.post("/responses", json=CREATE).status_code for _ in range(2)] == [200, 429]
    wrong = httpx2.post(control, json={"requests_per_minute": 0})
    assert wrong.json()["error"]["message"].startswith("Limits.requests_per_minute: 0 is less than 1")
    simulator.reset()
    assert http.post("/responses", json=CREATE).status_code == 200
    with Simulator(requests_per_minute=1) as other:
        headers = {"Authorization": "Bearer k"}
        for _ in range(2):
            answers = [
                httpx2.post(f"{other.base_url}/responses", json=CREATE, headers=headers).status_code
                for _ in range(2)
            ]
            assert answers == [200, 429]
            other.reset()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.0021, "3ms"), (1, "1s"), (1.25, "1.25s"), (60, "1m0s"), (83.4, "1m23.4s")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
