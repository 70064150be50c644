# SPDX-License-Identifier: Apache-2.0
"""The connections that the example Dags use: to the simulator, or to a real service."""

from __future__ import annotations

import json
import os

from dev.live.simulator import Simulator

KEY, BASE_URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"


def real_service() -> bool:
    """Tell whether the environment has a key, so that ``openai_default`` is not the simulator."""
    return bool(os.environ.get(KEY))


def service_name(simulator: Simulator) -> str:
    """Say what ``openai_default`` points to."""
    if real_service():
        return os.environ.get(BASE_URL) or f"OpenAI ({KEY} is set)"
    return f"{simulator.base_url} (the simulator; set {KEY} to use a real service)"


def environment(simulator: Simulator) -> dict[str, str]:
    """Define the connections; let operators wait in the triggerer, and retries come soon.

    ``openai_simulated`` always is the simulator, and so is ``openai_threads``: OpenAI itself has removed the
    API that thread runs need.
    """
    simulated = _connection("simulator-key", simulator.base_url)
    default = _connection(os.environ[KEY], os.environ.get(BASE_URL)) if real_service() else simulated
    return {
        "AIRFLOW_CONN_OPENAI_DEFAULT": default,
        "AIRFLOW_CONN_OPENAI_SIMULATED": simulated,
        "AIRFLOW_CONN_OPENAI_THREADS": simulated,
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "2",
        # The executor's queue knows no priority: a mapped task must not fill it.
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "3",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "3",
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
    }


def _connection(key: str, base_url: str | None) -> str:
    return json.dumps({"conn_type": "openai", "password": key, "host": base_url or ""})
