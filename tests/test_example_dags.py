# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_openai_runs.simulator import Scenario, Simulator

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = sorted((Path(__file__).parents[1] / "example_dags").glob("*.py"))
#: How many runs each example pays for.
PAID = {"openai_mapped_prompts": 20, "openai_conversation": 2}


def parse(path: Path) -> Any:
    """Parse a file as Airflow does; return its one Dag."""
    try:
        from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415 - where this Airflow has it
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef] # noqa: PLC0415

    bag = DagBag(path)
    assert bag.import_errors == {}
    assert not [*bag.captured_warnings.values()]
    (dag,) = bag.dags.values()
    return dag


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Parse an example where there are no credentials."""

    def run(path: Path) -> Any:
        with monkeypatch.context() as bare:
            for name in [n for n in os.environ if n.startswith(("AIRFLOW_CONN_", "OPENAI_"))]:
                bare.delenv(name)
            return parse(path)

    return run


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_parses_without_warnings_or_credentials(path: Path, fetch: Callable[[Path], Any]) -> None:
    dag = fetch(path)

    assert dag.dag_id == path.stem
    assert "example" in dag.tags


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_succeeds_and_pays_for_no_run_twice(
    path: Path,
    fetch: Callable[[Path], Any],
    openai_runs_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OPENAI_THREADS", openai_runs_simulator.connection_json)
    monkeypatch.setattr("airflow_provider_openai_runs.runs.waiting.INTERVAL_BOUNDS", (0.1, 30.0))
    openai_runs_simulator.script(Scenario(queued=0.05, in_progress=0.15, times=None))
    dag = fetch(path)
    for sensor in (task for task in dag.tasks if hasattr(task, "poke_interval")):
        sensor.poke_interval = 0.1
    run = dag.test()

    assert run.state == "success"
    assert len(openai_runs_simulator.runs()) == PAID.get(path.stem, 1)
    assert openai_runs_simulator.active() == []
