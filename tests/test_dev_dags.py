# SPDX-License-Identifier: Apache-2.0
"""The Dags of the demo, chaos, conformance and the benchmarks, which no other test parses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.airflow_versions import HAS_STORE

ROOT = Path(__file__).parents[1]
FILES = sorted(ROOT.glob("dev/*/dags/*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_dag_file_of_dev_parses(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dagbag = pytest.importorskip("airflow.dag_processing.dagbag", reason="dev/ is for Airflow 3.3")
    if not HAS_STORE:
        pytest.skip("dev/ is for Airflow 3.3")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    bag = dagbag.DagBag(path)
    assert bag.import_errors == {}
    assert bag.dags
