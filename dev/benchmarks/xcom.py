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
import time
from pathlib import Path

TASKS = 100
#: A short answer, as the operators return it.
RESULT = {
    **dict.fromkeys(("object", "model", "instructions", "last_error", "incomplete_details", "output")),
    "id": "resp_0123456789abcdef0123456789abcdef0123456789abcdef",
    "status": "completed",
    "output_text": "The disk of the node that loads the orders is full. " * 10,
    "usage": {"prompt_tokens": 812, "completion_tokens": 140, "total_tokens": 952},
    "ref": {"kind": "response", "id": "resp_0123456789abcdef", "conn_id": "openai_default"},
    "steps": [{"id": f"msg_{number}", "type": "message", "status": "completed"} for number in range(5)],
}


def measure(home: Path) -> None:
    """Run the tasks, and print what they have measured."""
    from airflow.sdk import DAG, get_current_context, task

    from airflow_provider_openai_runs import results

    found = home / "found.jsonl"
    with DAG("xcom_writes", schedule=None) as dag:

        @task(do_xcom_push=False)
        def push() -> None:
            """Push as a task whose run has completed."""
            ti = get_current_context()["ti"]
            with found.open("a") as file:
                for number in range(TASKS):
                    began = time.perf_counter()
                    ti.xcom_push(key=f"whole_{number}", value=RESULT)
                    whole = time.perf_counter()
                    results.push_named(ti, RESULT)
                    seconds = {"whole": whole - began, "own": time.perf_counter() - whole}
                    file.write(json.dumps(seconds) + "\n")

        push()
    dag.test()
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    writes = {"whole": 1, "own": len(results.named(RESULT))}
    print(f"{'':24}{'writes':>8}{'median ms':>11}{'p95 ms':>9}{'ms a write':>12}   ({len(rows)} tasks)")
    for name, label in (("whole", "return_value"), ("own", "keys of their own")):
        took = sorted(1000 * row[name] for row in rows)
        median = statistics.median(took)
        p95 = took[int(len(took) * 0.95)]
        print(f"{label:24}{writes[name]:8}{median:11.1f}{p95:9.1f}{median / writes[name]:12.1f}")


def main() -> None:
    """Make the Airflow, and measure in it."""
    with tempfile.TemporaryDirectory(prefix="bench-xcom-") as home:
        os.environ |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        command = [sys.executable, "-W", "ignore", "-m", "airflow", "db", "migrate"]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 # our own words
        measure(Path(home))


if __name__ == "__main__":
    main()
