# SPDX-License-Identifier: Apache-2.0
"""Makes the page of a run known as long as its task has not left its worker; then Airflow does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.runs.text import message_text

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


def has_own_xcom_backend() -> bool:
    """Whether ``[core] xcom_backend`` names a backend of the deployment's own."""
    from airflow.sdk.bases.xcom import BaseXCom  # noqa: PLC0415 # a Dag file need not pay for it
    from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415

    return XCom is not BaseXCom


def push_page(ti: Any, *, key: str, url: str, log: Logger) -> None:
    """
    Push the page where Airflow's link reads it: in its database, past a backend that stores a path there.

    A run that has just been paid for is not given up for its link: a failure is only a warning.
    """
    try:
        if not has_own_xcom_backend():
            ti.xcom_push(key=key, value=url)
            return
        from airflow.sdk.bases.xcom import BaseXCom  # noqa: PLC0415

        BaseXCom.set(
            key=key,
            value=url,
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
        )
    except Exception as error:  # noqa: BLE001
        log.warning("Could not push the link of the run: %s", message_text(error))
