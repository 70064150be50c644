# SPDX-License-Identifier: Apache-2.0
"""Tasks with ``text_in_xcom=0`` that end in every way; ``tests/chaos`` looks for their texts in Airflow."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, ObjectStoragePath, task

from airflow_provider_openai_runs.operators import (
    CreateResponseOperator,
    CreateRunOperator,
    GetResponseOperator,
)

PROMPTS = "PROMPTS_OUTSIDE_OF_AIRFLOW"
"""The environment variable that names the file with the prompt, and its folder is where the output goes."""

SCHEMA = {"type": "object", "properties": {"name": {"enum": ["Ada"]}}, "required": ["name"]}


def prompt(case: str) -> str:
    """Read the prompt when the task runs, from where Airflow does not look."""
    return f"{Path(os.environ[PROMPTS]).read_text()} [case {case}]"


def look_up(name: str) -> str:
    """Look a name up."""
    raise LookupError(f"there is no {name}")


OUTPUT = f"file://{Path(os.environ.get(PROMPTS, '/tmp/none')).parent}/output"  # noqa: S108 # only where it is unset
COMMON: dict[str, Any] = {"completion_window": 120, "output_path": OUTPUT, "text_in_xcom": 0, "retries": 0}


def ask(case: str, **more: Any) -> CreateResponseOperator:
    """Make a task for one way to end."""
    asked = f"{{{{ prompt({case!r}) }}}}"
    return CreateResponseOperator(
        task_id=case, model="gpt-6-luna", input=asked, instructions=asked, **{**COMMON, **more}
    )


with DAG(
    "text_out_of_airflow",
    schedule=None,
    render_template_as_native_obj=True,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    user_defined_macros={"prompt": prompt},
):
    answers = ask("answers")
    ask("answers_in_the_worker", deferrable=False)
    ask("from_the_trigger", end_from_trigger=True)
    ask("typed", output_type=SCHEMA)
    ask("typed_wrongly", output_type=SCHEMA)
    ask("refuses")
    ask("fails")
    ask("is_incomplete")
    ask("is_refused_by_the_server")
    ask("calls", functions=[look_up], max_tool_errors=2)
    # A template: the parse refuses a function that nobody answers, where it can read its name.
    ask("calls_nobody", tools=[{"type": "function", "name": "{{ 'look_up' }}"}])
    ask("has_a_wrong_argument", temperature="{{ prompt('has_a_wrong_argument') }}")
    CreateRunOperator(
        task_id="thread_run",
        conn_id="openai_default",
        assistant_id="{{ var.value.assistant_id }}",
        thread={"messages": [{"role": "user", "content": "{{ prompt('thread_run') }}"}]},
        **COMMON,
    )
    get = GetResponseOperator(
        task_id="get",
        ref="{{ ti.xcom_pull(task_ids='answers', key='ref') }}",
        include_steps=True,
        output_path=OUTPUT,
        text_in_xcom=0,
    )

    @task
    def reads(result: dict[str, Any]) -> int:
        """Read the answer from where it is, and tell no more than how long it is."""
        return len(ObjectStoragePath(result["output_uri"]).read_text())

    answers >> get
    reads(get.output)  # type: ignore[arg-type]
