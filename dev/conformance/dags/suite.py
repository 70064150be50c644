# SPDX-License-Identifier: Apache-2.0
"""The Dags that every server runs: what they ask for comes with the Dag run."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_openai_runs.operators import (
    BulkCreateResponsesOperator,
    CancelRunOperator,
    CreateResponseOperator,
    CreateRunOperator,
    GetResponseOperator,
    GetThreadRunOperator,
    SubmitToolOutputsOperator,
)
from airflow_provider_openai_runs.sensors import ResponseSensor, ThreadRunSensor

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SKY = {
    "type": "object",
    "properties": {"sky": {"enum": ["blue", "red"]}},
    "required": ["sky"],
    "additionalProperties": False,
}


def weather(city: str = "", location: str = "") -> str:
    """Tell the weather of a city; one server calls it by the other name, whatever it is offered."""
    with Path(os.environ["AIRFLOW_HOME"], "called.txt").open("a") as file:
        file.write(f"{city or location}\n")
    return f"18 degrees in {city or location}"


KINDS: dict[str, tuple[Any, Any, Any, tuple[str, ...], str]] = {
    "thread_run": (
        CreateRunOperator,
        GetThreadRunOperator,
        ThreadRunSensor,
        ("thread_id", "assistant_id"),
        "run_id",
    ),
    "response": (
        CreateResponseOperator,
        GetResponseOperator,
        ResponseSensor,
        ("model", "input"),
        "response_id",
    ),
}
REF = "{{ ti.xcom_pull(task_ids='ask', key='ref') }}"


def given(*names: str) -> dict[str, str]:
    """Take arguments from the Dag run's conf."""
    return {name: f"{{{{ dag_run.conf['{name}'] }}}}" for name in names}


def suite_dag(kind: str, name: str) -> DAG:
    """Begin a Dag."""
    return DAG(
        f"{kind}_{name}",
        schedule=None,
        render_template_as_native_obj=True,
        user_defined_macros={"tool": TOOL},
    )


for kind, (create, get, sensor, arguments, its_id) in KINDS.items():
    wait: dict[str, Any] = {
        "task_id": "ask",
        "completion_window": 60,
        "poll_interval": 0.2,
        **given(*arguments),
    }
    variants: dict[str, dict[str, Any]] = {
        "wait": {"deferrable": False},
        "wait_deferred": {"deferrable": True},
        # By a template: a literal that nobody here can answer is refused when the file is parsed.
        "tool": {"deferrable": False, "tools": "{{ [tool] }}"},
        "function": {"deferrable": True, "functions": [weather]},
        "typed": {"deferrable": True, "output_type": SKY},
        "window_over": {"deferrable": True, "completion_window": timedelta(seconds=0.4)},
        "forget": {"completion_window": None},
    }
    for name, more in variants.items():
        with suite_dag(kind, name) as dag:
            create(**wait | more)
        globals()[dag.dag_id] = dag

    with suite_dag(kind, "sensor") as dag:
        asked = create(**wait | {"completion_window": None})
        until = sensor(task_id="until", ref=REF, poke_interval=0.2, timeout=60)
        asked >> until >> get(task_id="read", ref=REF, include_steps=True)
    globals()[dag.dag_id] = dag

    with suite_dag(kind, "cancel") as dag:
        create(**wait | {"completion_window": None}) >> CancelRunOperator(task_id="end", ref=REF, wait=30)
    globals()[dag.dag_id] = dag

    with suite_dag(kind, "submit") as dag:
        answer: dict[str, Any] = {
            "ref": REF,
            "outputs": "{{ {ti.xcom_pull(task_ids='ask')['tool_calls'][0]['id']: '18 degrees'} }}",
            **({"tools": [TOOL]} if kind == "response" else {}),
        }
        returns = create(**wait | {"tools": [TOOL], "on_tool_calls": "return"})
        returns >> SubmitToolOutputsOperator(
            task_id="answer", completion_window=60, poll_interval=0.2, **answer
        )
    globals()[dag.dag_id] = dag

    with suite_dag(kind, "read") as dag:
        get(task_id="read", **given(*(["thread_id"] if kind == "thread_run" else []), its_id))
    globals()[dag.dag_id] = dag

with suite_dag("thread_run", "new_thread") as dag:
    CreateRunOperator(
        task_id="ask",
        assistant_id=given("assistant_id")["assistant_id"],
        thread={"messages": [{"role": "user", "content": "Why is the sky blue?"}]},
        completion_window=60,
        poll_interval=0.2,
    )

bulk: dict[str, Any] = given("model", "items", "output_path")
for name, deferrable in {"bulk": False, "bulk_deferred": True}.items():
    with suite_dag("response", name) as dag:
        BulkCreateResponsesOperator(
            task_id="ask", completion_window=600, poll_interval=0.5, deferrable=deferrable, **bulk
        )
    globals()[dag.dag_id] = dag
