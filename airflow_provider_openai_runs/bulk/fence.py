# SPDX-License-Identifier: Apache-2.0
"""Whether the task goes on, as Airflow says: the store refuses a writer after a retry, not after a mark."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from airflow_provider_openai_runs.runs.budgets import FENCE_EVERY
from airflow_provider_openai_runs.runs.end_of_attempt import UNKNOWN, TaskState

_RUNNING = "running"


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
