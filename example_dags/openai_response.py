# SPDX-License-Identifier: Apache-2.0
"""Create a background response, wait for it without a worker, and use its answer in the next task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_openai_runs.operators import CreateResponseOperator


@dag(schedule=None, catchup=False, is_paused_upon_creation=False, tags=["openai", "example"])
def openai_response() -> None:
    """Ask once; a retry goes on with the same response and pays nothing again."""
    ask = CreateResponseOperator(
        task_id="ask",
        model="gpt-6-luna",
        input="Name three things a data engineer checks first when a pipeline is late.",
        completion_window=600,  # seconds; without it the response is created and not waited for
        deferrable=True,  # wait in the triggerer; leave it out to follow Airflow's default_deferrable
        retries=2,  # a retry goes on with the same run
        retry_delay=timedelta(seconds=10),
    )

    @task
    def report(answer: dict[str, Any]) -> str:
        """Everything about the run is in one dict: id, status, usage, steps, output_text and more."""
        return f"{answer['usage']['total_tokens']} tokens: {answer['output_text']}"

    report(ask.output)  # type: ignore[arg-type]  # an XComArg stands for the dict


openai_response()
