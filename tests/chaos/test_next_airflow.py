# SPDX-License-Identifier: Apache-2.0
"""What Airflow 3.4 adds, on a live one: a page for each approval, and waiting for room without a retry."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import ROOT
from dev.demo.agent import SECONDS_TO_READ
from dev.live import LiveAirflow
from dev.live.rest import fetch_json
from dev.live.simulator import Simulator

sdk = pytest.importorskip("airflow.sdk")
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(
        not hasattr(getattr(sdk, "RetryDecision", None), "reschedule"), reason="Airflow has it from 3.4 on"
    ),
]

DAGS = ROOT / "dev" / "live" / "dags"
TWO_ROUNDS = {
    "when": "Two rounds",
    "in_progress": 0.2,
    "function_calls": [
        [{"name": "refund", "arguments": {"order": 1001}}],
        [{"name": "write_to", "arguments": {"customer": "ada@example.com"}}],
    ],
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveAirflow, Simulator]]:
    simulator = Simulator()
    connection = {"conn_type": "openai", "password": "simulator-key", "host": simulator.base_url}
    home: Path = tmp_path_factory.mktemp("airflow")
    airflow = LiveAirflow(
        DAGS,
        home=home,
        env={"AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(connection), "PYTHONPATH": str(ROOT)},
        beside={"simulator": simulator.command},
    )
    with airflow:
        simulator.wait_healthy(airflow.components["simulator"])
        yield airflow, simulator


def test_each_round_has_a_page_of_its_own(live: tuple[LiveAirflow, Simulator]) -> None:
    airflow, simulator = live
    simulator.script(TWO_ROUNDS)
    airflow.api.wait_for_dag("several_approvals")
    where = ("several_approvals", airflow.api.trigger("several_approvals"), "ask")
    asked = []
    for _ in range(2):
        airflow.api.wait_for_state(*where, {"awaiting_input"}, timeout=120)
        time.sleep(SECONDS_TO_READ)
        page = airflow.api.question(*where)
        asked.append(page["subject"])
        airflow.api.decide(*where, option="Approve")
        deadline = time.monotonic() + 120
        while airflow.api.task_instance(*where)["state"] == "awaiting_input":
            assert time.monotonic() < deadline
            time.sleep(0.5)

    assert airflow.api.wait_for_run(*where[:2], timeout=180) == "success"
    assert "refund" in asked[0]
    assert "write_to" in asked[1]
    ended = [run["status"] for run in simulator.runs()]
    assert ended == ["completed"] * 3


def test_a_server_without_room_costs_no_retry(live: tuple[LiveAirflow, Simulator]) -> None:
    airflow, simulator = live
    before = len(simulator.runs())
    full = {"method": "POST", "path": "/responses$", "status": 429, "retry_after": 5, "times": 2}
    fetch_json(f"{simulator.address}/simulator/faults", method="POST", body=full)
    airflow.api.wait_for_dag("no_room")
    where = ("no_room", airflow.api.trigger("no_room"), "ask")
    airflow.api.wait_for_state(*where, {"up_for_reschedule"}, timeout=120)

    assert airflow.api.wait_for_run(*where[:2], timeout=240) == "success"
    assert airflow.api.task_instance(*where)["try_number"] == 1
    assert len(simulator.runs()) == before + 1
