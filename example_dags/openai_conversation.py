# SPDX-License-Identifier: Apache-2.0
"""A conversation over two tasks: the second question builds on the answer to the first."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_openai_runs.operators import CreateResponseOperator


@dag(schedule=None, catchup=False, is_paused_upon_creation=False, tags=["openai", "example"])
def openai_conversation() -> None:
    """Create a conversation, then ask twice in it."""

    @task
    def start() -> str:
        """Create the conversation that the server keeps."""
        from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 # brings the SDK

        return str(OpenAIRunsHook().conn.conversations.create().id)

    conversation = start()
    settings: dict[str, Any] = {
        "model": "gpt-6-luna",
        "conversation": conversation,
        "completion_window": 600,
        "deferrable": True,
        "retries": 2,  # a retry goes on with the same response, so nothing is asked twice
        "retry_delay": timedelta(seconds=10),
    }
    ask = CreateResponseOperator(task_id="ask", input="Name one reason why pipelines are late.", **settings)
    ask_on = CreateResponseOperator(task_id="ask_on", input="How would you notice it early?", **settings)

    @task
    def report(first: dict[str, Any], second: dict[str, Any]) -> str:
        """Both answers name the conversation as their thread."""
        return f"{first['thread_id']}: {first['output_text']} / {second['output_text']}"

    # One after the other: a conversation takes one response at a time.
    ask >> ask_on
    report(ask.output, ask_on.output)  # type: ignore[arg-type]  # XComArgs stand for the dicts


openai_conversation()
