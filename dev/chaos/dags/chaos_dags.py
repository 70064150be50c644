# SPDX-License-Identifier: Apache-2.0
"""One Dag for each kind of run, way to wait and set of options; one task each, and one trial a Dag run."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, BaseOperator, Context

from airflow_provider_openai_runs.operators import (
    BulkCreateResponsesOperator,
    CreateResponseOperator,
    CreateRunOperator,
)
from dev.chaos import batch_rows
from dev.chaos.bulk_rows import KIND, OPTIONS, TIMEOUT
from dev.chaos.ceiling_rows import CEILING, MAX_WRITTEN
from dev.chaos.crowd_rows import CROWD, SIZE
from dev.chaos.dag import PERSISTENT, PROMPT, RETRY, dag
from dev.chaos.dying import DyingResponseOperator, DyingRunOperator
from dev.chaos.faulty_storage import attach_faulty_storage
from dev.chaos.hostile_rows import INNOCENT, INNOCENTS
from dev.chaos.hostile_server import PLACES
from dev.chaos.small_batches import SmallBatchesOperator
from dev.chaos.tool_rows import SECONDS_OF_A_CALL

attach_faulty_storage()


def look_up(number: int) -> str:
    """Look something up."""
    return f"found {number}"


def take_time(number: int, context: Context) -> str:
    """Take some time; the first attempt of a trial that says so does not live that long."""
    dies_after = (context["dag_run"].conf or {}).get("dies_after")
    if dies_after is not None and context["ti"].try_number == 1:
        time.sleep(dies_after)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(SECONDS_OF_A_CALL)
    return f"done {number}"


class Blocker(BaseOperator):
    """Keeps a worker busy."""

    def execute(self, context: Context) -> None:
        """Sleep as long as the Dag run says."""
        time.sleep((context["dag_run"].conf or {})["seconds"])


with DAG("blocker", schedule=None, max_active_runs=100, max_active_tasks=100):
    Blocker(task_id="t", priority_weight=100)

for waits in ("deferred", "worker"):
    deferrable = waits == "deferred"
    for kind, create, dying in (
        ("response", CreateResponseOperator, DyingResponseOperator),
        ("thread_run", CreateRunOperator, DyingRunOperator),
    ):
        dag(f"{kind}_{waits}", create, deferrable=deferrable)
        limit = timedelta(seconds=20)
        dag(f"{kind}_{waits}_timeout", create, deferrable=deferrable, execution_timeout=limit, retries=0)
        limit = timedelta(seconds=60)
        dag(f"{kind}_{waits}_busy_timeout", create, deferrable=deferrable, execution_timeout=limit, retries=0)
        dag(f"{kind}_{waits}_dagrun", create, deferrable=deferrable, dagrun_timeout=timedelta(seconds=60))
        dag(f"{kind}_{waits}_calls", create, deferrable=deferrable, functions=[look_up, take_time])
        output = "{{ dag_run.conf['output'] }}"
        dag(f"{kind}_{waits}_files", create, deferrable=deferrable, output_path=output)
        written = "max_output_tokens" if kind == "response" else "max_completion_tokens"
        capped: dict[str, Any] = {"max_total_tokens": CEILING, written: MAX_WRITTEN}
        dag(f"{kind}_{waits}_capped", create, deferrable=deferrable, **capped)
        dag(f"{kind}_{waits}_once", create, deferrable=deferrable, retries=0)
        dag(f"{kind}_{waits}_away", create, deferrable=deferrable, retries=12)
        if deferrable:
            dag(f"{kind}_{waits}_dies", dying, deferrable=True, retries=1)
    bulk: dict[str, Any] = {
        "items": "{{ dag_run.conf['items'] }}",
        "input": None,
        "metadata": None,
        "output_path": "{{ dag_run.conf['output'] }}",
        "deferrable": deferrable,
        **OPTIONS,
    }
    dag(f"{KIND}_{waits}", BulkCreateResponsesOperator, **bulk)
    dag(f"{KIND}_{waits}_persistent", BulkCreateResponsesOperator, **bulk | PERSISTENT)
    limit = timedelta(seconds=TIMEOUT)
    dag(
        f"{KIND}_{waits}_timeout",
        BulkCreateResponsesOperator,
        execution_timeout=limit,
        **bulk | {"retries": 0},
    )
    dag(
        f"{batch_rows.KIND}_{waits}",
        SmallBatchesOperator,
        **bulk | {"processing": "batch", "provider_metadata": True, "poll_interval": 1},
    )
    for place in PLACES:
        limits: dict[str, Any] = {"conn_id": "hostile", "retries": 0, "poll_interval": 1.5}
        dag(f"hostile_{place}_{waits}", CreateResponseOperator, deferrable=deferrable, **limits)
    for policy in ("fail", "wait", "cancel"):
        dag(
            f"thread_run_{waits}_busy_{policy}",
            CreateRunOperator,
            deferrable=deferrable,
            on_active_run=policy,
            thread=None,
            thread_id="{{ dag_run.conf['thread'] }}",
            additional_instructions=PROMPT,
        )

with DAG(CROWD, schedule=None, max_active_tasks=SIZE):
    CreateResponseOperator.partial(
        task_id="t",
        model="gpt-6-luna",
        metadata={"trial": CROWD},
        completion_window=6000,
        deferrable=True,
        # A scheduler that starts so many takes its own queue for orphaned, and burns tries.
        **{**RETRY, "retries": 20},
    ).expand(input=[f"{CROWD} {number}" for number in range(SIZE)])

with DAG(INNOCENT, schedule=None, max_active_tasks=100):
    CreateResponseOperator.partial(
        task_id="t",
        model="gpt-6-luna",
        metadata={"trial": INNOCENT},
        completion_window=600,
        deferrable=True,
        end_from_trigger=True,
        **RETRY,
    ).expand(input=[f"{INNOCENT} {number}" for number in range(INNOCENTS)])
