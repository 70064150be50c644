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

pytestmark = pytest.mark.chaos

DAG_ID = "text_out_of_airflow"
PROMPT, ANSWER = "Zebrawood-prompt-7731", "Quicksilver-answer-4478"
CALL = [{"name": "look_up", "arguments": {"name": ANSWER}}]
FILES = {"type": "code_interpreter", "code": ANSWER, "logs": ANSWER, "files": [{"name": f"{ANSWER}.csv"}]}
PAGE = {"type": "web_search", "pages": [{"url": f"https://a.example/{ANSWER}", "title": ANSWER}]}
SCENARIOS: dict[str, dict[str, Any]] = {
    "answers": {"text": ANSWER * 3, "output": [FILES, PAGE]},
    "answers_in_the_worker": {"text": ANSWER, "output": [FILES, PAGE]},
    "from_the_trigger": {"text": ANSWER},
    "typed": {"text": json.dumps({"name": "Ada", "more": ANSWER})},
    "typed_wrongly": {"text": json.dumps({"name": ANSWER})},
    "refuses": {"refusal": f"I will not say {ANSWER}."},
    "fails": {"ends": "failed", "error": {"code": "server_error", "message": f"At {ANSWER}: {PROMPT}"}},
    "is_incomplete": {"ends": "incomplete", "incomplete_reason": "max_output_tokens", "text": ANSWER},
    "calls": {"function_calls": [CALL, CALL, CALL], "text": ANSWER},
    "calls_nobody": {"function_calls": [[{"name": ANSWER, "arguments": {"name": ANSWER}}]]},
    "thread_run": {"text": ANSWER, "output": [FILES]},
}
FAIL = {
    "typed_wrongly",
    "fails",
    "is_incomplete",
    "is_refused_by_the_server",
    "calls",
    "calls_nobody",
    "has_a_wrong_argument",
}


def test_no_word_is_in_the_database_or_in_a_log(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "prompt.txt").write_text(PROMPT)
    simulator = Simulator(speed="0.5")
    connection = {"conn_type": "openai", "password": "simulator-key", "host": simulator.base_url}
    airflow = LiveAirflow(
        ROOT / "dev" / "live" / "dags",
        home=tmp_path / "airflow",
        parallelism=6,
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
        for case, scenario in SCENARIOS.items():
            simulator.script({"when": rf"\[case {case}\]", "times": None, **scenario})
        fault = {"method": "POST", "path": "/responses$", "status": 400, "message": f"No: {PROMPT}"}
        assistant = _post(simulator, "/v1/assistants", {"model": "gpt-4o-mini"})
        airflow.api.call("POST", "/variables", {"key": "assistant_id", "value": assistant["id"]})
        airflow.api.wait_for_dag(DAG_ID)
        run_id = airflow.api.trigger(DAG_ID)
        _wait(airflow, run_id)
        _post(simulator, "/simulator/faults", {**fault, "times": None})
        airflow.api.call(
            "POST",
            f"/dags/{DAG_ID}/clearTaskInstances",
            {
                "dry_run": False,
                "dag_run_id": run_id,
                "task_ids": ["is_refused_by_the_server"],
                "only_failed": False,
            },
        )
        _wait(airflow, run_id)
        states = {one["task_id"]: one["state"] for one in airflow.api.task_instances(DAG_ID, run_id)}
    assert states == {case: "failed" if case in FAIL else "success" for case in states}
    assert len(states) == len(SCENARIOS) + 4

    written = _holding(outside / "output", ANSWER)
    assert len(written) > len(SCENARIOS), "the answers are where they were to be"
    assert _holding(tmp_path / "airflow", PROMPT) == []
    assert _holding(tmp_path / "airflow", ANSWER) == []


def _post(simulator: Simulator, path: str, body: dict[str, Any]) -> Any:
    headers = {"Authorization": "Bearer k", "OpenAI-Beta": "assistants=v2"}
    return fetch_json(f"{simulator.address}{path}", method="POST", body=body, headers=headers)


def _wait(airflow: LiveAirflow, run_id: str) -> None:
    deadline = time.monotonic() + 240
    time.sleep(3)
    while airflow.api.dag_run(DAG_ID, run_id)["state"] not in FINISHED_RUN:
        assert time.monotonic() < deadline, "the Dag run does not end"
        time.sleep(1)


def _holding(folder: Path, marker: str) -> list[str]:
    """Name the files of a folder that hold a marker, the database with its journal among them."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and marker.encode() in path.read_bytes()
    ]
