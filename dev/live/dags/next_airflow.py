# SPDX-License-Identifier: Apache-2.0
"""What Airflow 3.4 adds to a task that waits; ``tests/chaos`` runs it there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_openai_runs.operators import CreateResponseOperator
from airflow_provider_openai_runs.retry import OpenAIRunRetryPolicy


def refund(order: int) -> str:
    """Pay money back for an order."""
    return f"Refunded {order}."


def write_to(customer: str) -> str:
    """Write to a customer."""
    return f"Wrote to {customer}."


with DAG("several_approvals", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    CreateResponseOperator(
        task_id="ask",
        model="gpt-6-luna",
        input="Two rounds, each with a person",
        functions=[refund, write_to],
        approve=True,
        completion_window=600,
        deferrable=True,
        retries=2,
        retry_delay=timedelta(seconds=5),
    )

with DAG("no_room", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    CreateResponseOperator(
        task_id="ask",
        model="gpt-6-luna",
        input="A server without room",
        timeouts={"create": 1},
        completion_window=600,
        deferrable=True,
        retries=0,
        retry_policy=OpenAIRunRetryPolicy(),
    )
