# SPDX-License-Identifier: Apache-2.0
"""
Classify support tickets: a table in, a typed table out, all of it in one task.

Two hundred tickets here, a hundred thousand with the same Dag. Each is paid for once, also when the worker is
killed; the last task says what failed, and the file with these can be the next input.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from airflow.sdk import Variable, dag, task
from pydantic import BaseModel

from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator

#: In production a bucket: "s3://my_aws@bucket/tickets".
FOLDER = "{{ var.value.get('openai_tickets', '/tmp/openai_tickets') }}"
TOPICS = ("my parcel is late", "I was charged twice", "the app crashes", "how do I export my data")


class Ticket(BaseModel):
    """What the model says of a ticket."""

    team: Literal["shipping", "billing", "engineering", "support"]
    urgent: bool
    summary: str


def request(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs from ticket to ticket; the rest are the operator's own arguments."""
    return {"custom_id": row["ticket"], "input": f"{row['subject']}\n\n{row['text']}"}


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    params={"rows": 200},
    tags=["openai", "example", "bulk"],
)
def openai_tickets() -> None:
    """Write tickets, classify them, make a table and a report."""

    @task
    def export(rows: str) -> str:
        """Export the tickets; here they are made up."""
        folder = Path(Variable.get("openai_tickets", default="/tmp/openai_tickets"))  # noqa: S108 # an example
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "tickets.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["ticket", "subject", "text"])
            for number in range(int(rows)):
                topic = TOPICS[number % len(TOPICS)]
                table.writerow([f"T-{number}", topic, f"Hello, {topic}. Customer {number}"])
        return str(path)

    classify = BulkCreateResponsesOperator(
        task_id="classify",
        input_path=export("{{ params.rows }}"),
        request=request,
        output_path=FOLDER,
        output_type=Ticket,
        model="gpt-6-luna",
        instructions="Classify the ticket of a customer.",
        max_active=100,
        max_failed=0.1,
        completion_window=3600,
        deferrable=True,
        retries=3,  # a retry goes on with the runs that there are
        retry_delay=timedelta(seconds=10),
    )

    @task
    def table(done: dict[str, Any]) -> dict[str, int]:
        """Write one line for each ticket, and count them by team; this could be a COPY into a warehouse."""
        from airflow_provider_openai_runs.bulk import read_results  # noqa: PLC0415 # brings fsspec

        folder = Path(Variable.get("openai_tickets", default="/tmp/openai_tickets"))  # noqa: S108 # an example
        teams: Counter[str] = Counter()
        with (folder / "classified.csv").open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["ticket", "team", "urgent", "summary"])
            for result in read_results(done):
                found = Ticket.model_validate(result["output"])
                lines.writerow([result["custom_id"], found.team, found.urgent, found.summary])
                teams[found.team] += 1
        return dict(teams)

    @task
    def report(done: dict[str, Any]) -> list[str]:
        """Say what has no result, and why."""
        from airflow_provider_openai_runs.bulk import read_results  # noqa: PLC0415 # brings fsspec

        missing = [
            f"{result['custom_id']}: {result['error']}"
            for result in read_results(done, failed=True)
            if result["state"] != "succeeded"
        ]
        print(json.dumps(missing, indent=1))  # noqa: T201 # into the task's log
        return missing[:20]

    done: Any = classify.output
    table(done)
    report(done)


openai_tickets()
