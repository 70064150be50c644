# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLC0415 - Airflow is imported after conftest.py has set its environment

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_provider_openai_runs.simulator import FunctionCall, Scenario
from tests.support.scene import Scene

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "tool-outputs.md"


@pytest.mark.usefixtures("airflow_db")
def test_the_example_hands_over_what_its_task_has_worked_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.INTERVAL_BOUNDS", (0.1, 30.0))
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundles = [{"name": "documented", "classpath": local, "kwargs": {"path": str(tmp_path)}}]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    asked = tuple(FunctionCall(name="row_count", arguments={"table": name}) for name in ("orders", "none"))
    scene.simulator.script(Scenario(queued=0.05, in_progress=0.1, function_calls=(asked,)))
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    file = tmp_path / "documented.py"
    file.write_text(example)
    (dag,) = DagBag(str(file)).dags.values()
    run = dag.test()
    first, second = (r.body for r in scene.simulator.requests if r.path == "/responses")

    assert run.state == "success"
    assert [json.loads(item["output"]) for item in second["input"]] == [{"rows": 912}, {"rows": None}]
    assert second["tools"] == first["tools"]
    assert scene.simulator.active() == []
