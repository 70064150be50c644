# SPDX-License-Identifier: Apache-2.0
"""
What importing the operators costs a Dag file, beside the official provider's.

Each import runs in a fresh interpreter, after ``airflow.sdk``, which every Dag file pays for anyway. The
contenders take turns, so that a machine that gets slower meanwhile is slow for both; quote the medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 7
CONTENDERS = {
    "airflow_provider_openai_runs.operators": "import airflow_provider_openai_runs.operators",
    "airflow.providers.openai.operators.openai": "import airflow.providers.openai.operators.openai",
}
PROGRAM = """
import time
import airflow.sdk
from airflow.sdk import DAG, BaseOperator, task
began = time.perf_counter()
{statement}
print(time.perf_counter() - began)
"""


def measure(statement: str) -> float:
    """Return the seconds that an import takes in a fresh interpreter."""
    program = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(statement=statement)]
    done = subprocess.run(program, check=True, capture_output=True, text=True)  # noqa: S603 # our own text
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure in turns and print a table."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(ROUNDS):
        for name, statement in CONTENDERS.items():
            seconds[name].append(measure(statement))
    print(f"{'import':45}{'min ms':>9}{'median ms':>11}{'max ms':>9}   ({ROUNDS} rounds in turns)")
    for name, found in seconds.items():
        low, middle, high = (1000 * f(found) for f in (min, statistics.median, max))
        print(f"{name:45}{low:9.0f}{middle:11.0f}{high:9.0f}")
    ours, theirs = (statistics.median(found) for found in seconds.values())
    print(f"ratio of the medians: {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
