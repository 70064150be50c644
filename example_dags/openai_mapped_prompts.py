# SPDX-License-Identifier: Apache-2.0
"""Twenty prompts at once: each is a task instance of its own, and none holds a worker while it waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_openai_runs.operators import CreateResponseOperator


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    params={"rows": 20},
    tags=["openai", "example"],
)
def openai_mapped_prompts() -> None:
    """Map the operator over prompts, then reduce."""

    @task
    def prompts(rows: str) -> list[str]:
        """Read the work; twenty rows of a table, say."""
        return [f"Summarise row {number} in five words." for number in range(int(rows))]

    answers = CreateResponseOperator.partial(
        task_id="summarise",
        model="gpt-6-luna",
        completion_window=600,
        deferrable=True,
        end_from_trigger=True,  # no worker is needed to finish either
        retries=2,  # a retry goes on with the same run
        retry_delay=timedelta(seconds=10),
    ).expand(input=prompts("{{ params.rows }}"))

    @task
    def total(runs: list[dict[str, Any]]) -> dict[str, int]:
        """Add up what was paid for."""
        return {"runs": len(runs), "tokens": sum(run["usage"]["total_tokens"] for run in runs)}

    total(answers.output)  # type: ignore[arg-type]  # an XComArg stands for the list


openai_mapped_prompts()
