# SPDX-License-Identifier: Apache-2.0
"""
With ``text_in_xcom=0`` no word of a prompt or an answer is in Airflow's database, or in what it logs.

``tests/chaos`` tries the same in a live Airflow.
"""

# ruff: noqa: PLC0415 - Airflow is imported by those who need it, after conftest.py has set its environment

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.scene import Scene
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

if TYPE_CHECKING:
    import pytest


def test_no_text_is_in_the_database_or_in_a_log(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    dags_folder: Callable[[Path], None],
) -> None:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    (tmp_path / "prompt.txt").write_text(PROMPT)
    monkeypatch.setenv("PROMPTS_OUTSIDE_OF_AIRFLOW", str(tmp_path / "prompt.txt"))
    dags_folder(DAGS)
    monkeypatch.setenv("AIRFLOW_VAR_ASSISTANT_ID", scene.assistant_id)
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.INTERVAL_BOUNDS", (0.05, 30.0))
    quick = {"queued": 0, "in_progress": 0.05}
    scene.simulator.script(*(Scenario.from_json({**quick, **does}) for does in scenarios()))
    bag = DagBag(DAGS / f"{DAG_ID}.py")
    assert bag.import_errors == {}
    dag = bag.dags[DAG_ID]

    states = {one.task_id: one.state for one in dag.test().get_task_instances()}
    scene.simulator.fault(Fault.from_json(FAULT))
    refused = dag.test(mark_success_pattern=f"^(?!{REFUSED}$)")
    states |= {one.task_id: one.state for one in refused.get_task_instances() if one.task_id == REFUSED}
    printed = capfd.readouterr()

    assert states == {case: "failed" if case in FAILED else "success" for case in states}
    assert len(holding(tmp_path / "output", ANSWER)) > len(FAILED), "the answers are where they were to be"
    home = Path(os.environ["AIRFLOW_HOME"])
    assert (home / "airflow.db").stat().st_size > 0
    for text in (PROMPT, ANSWER):
        assert text not in printed.out + printed.err
        assert holding(home, text) == []
    assert holding(home, "(text_in_xcom=0)"), "size and hash are there in place of the prompt"
