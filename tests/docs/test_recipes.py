# SPDX-License-Identifier: Apache-2.0
"""Recipes of the documentation, tried as they stand on the simulator."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.simulator import Scenario, Simulator
from tests.support.scene import Scene

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def task_of(page: str) -> Any:
    """Build the Dag of a page; return its one task."""
    (example,) = re.findall(r"```python\n(.*?)```", (HOW_TO / page).read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(re.sub(r"(?m)^(with DAG\(.*\)):$", r"\1 as dag:", example), names)  # noqa: S102 # our own page
    (task,) = names["dag"].tasks
    return task


def test_the_recipe_for_azure_asks_the_v1_api_of_the_resource_for_the_deployment(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (written,) = re.findall(
        r"AIRFLOW_CONN_OPENAI_AZURE='(.*?)'", (HOW_TO / "azure.md").read_text(), re.DOTALL
    )
    connection = json.loads(written)
    path = urlsplit(connection["host"]).path.rstrip("/")
    with Simulator(base_path=path) as azure:
        azure.script(Scenario(queued=0, in_progress=0))
        monkeypatch.setenv("AIRFLOW_CONN_OPENAI_AZURE", json.dumps({**connection, "host": azure.base_url}))
        found = scene.run(task_of("azure.md"))
        sent = next(request.body for request in azure.requests if request.method == "POST")

    assert found["status"] == "completed"
    assert sent["model"] == "my-deployment"


def test_the_recipe_against_dead_workers_pays_once(scene: Scene) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1))
    ask = task_of("dead-worker.md")
    with pytest.raises(TaskDeferred):
        ask.execute(scene.kept)  # and nothing more is heard of this worker
    found = scene.run(ask, scene.retry(scene.kept))

    assert found["status"] == "completed"
    assert scene.creates() == 1


def test_the_recipe_for_a_night_asks_each_line_of_its_file_once(scene: Scene, tmp_path: Path) -> None:
    _ = scene.store  # skips below Airflow 3.3
    (line,) = re.findall(r"```json\n(.*?)```", (HOW_TO / "nightly.md").read_text(), re.DOTALL)
    (tmp_path / "prompts.jsonl").write_text(line)
    scene.simulator.script(Scenario(queued=0, in_progress=0))
    ask = task_of("nightly.md")
    ask.input_path, ask.output_path = str(tmp_path / "prompts.jsonl"), str(tmp_path / "answers")
    (found,) = read_results(scene.run(ask, scene.kept))

    assert found["custom_id"] == "order-1017"
    assert scene.creates() == 1
