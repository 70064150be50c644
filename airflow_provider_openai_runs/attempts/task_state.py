# SPDX-License-Identifier: Apache-2.0
"""Whether the task instance behind a trigger has been given up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.runs.end_of_attempt import UNKNOWN, TaskState

log = logging.getLogger(__name__)


async def task_was_ended(task_instance: Any) -> TaskState:
    """Ask Airflow for the state of the task instance; whatever goes wrong, the state is unknown."""
    if task_instance is None:
        return UNKNOWN
    try:
        # Taken at call time: Airflow sets it when the triggerer starts.
        from airflow.sdk.execution_time import task_runner  # noqa: PLC0415
        from airflow.sdk.execution_time.comms import GetTaskStates  # noqa: PLC0415

        answer: Any = await task_runner.SUPERVISOR_COMMS.asend(
            GetTaskStates(
                dag_id=task_instance.dag_id,
                task_ids=[task_instance.task_id],
                run_ids=[task_instance.run_id],
                map_index=task_instance.map_index,
            )
        )
        states = answer.task_states.get(task_instance.run_id, {})
    except Exception:
        log.warning("Could not ask for the state of %s", task_instance.task_id, exc_info=True)
        return UNKNOWN
    return TaskState(state_among(states, task_instance))


def state_among(states: Mapping[str, Any], task_instance: Any) -> Any:
    """Pick the state of a task instance; Airflow appends the map index to the name of a mapped one."""
    name = task_instance.task_id
    return states.get(f"{name}_{task_instance.map_index}", states.get(name))
