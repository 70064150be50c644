# SPDX-License-Identifier: Apache-2.0
"""Whether the task instance behind a trigger has been given up."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.attempts.state_questions import forget, states_of
from airflow_provider_openai_runs.runs.budgets import TRIGGER_ASK_PAUSE
from airflow_provider_openai_runs.runs.end_of_attempt import CLEARED, RESET, UNKNOWN, TaskState
from airflow_provider_openai_runs.runs.text import message_text

log = logging.getLogger(__name__)


def state_in_worker(ti: Any) -> TaskState:
    """
    Ask Airflow for the state of a worker's own task instance; it may block.

    One that is there and has no state was reset by a scheduler: a clear of a running task reads *restarting*.
    """
    found = ti.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    states = found.get(ti.run_id, {})
    state = TaskState(state_among(states, ti))
    return RESET if states and state.name is None else state


async def task_state(task_instance: Any, *, within: float, has_fired: bool) -> TaskState:
    """
    Ask Airflow for the state of the task instance behind a killed trigger, again where it cannot say.

    Where Airflow kills none that merely moves, a task that goes on has been cleared and has started anew: its
    record may be gone with the clear (3.4), so that nobody but the trigger knows the run.

    :param within: seconds; then the state is unknown.
    :param has_fired: whether the trigger has woken its task, which then goes on with the run.
    """
    state = await _state(task_instance, within=within)
    is_certain = task_instance is not None and not has_fired and _kills_only_after_marks()
    return CLEARED if is_certain and not state.ended else state


async def _state(task_instance: Any, *, within: float) -> TaskState:
    if task_instance is None:
        return UNKNOWN
    ends = time.monotonic() + within
    while True:
        asked = asyncio.ensure_future(_asked(task_instance))
        # A question is never cancelled: its answer would then be taken for the next one's.
        done, _ = await asyncio.wait({asked}, timeout=max(0.0, ends - time.monotonic()))
        if not done:
            asked.add_done_callback(forget)
            return UNKNOWN
        if (error := asked.exception()) is None:
            return asked.result()
        if time.monotonic() + TRIGGER_ASK_PAUSE >= ends:
            log.warning("Could not ask for the state of %s: %s", task_instance.task_id, message_text(error))
            return UNKNOWN
        await asyncio.sleep(TRIGGER_ASK_PAUSE)


def _kills_only_after_marks() -> bool:
    """Whether this triggerer is one that has a word of its own for triggers that move (Airflow 3.4+)."""
    return hasattr(sys.modules.get("airflow.jobs.triggerer_job_runner"), "_REASSIGNED_CANCEL_MSG")


async def _asked(task_instance: Any) -> TaskState:
    return TaskState(state_among(await states_of(task_instance), task_instance))


def state_among(states: Mapping[str, Any], task_instance: Any) -> Any:
    """Pick the state of a task instance; Airflow appends the map index to the name of a mapped one."""
    name = task_instance.task_id
    return states.get(f"{name}_{task_instance.map_index}", states.get(name))
