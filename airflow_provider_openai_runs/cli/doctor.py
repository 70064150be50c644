# SPDX-License-Identifier: Apache-2.0
"""Whether all is in place: Airflow with its triggerer and its state store, and one connection."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from airflow_provider_openai_runs.cli.airflow_api import AirflowApi, AirflowApiError, TaskInstance
from airflow_provider_openai_runs.cli.connections import conn_id_of
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.hooks.diagnosis import Finding, Level, diagnose

_HEALTHY = "healthy"
#: The newest tasks whose models are asked about.
_TASKS = 100


def examine(api: AirflowApi, *, conn_id: str, models: Collection[str]) -> Iterator[Finding]:
    """
    Yield a finding for each question about Airflow, then about the connection.

    :param models: those to ask about; without any, those that the newest tasks were given.
    """
    try:
        yield from _about_airflow(api)
        models = models or _models_in_use(api, conn_id)
    except AirflowApiError as error:
        yield Finding(
            about="Airflow",
            level=Level.FAILED if error.status is None else Level.WARNING,
            text=f"{str(error).rstrip('.')}. What Airflow itself needs was not asked.",
        )
    yield from diagnose(OpenAIRunsHook(conn_id), models=models)


def _about_airflow(api: AirflowApi) -> Iterator[Finding]:
    health = api.health()
    version = api.version()
    yield _component(
        "triggerer",
        health.get("triggerer"),
        "Deferred tasks wait in it",
        "Deferred tasks stay deferred for ever, past their deadline too. Start one: airflow triggerer",
    )
    yield _component(
        "database",
        health.get("metadatabase"),
        "Airflow reaches its database",
        "Airflow cannot reach its database",
    )
    if api.has_state_store():
        text = f"{version} has a task state store: every promise of docs/reliability.md holds."
        yield Finding(about="Airflow", level=Level.OK, text=text)
    else:
        yield Finding(
            about="Airflow",
            level=Level.WARNING,
            text=f"{version} has no task state store: a retry creates a response anew, and a deferred "
            "task that is marked or cleared leaves its run going. Airflow 3.3 has one, once its database is "
            "migrated.",
        )


def _component(about: str, state: str | None, good: str, bad: str) -> Finding:
    if state == _HEALTHY:
        return Finding(about=about, level=Level.OK, text=f"{good}; it is healthy.")
    return Finding(about=about, level=Level.FAILED, text=f"{bad} (state: {state or 'there is none'}).")


def _models_in_use(api: AirflowApi, conn_id: str) -> list[str]:
    """Return the models of the newest tasks that use this connection."""
    tasks = api.task_instances(limit=_TASKS, order_by="-start_date", operator="CreateResponseOperator")
    models = {str(task.rendered["model"]) for task in tasks if _names_model(task, conn_id)}
    return sorted(models)


def _names_model(task: TaskInstance, conn_id: str) -> bool:
    return isinstance(task.rendered.get("model"), str) and conn_id_of(task.rendered) == conn_id
