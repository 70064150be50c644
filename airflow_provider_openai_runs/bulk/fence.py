# SPDX-License-Identifier: Apache-2.0
"""Whether the task goes on, as Airflow says: the store refuses a writer after a retry, not after a mark."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.runs.budgets import FENCE_EVERY
from airflow_provider_openai_runs.runs.end_of_attempt import UNKNOWN, TaskState
from airflow_provider_openai_runs.runs.text import message_text

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

_RUNNING = "running"


async def state_within(seconds: float, ask: Callable[[], Awaitable[TaskState]], *, log: Logger) -> TaskState:
    """Return the state of the task; it is unknown if Airflow does not say it in so many seconds."""
    try:
        return await asyncio.wait_for(ask(), seconds)
    except Exception as error:  # noqa: BLE001 # in whatever state Airflow's channel is
        log.warning("Airflow does not say whether the task goes on: %s", message_text(error))
        return UNKNOWN


async def no_longer_running(ask: Callable[[], Awaitable[TaskState]]) -> TaskState:
    """
    Wait until the task is no longer running, and return what it is.

    :param ask: asks Airflow; whatever it raises means that nobody knows.
    """
    was_running = False
    while True:
        try:
            state = await ask()
        except Exception:  # noqa: BLE001 # no answer is no mark
            state = UNKNOWN
        is_running = state.known and state.name == _RUNNING
        if was_running and state.known and not is_running:
            return state
        was_running = was_running or is_running
        await asyncio.sleep(FENCE_EVERY)
