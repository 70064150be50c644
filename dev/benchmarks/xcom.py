# SPDX-License-Identifier: Apache-2.0
"""
What the keys of their own cost a task: writes to XCom, and milliseconds, beside the write of the whole dict.

A task of a throwaway Airflow, within ``dag.test()``, pushes as the operators do: through Airflow's execution
API in the same process, into SQLite. The network to an API server comes on top: a round trip a write.
"""

# ruff: noqa: PLC0415 - Airflow reads its environment when it is imported, so it is imported after that is set

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TASKS = 100
DAGS = Path(__file__).parent / "dags"


def measure(folder: Path) -> list[dict[str, float]]:
    """Push as so many tasks do; return the seconds of each."""
    found = folder / "found.jsonl"
    os.environ |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "XCOM_WRITES": str(TASKS),
        "XCOM_WRITES_TO": str(found),
    }
    command = [sys.executable, "-W", "ignore", "-m", "airflow", "db", "migrate"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 # our own words
    from airflow.dag_processing.dagbag import DagBag

    DagBag(DAGS / "xcom_writes.py").dags["xcom_writes"].test()
    return [json.loads(line) for line in found.read_text().splitlines()]


def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory(prefix="bench-xcom-") as folder:
        rows = measure(Path(folder))
    print(f"{'':20}{'writes':>8}{'median ms':>11}{'p95 ms':>9}{'ms a write':>12}   ({len(rows)} tasks)")
    for name, label, writes in (
        ("whole", "return_value", 1),
        ("own", "keys of their own", rows[0]["writes"]),
    ):
        took = sorted(1000 * row[name] for row in rows)
        median, p95 = statistics.median(took), took[int(len(took) * 0.95)]
        print(f"{label:20}{writes:8.0f}{median:11.1f}{p95:9.1f}{median / writes:12.1f}")


if __name__ == "__main__":
    main()
