# SPDX-License-Identifier: Apache-2.0
"""The same prompts in one bulk task, and in a mapped one: for ``dev.benchmarks.bulk``."""

from __future__ import annotations

import json
import os

from airflow.sdk import DAG

from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator, CreateResponseOperator
from dev.benchmarks.bulk_contenders import prompt

OPTIONS = json.loads(os.environ.get("BENCH_BULK", '{"options": {}, "folder": "/tmp", "mapped": 2}'))

with DAG("bulk", schedule=None):
    BulkCreateResponsesOperator(
        task_id="ask",
        model="gpt-6-luna",
        input_path=f"file://{OPTIONS['folder']}/in.jsonl",
        output_path=f"file://{OPTIONS['folder']}/out",
        deferrable=True,
        **OPTIONS["options"],
    )

with DAG("mapped", schedule=None, max_active_tasks=OPTIONS["mapped"]):
    CreateResponseOperator.partial(
        task_id="ask", model="gpt-6-luna", completion_window=7200, deferrable=True
    ).expand(input=[prompt(number) for number in range(OPTIONS["mapped"])])
