# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

CREATE = {"model": "gpt-4o", "input": "x", "background": True, "metadata": {"a": "b"}}


@pytest.fixture
def control(simulator: Simulator) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"{simulator.root_url}/simulator") as opened:
        yield opened


def test_a_simulator_is_directed_from_another_process(
    http: httpx2.Client,
    control: httpx2.Client,
) -> None:
    assert control.get("/health").json()["status"] == "ok"
    scenarios = [{"in_progress": 50, "ends": "failed"}, {"text": "second"}]
    assert control.post("/scenarios", json=scenarios).json() == {"planned": 2}
    assert control.post("/faults", json={"status": 503, "path": "^/models$"}).json() == {"planned": 1}
    assert control.post("/batch-scenarios", json={"in_progress": 5}).json() == {"planned": 1}
    assert http.get("/models").status_code == 503
    key = http.post("/responses", json=CREATE).json()["id"]
    assert control.post("/advance", json={"seconds": 60}).json()["now"] > 0

    [run] = control.get("/runs").json()["data"]
    assert (run["id"], run["kind"], run["status"], run["thread_id"]) == (key, "response", "failed", None)
    assert run["metadata"] == {"a": "b"}
    requests = control.get("/requests").json()["data"]
    assert [(r["method"], r["path"], r["status"], r["fault"]) for r in requests] == [
        ("GET", "/models", 503, "status"),
        ("POST", "/responses", 200, None),
    ]
    assert control.post("/reset").json() == {}
    assert control.get("/runs").json() == {"data": []}
    assert http.get(f"/responses/{key}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("/scenarios", {"end": "failed"}, "Scenario: unknown keys ['end']"),
        ("/scenarios", [{}, {"ends": "x"}], "Scenario.ends: 'x'"),
        ("/faults", {"kind": "x"}, "Fault.kind: 'x'"),
        ("/batch-scenarios", {"in_progress": -1}, "BatchScenario.in_progress: -1 is negative"),
        ("/batch-scenarios", [{"times": 0}], "BatchScenario.times: 0 batches"),
        ("/batch-scenarios", {"queued": 1}, "BatchScenario: unknown keys ['queued']"),
        ("/batch-scenarios", {"in_progress": "long"}, "BatchScenario: "),
        ("/limits", {"requests": 1}, "Limits: unknown keys ['requests']"),
        ("/limits", {"tokens_per_minute": "x"}, "Limits: "),
        ("/advance", {}, 'Send {"seconds": <number>}.'),
        ("/advance", {"seconds": -1}, "The clock only moves forward"),
    ],
)
def test_wrong_directions_are_refused_in_clear_words(
    control: httpx2.Client,
    simulator: Simulator,
    path: str,
    body: Any,
    complaint: str,
) -> None:
    answer = control.post(path, json=body)
    assert answer.status_code == 400
    assert complaint in answer.json()["error"]["message"]
    assert simulator.runs() == []


def test_a_reset_brings_back_real_time(simulator: Simulator) -> None:
    before = simulator.now()
    simulator.advance(1000)
    assert simulator.now() >= before + 1000
    simulator.reset()
    assert simulator.now() < before + 900


def test_a_simulator_can_be_stopped_twice_and_started_again() -> None:
    simulator = Simulator()
    simulator.stop()
    for _ in range(2):
        simulator.start()
        assert httpx2.get(f"{simulator.root_url}/simulator/health").status_code == 200
        simulator.stop()
        simulator.stop()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{simulator.root_url}/simulator/health")


def test_stopping_ends_every_wait_without_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator().start()
    with pytest.raises(RuntimeError, match=f"already serves at {simulator.base_url}"):
        simulator.start()
    simulator.script(Scenario(in_progress=1000))
    simulator.fault(Fault(path="^/models$", kind="slow", delay=1000))
    headers = {"Authorization": "Bearer k"}
    waiting = {"model": "gpt-4o", "input": "x"}
    with ThreadPoolExecutor() as pool:
        answers = [
            pool.submit(httpx2.post, f"{simulator.base_url}/responses", json=waiting, headers=headers),
            pool.submit(httpx2.get, f"{simulator.base_url}/models", headers=headers),
        ]
        while len(simulator.requests) < 2:
            time.sleep(0.01)
        simulator.stop()
        assert [answer.result().status_code for answer in answers] == [200, 200]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_speed_shortens_what_runs_take() -> None:
    with Simulator(speed=1000) as simulator:
        simulator.script(Scenario(in_progress=200))
        answer = httpx2.post(
            f"{simulator.base_url}/responses",
            json={"model": "gpt-4o", "input": "x"},
            headers={"Authorization": "Bearer k"},
            timeout=50,
        )
        assert answer.json()["status"] == "completed"
    with pytest.raises(ValueError, match="speed must be above 0"):
        Simulator(speed=0)


@pytest.mark.usefixtures("time_stands_still")
def test_what_has_not_ended_would_still_be_billed(http: httpx2.Client, simulator: Simulator) -> None:
    simulator.script(Scenario(in_progress=60, times=None))
    keys = [http.post("/responses", json=CREATE).json()["id"] for _ in range(3)]
    http.delete(f"/responses/{keys[1]}")
    assert [run["id"] for run in simulator.active()] == keys
    simulator.advance(65)
    assert simulator.active() == []


def test_the_summary_of_a_run_says_when_it_ended(http: httpx2.Client, simulator: Simulator) -> None:
    simulator.script(Scenario(in_progress=60.0))
    key = http.post("/responses", json=CREATE).json()["id"]
    assert simulator.runs()[0]["ended_at"] is None
    http.post(f"/responses/{key}/cancel")
    [run] = simulator.runs()
    assert run["ended_at"] >= run["created_at"]
