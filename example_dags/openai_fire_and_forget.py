# SPDX-License-Identifier: Apache-2.0
"""Create a response without waiting, do something else meanwhile, and wait for it with a sensor."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from airflow_provider_openai_runs.operators import CreateResponseOperator
from airflow_provider_openai_runs.sensors import ResponseSensor


@dag(schedule=None, catchup=False, is_paused_upon_creation=False, tags=["openai", "example"])
def openai_fire_and_forget() -> None:
    """Nobody cancels a run that is not waited for: neither its creator nor a sensor."""
    create = CreateResponseOperator(
        task_id="create",
        model="gpt-6-luna",
        input="Write a data quality report in three sentences.",
        # No completion_window: the task ends as soon as the response is created.
    )

    @task
    def meanwhile() -> str:
        """Do what does not need the answer."""
        return "The tables are loaded."

    wait = ResponseSensor(
        task_id="wait",
        # kind, id and connection of the run; any task may be handed it
        ref=create.output["ref"],  # type: ignore[index]  # Airflow promises less than it can
        poke_interval=10,  # seconds between two polls; Airflow's default for sensors is 60
        timeout=600,  # seconds; then the sensor fails and the response is left alone
        deferrable=True,
    )

    @task
    def report(loaded: str, answer: dict[str, Any]) -> str:
        """Put both together; the sensor returns the same dict as the operators."""
        return f"{loaded} {answer['output_text']}"

    report(meanwhile(), wait.output)  # type: ignore[arg-type]  # XComArgs stand for the values


openai_fire_and_forget()
