# SPDX-License-Identifier: Apache-2.0
"""Dags whose tasks have retries enough for what Airflow itself burns; an older version parses them, too."""

from __future__ import annotations

from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator
from dev.chaos.dag import PERSISTENT, dag

for kind, create in (("response", CreateResponseOperator), ("thread_run", CreateRunOperator)):
    dag(f"{kind}_deferred_persistent", create, deferrable=True, **PERSISTENT)
    dag(f"{kind}_worker_persistent", create, deferrable=False, **PERSISTENT)
    dag(f"{kind}_deferred_ended", create, deferrable=True, end_from_trigger=True, **PERSISTENT)
