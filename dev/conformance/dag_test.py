# SPDX-License-Identifier: Apache-2.0
"""A throwaway Airflow in this process, whose ``dag.test()`` runs the Dags of the suite."""

# ruff: noqa: PLC0415 - Airflow reads its environment when it is imported, so it is imported after that is set

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DAGS = Path(__file__).parent / "dags"
_ERROR = re.compile(r"^airflow_provider_openai_runs\.(?:\w+\.)*(\w+Error): (.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class DagResult:
    """What became of a Dag run: its state, what each task pushed, and all that was logged."""

    state: str
    xcoms: dict[str, Any]
    log: str

    @property
    def errors(self) -> dict[str, str]:
        """The errors that were logged, by the names of their classes."""
        return dict(_ERROR.findall(self.log))


class Suite:
    """The Dags, once parsed."""

    def __init__(self, home: Path) -> None:
        from airflow.dag_processing.dagbag import DagBag

        self._home = home
        bag = DagBag(DAGS)
        if bag.import_errors:
            raise RuntimeError(f"The suite's Dags do not parse: {bag.import_errors}")
        self._dags = bag.dags

    def run(self, dag_id: str, connection: dict[str, Any], conf: dict[str, Any]) -> DagResult:
        """Run a Dag to its end."""
        os.environ["AIRFLOW_CONN_OPENAI_DEFAULT"] = json.dumps(connection)
        log = self._home / "dag-test.txt"
        with _written_to(log):
            run = self._dags[dag_id].test(run_conf=conf)
        instances = run.get_task_instances()
        xcoms = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in instances}
        return DagResult(state=run.state.value, xcoms=xcoms, log=log.read_text())


@contextmanager
def _written_to(path: Path) -> Iterator[None]:
    """Redirect all output: Airflow's loggers hold on to the streams that they found."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("wb") as file:
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, before in zip((1, 2), kept, strict=True):
                os.dup2(before, number)
                os.close(before)


@contextmanager
def airflow() -> Iterator[Suite]:
    """Give the suite a database that lasts as long as the block."""
    with tempfile.TemporaryDirectory(prefix="conformance-airflow-") as home:
        for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "OPENAI_"))]:
            del os.environ[name]
        os.environ |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_COLOR": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        command = [sys.executable, "-W", "ignore", "-m", "airflow", "db", "migrate"]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own words
        warnings.simplefilter("ignore")
        yield Suite(Path(home))
