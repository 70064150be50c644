# SPDX-License-Identifier: Apache-2.0
"""Read a thread run that something else has created, by ``"thread_id:run_id"``."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from airflow_provider_openai_runs.operators import GetThreadRunOperator
from airflow_provider_openai_runs.sensors import ThreadRunSensor


@dag(schedule=None, catchup=False, is_paused_upon_creation=False, tags=["openai", "example"])
def openai_read_thread_run() -> None:
    """Read a run at once, wait for its end, read it again with its steps."""

    @task
    def prepare() -> str:
        """In real life the run exists already, and its name comes from a table or a Dag parameter."""
        from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 # brings the SDK

        hook = OpenAIRunsHook("openai_threads")
        assistant = hook.conn.post(
            "/assistants",
            cast_to=dict[str, Any],
            body={"model": "gpt-6-luna"},
            options={"headers": {"OpenAI-Beta": "assistants=v2"}},
        )
        thread_id = hook.create_thread(messages=[{"role": "user", "content": "Why do data pipelines fail?"}])
        run = hook.create_thread_run(thread_id=thread_id, assistant_id=assistant["id"])
        return f"{thread_id}:{run.ref.id}"

    name = prepare()
    # Whatever its status is; a run that does not exist fails the task.
    first = GetThreadRunOperator(task_id="read", conn_id="openai_threads", run_id=name)  # type: ignore[arg-type]
    # Fails at once if the run ends otherwise than completed; never cancels it.
    wait = ThreadRunSensor(
        task_id="wait",
        conn_id="openai_threads",
        run_id=name,  # type: ignore[arg-type]  # an XComArg stands for the text
        timeout=600,
        deferrable=True,
    )
    last = GetThreadRunOperator(
        task_id="read_steps",
        conn_id="openai_threads",
        run_id=name,  # type: ignore[arg-type]
        include_steps=True,  # every page of them
    )

    @task
    def report(before: dict[str, Any], after: dict[str, Any]) -> str:
        """Compare the two."""
        return f"{before['status']}, then {after['status']} after {len(after['steps'])} steps"

    first >> wait >> last
    report(first.output, last.output)  # type: ignore[arg-type]


openai_read_thread_run()
