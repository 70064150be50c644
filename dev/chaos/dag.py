# SPDX-License-Identifier: Apache-2.0
"""Makes the Dags of trials; with what the version knew that an upgrade starts from, too."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_openai_runs.operators import CreateRunOperator

PROMPT = "{{ dag_run.conf['prompt'] }}"
ASSISTANT = "{{ dag_run.conf['assistant'] }}"
RETRY: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=3)}
PERSISTENT: dict[str, Any] = {"retries": 20, "retry_delay": timedelta(seconds=20)}


def dag(name: str, operator: Any, *, dagrun_timeout: timedelta | None = None, **options: Any) -> None:
    """Make a Dag of one task that creates a run about the trial's prompt."""
    own: dict[str, Any] = {"model": "gpt-6-luna", "input": PROMPT}
    if issubclass(operator, CreateRunOperator):
        own = {"assistant_id": ASSISTANT, "thread": {"messages": [{"role": "user", "content": PROMPT}]}}
    with DAG(
        name,
        schedule=None,
        dagrun_timeout=dagrun_timeout,
        max_active_runs=100,
        max_active_tasks=100,
        render_template_as_native_obj=True,
    ):
        operator(
            task_id="t",
            completion_window="{{ dag_run.conf['window'] }}",
            **{"metadata": {"trial": "{{ dag_run.conf['trial'] }}"}, **own, **RETRY, **options},
        )
