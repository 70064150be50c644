# SPDX-License-Identifier: Apache-2.0
"""Write a report with a chart; picture and reply go to storage, where the next task reads them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ObjectStoragePath, dag, task

from airflow_provider_openai_runs.operators import CreateResponseOperator

#: A bucket with its connection in production, as in ``s3://my_aws@my-bucket/reports``.
REPORTS = "{{ var.value.get('openai_reports', 'file:///tmp/openai_reports') }}"


@dag(schedule=None, catchup=False, is_paused_upon_creation=False, tags=["openai", "example"])
def openai_report() -> None:
    """Keep what is in a container that dies after twenty minutes."""
    write = CreateResponseOperator(
        task_id="write",
        model="gpt-6-luna",
        input="Draw a chart of the world's electricity by source as chart.png, and name your sources.",
        tools=[{"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto"}}],
        completion_window=1800,
        output_path=REPORTS,
        text_in_xcom=10_000,  # a longer text is on storage only, at output_uri
        deferrable=True,
        retries=2,  # storage that fails is tried again: the run is not paid for again
        retry_delay=timedelta(seconds=10),
    )

    @task
    def publish(report: dict[str, Any]) -> dict[str, Any]:
        """Read what the task before has left on storage."""
        pictures = [
            file["uri"] for file in report["files"] if file["uri"] and file["media_type"] == "image/png"
        ]
        return {
            "sources": sorted({cited["url"] for cited in report["citations"] if cited["url"]}),
            "pictures": {uri: len(ObjectStoragePath(uri).read_bytes()) for uri in pictures},
            "reply": ObjectStoragePath(report["reply_uri"]).stat().st_size,
        }

    publish(write.output)  # type: ignore[arg-type]  # an XComArg stands for the dict


openai_report()
