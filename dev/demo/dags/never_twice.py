# SPDX-License-Identifier: Apache-2.0
"""Three long runs that ``make demo`` disturbs: it kills a worker and a triggerer, and clears a task."""

from airflow.sdk import DAG

from airflow_provider_openai_runs.operators import CreateResponseOperator

with DAG("never_twice", schedule=None, default_args={"retries": 2}):
    for name, waits_in_a_worker in {"worker_dies": True, "triggerer_dies": False, "cleared": False}.items():
        CreateResponseOperator(
            task_id=name,
            conn_id="openai_simulated",
            model="gpt-6-luna",
            input="Write a long report.",
            metadata={"task": name},  # by which the demo finds its runs
            completion_window=3600,  # seconds
            deferrable=not waits_in_a_worker,
        )
