# SPDX-License-Identifier: Apache-2.0
"""Whether the task instance behind a trigger has been given up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

ENDED = frozenset({"success", "failed", "skipped", "removed", "upstream_failed"})


@dataclass(frozen=True, slots=True)
class TaskState:
    """The state of a task instance as far as it is known; None is cleared, or gone with its Dag run."""

    raw_status: str | None
    known: bool = True

    @property
    def ended(self) -> bool:
        """Whether nobody waits for the run any more, for certain."""
        return self.known and (self.raw_status is None or self.raw_status in ENDED)


async def task_was_ended(task_instance: Any) -> TaskState:
    """Ask Airflow for the state of the task instance; whatever goes wrong, the state is unknown."""
    if task_instance is None:
        return TaskState("unknown", known=False)
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
        return TaskState("unknown", known=False)
    return TaskState(state_among(states, task_instance))


def state_among(states: Mapping[str, Any], task_instance: Any) -> Any:
    """Pick the state of a task instance; Airflow appends the map index to the name of a mapped one."""
    name = task_instance.task_id
    return states.get(f"{name}_{task_instance.map_index}", states.get(name))
