# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import httpx2
import pytest

from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_openai_runs.simulator import Simulator

CREATE = {"model": "gpt-4o", "input": "x", "background": True}


@pytest.fixture(autouse=True)
def _nothing_noisy_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    noise = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert noise == []


def create(http: httpx2.Client) -> httpx2.Response:
    return http.post("/responses", json=CREATE)


@pytest.mark.parametrize(
    ("kind", "seen", "processed"),
    [
        ("reset", httpx2.ReadError, False),
        ("lost", httpx2.RemoteProtocolError, True),
        ("cut", httpx2.RemoteProtocolError, True),
    ],
)
def test_a_broken_connection_breaks_and_only_some_creates_have_happened(
    http: httpx2.Client,
    simulator: Simulator,
    kind: str,
    seen: type[Exception],
    processed: bool,
) -> None:
    simulator.fault(Fault(kind=kind, method="POST", path="/responses$"))
    with pytest.raises(seen):
        create(http)
    assert len(simulator.runs()) == processed
    assert [request.fault for request in simulator.requests] == [kind]
    assert create(http).status_code == 200, "a fault strikes once unless asked otherwise"


def test_a_lost_answer_of_a_synchronous_response_is_lost_when_it_is_ready(
    http: httpx2.Client,
    simulator: Simulator,
) -> None:
    simulator.script(Scenario(queued=0, in_progress=0.05))
    simulator.fault(Fault(kind="lost"))
    with pytest.raises(httpx2.RemoteProtocolError):
        http.post("/responses", json={"model": "gpt-4o", "input": "x"})
    assert [run["status"] for run in simulator.runs()] == ["completed"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "rate_limit_exceeded"), (500, None), (502, None), (503, None), (401, "invalid_api_key")],
)
def test_an_error_status_carries_the_body_openai_sends(
    http: httpx2.Client,
    simulator: Simulator,
    status: int,
    code: str | None,
) -> None:
    simulator.fault(Fault(status=status, retry_after=1.5))
    answer = create(http)
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "1.5")
    assert answer.json()["error"]["code"] == code
    assert simulator.runs() == []
    assert simulator.requests[0].status == status


def test_code_and_message_of_an_error_can_be_chosen(http: httpx2.Client, simulator: Simulator) -> None:
    simulator.fault(Fault(status=429, code="insufficient_quota"), Fault(status=400, message="No."))
    assert create(http).json()["error"]["type"] == "insufficient_quota"
    assert create(http).json()["error"]["message"] == "No."


def test_garbage_is_a_web_page_with_status_200(http: httpx2.Client, simulator: Simulator) -> None:
    simulator.fault(Fault(kind="garbage"))
    answer = create(http)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert simulator.runs() == []


def test_a_slow_answer_is_late_but_processed_at_once(http: httpx2.Client, simulator: Simulator) -> None:
    simulator.fault(Fault(kind="slow", delay=0.2), Fault(kind="slow", delay=60))
    began = time.monotonic()
    assert create(http).json()["status"] == "queued"
    assert time.monotonic() - began >= 0.2
    with pytest.raises(httpx2.ReadTimeout):
        http.post("/responses", json=CREATE, timeout=0.1)
    until(lambda: len(simulator.runs()) == 2)
    simulator.advance(60)


def test_a_fault_chooses_its_requests(http: httpx2.Client, simulator: Simulator) -> None:
    simulator.fault(Fault(method="GET", path="^/models$", status=503, skip=1, times=2))
    assert create(http).status_code == 200
    assert [http.get("/models").status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    assert http.get("/models/x").status_code == 200


def test_a_fault_may_strike_for_ever_but_spare_some_the_same_ones_every_time(
    http: httpx2.Client,
    simulator: Simulator,
) -> None:
    rounds = []
    for _ in range(2):
        simulator.reset()
        simulator.fault(Fault(status=500, times=None, probability=0.5))
        rounds.append([http.get("/models").status_code for _ in range(20)])
    assert rounds[0] == rounds[1]
    assert set(rounds[0]) == {200, 500}


def test_the_log_tells_what_was_asked_without_the_key(http: httpx2.Client, simulator: Simulator) -> None:
    http.post("/responses?include[]=a&x=1", json=CREATE)
    http.post("/responses", content=b"{")
    first, second = simulator.requests
    assert (first.method, first.path, first.query) == ("POST", "/responses", {"include[]": "a", "x": "1"})
    assert (first.body, first.status, first.fault) == (CREATE, 200, None)
    assert first.headers["authorization"] == "[redacted]"
    assert abs(first.at - simulator.now()) < 60
    assert (second.body, second.status) == ("{", 400)
    assert simulator.count("*", "responses") == 2
    assert simulator.count("GET") == 0
