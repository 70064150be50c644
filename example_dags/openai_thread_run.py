# SPDX-License-Identifier: Apache-2.0
"""
Run an assistant on an existing thread of a server that still speaks the Assistants API.

OpenAI itself removed that API on 2026-08-26, hence a connection of its own, ``openai_threads``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_openai_runs.operators import CreateRunOperator


@dag(schedule=None, catchup=False, is_paused_upon_creation=False, tags=["openai", "example"])
def openai_thread_run() -> None:
    """Prepare a thread, run on it, read the answer."""

    @task(multiple_outputs=True)
    def prepare() -> dict[str, str]:
        """In real life the assistant and the thread exist already."""
        from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 # brings the SDK

        hook = OpenAIRunsHook("openai_threads")
        thread_id = hook.create_thread(messages=[{"role": "user", "content": "Why do data pipelines fail?"}])
        assistant = hook.conn.post(
            "/assistants",
            cast_to=dict[str, Any],
            body={"model": "gpt-6-luna"},
            options={"headers": {"OpenAI-Beta": "assistants=v2"}},
        )
        return {"thread_id": thread_id, "assistant_id": assistant["id"]}

    prepared = prepare()
    run = CreateRunOperator(
        task_id="run",
        conn_id="openai_threads",
        thread_id=prepared["thread_id"],  # type: ignore[index]  # an XComArg stands for the dict
        assistant_id=prepared["assistant_id"],  # type: ignore[index]
        instructions="Answer in one sentence.",
        completion_window=600,
        deferrable=True,
        retries=2,  # a retry goes on with the same run
        retry_delay=timedelta(seconds=10),
    )

    @task
    def report(answer: dict[str, Any]) -> str:
        """Read the run's dict; it has the same names as a response's."""
        return f"{answer['status']} after {len(answer['steps'])} steps: {answer['output_text']}"

    report(run.output)  # type: ignore[arg-type]  # an XComArg stands for the dict


openai_thread_run()
