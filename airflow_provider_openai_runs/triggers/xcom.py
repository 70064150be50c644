# SPDX-License-Identifier: Apache-2.0
"""Values that a trigger pushes for its task, in the way in which a worker pushes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


async def push(task_instance: Any, values: Mapping[str, Any]) -> None:
    """
    Push values under their keys; Airflow may refuse that with any error.

    :param task_instance: of the trigger.
    """
    # Taken at call time: Airflow sets it when the triggerer starts.
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415
    from airflow.sdk.execution_time.comms import SetXCom  # noqa: PLC0415

    for key, value in values.items():
        message = SetXCom(
            key=key,
            value=value,
            dag_id=task_instance.dag_id,
            run_id=task_instance.run_id,
            task_id=task_instance.task_id,
            map_index=task_instance.map_index,
        )
        await task_runner.SUPERVISOR_COMMS.asend(message)
