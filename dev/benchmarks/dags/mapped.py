# SPDX-License-Identifier: Apache-2.0
"""Mapped runs in one Dag, finished by workers and finished by the triggerer."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_provider_openai_runs.operators import CreateResponseOperator

RUNS = int(os.environ.get("BENCH_RUNS", "200"))

for dag_id, end_from_trigger in (("ended_by_worker", False), ("ended_by_trigger", True)):
    with DAG(dag_id, schedule=None, max_active_tasks=RUNS):
        CreateResponseOperator.partial(
            task_id="ask",
            model="gpt-6-luna",
            completion_window=7200,
            poll_interval=5,
            deferrable=True,
            end_from_trigger=end_from_trigger,
        ).expand(input=[f"Question {number}" for number in range(RUNS)])
