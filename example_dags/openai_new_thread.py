# SPDX-License-Identifier: Apache-2.0
"""
Create a thread and a run on it with one operator, on a self-hosted server of the Assistants API.

The connection ``openai_threads`` has the server's base URL as its host, such as http://assistants:8000/v1.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_openai_runs.operators import CreateRunOperator


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    params={"table": "orders"},
    tags=["openai", "example"],
)
def openai_new_thread() -> None:
    """One operator instead of two: no thread has to exist before."""

    @task
    def assistant() -> str:
        """In real life the assistant exists already, and its id is written down in the Dag."""
        from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 # brings the SDK

        created = OpenAIRunsHook("openai_threads").conn.post(
            "/assistants",
            cast_to=dict[str, Any],
            body={"model": "gpt-6-luna"},
            options={"headers": {"OpenAI-Beta": "assistants=v2"}},
        )
        return str(created["id"])

    run = CreateRunOperator(
        task_id="run",
        conn_id="openai_threads",
        assistant_id=assistant(),  # type: ignore[arg-type]  # an XComArg stands for the id
        # In place of thread_id. Templated, like all the other arguments.
        thread={"messages": [{"role": "user", "content": "Describe table {{ params.table }}."}]},
        max_completion_tokens=500,
        on_incomplete="accept",  # at the ceiling, take what was written until then
        completion_window=timedelta(minutes=10),
        deferrable=True,
        retries=2,
        retry_delay=timedelta(seconds=10),
    )

    @task
    def report(answer: dict[str, Any]) -> str:
        """Name the thread, for whoever wants to go on with it."""
        return f"{answer['thread_id']}: {answer['output_text']}"

    report(run.output)  # type: ignore[arg-type]  # an XComArg stands for the dict


openai_new_thread()
