# SPDX-License-Identifier: Apache-2.0
"""With ``text_in_xcom=0`` no word of a prompt or an answer is in Airflow's database or in any of its logs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dev import ROOT
from dev.live import LiveAirflow
from dev.live.rest import FINISHED_RUN, fetch_json
from dev.live.simulator import Simulator
from tests.support.withheld_texts import (
    ANSWER,
    DAG_ID,
    DAGS,
    FAILED,
    FAULT,
    PROMPT,
    REFUSED,
    holding,
    scenarios,
)

pytestmark = pytest.mark.chaos


def test_no_text_is_in_the_database_or_in_a_log(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "prompt.txt").write_text(PROMPT)
    simulator = Simulator(speed="0.5")
    connection = {"conn_type": "openai", "password": "simulator-key", "host": simulator.base_url}
    airflow = LiveAirflow(
        DAGS,
        home=tmp_path / "airflow",
        parallelism=3,
        env={
            "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(connection),
            "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "PYTHONPATH": str(ROOT),
            "PROMPTS_OUTSIDE_OF_AIRFLOW": str(outside / "prompt.txt"),
        },
        beside={"simulator": simulator.command},
    )
    with airflow:
        simulator.wait_healthy(airflow.components["simulator"])
        for scenario in scenarios():
            simulator.script(scenario)
        assistant = _post(simulator, "/v1/assistants", {"model": "gpt-4o-mini"})
        airflow.api.call("POST", "/variables", {"key": "assistant_id", "value": assistant["id"]})
        airflow.api.wait_for_dag(DAG_ID)
        run_id = airflow.api.trigger(DAG_ID)
        _wait(airflow, run_id)
        _post(simulator, "/simulator/faults", FAULT)
        airflow.api.call(
            "POST",
            f"/dags/{DAG_ID}/clearTaskInstances",
            {
                "dry_run": False,
                "dag_run_id": run_id,
                "task_ids": [REFUSED],
                "only_failed": False,
            },
        )
        _wait(airflow, run_id)
        states = {one["task_id"]: one["state"] for one in airflow.api.task_instances(DAG_ID, run_id)}
    assert states == {case: "failed" if case in FAILED else "success" for case in states}
    assert len(holding(outside / "output", ANSWER)) > len(FAILED), "the answers are where they were to be"
    assert holding(tmp_path / "airflow", PROMPT) == []
    assert holding(tmp_path / "airflow", ANSWER) == []


def _post(simulator: Simulator, path: str, body: dict[str, Any]) -> Any:
    headers = {"Authorization": "Bearer k", "OpenAI-Beta": "assistants=v2"}
    return fetch_json(f"{simulator.address}{path}", method="POST", body=body, headers=headers)


def _wait(airflow: LiveAirflow, run_id: str) -> None:
    deadline = time.monotonic() + 240
    time.sleep(3)
    while airflow.api.dag_run(DAG_ID, run_id)["state"] not in FINISHED_RUN:
        assert time.monotonic() < deadline, "the Dag run does not end"
        time.sleep(1)
