# SPDX-License-Identifier: Apache-2.0
"""Waits for somebody else's run that keeps a thread busy; it is never cancelled here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.attempts.acquire import RunAcquirer
from airflow_provider_openai_runs.attempts.create import Acquired
from airflow_provider_openai_runs.attempts.settings import CreateSettings
from airflow_provider_openai_runs.attempts.steps import DeferForThread
from airflow_provider_openai_runs.runs.acquisition import WaitForThread
from airflow_provider_openai_runs.runs.budgets import BUSY_PAUSE
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.polling import Outcome, WaitLimits
from airflow_provider_openai_runs.runs.status import TERMINAL
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.wire.wait import wait

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook


def acquire_when_free(
    acquirer: RunAcquirer,
    *,
    hook: OpenAIRunsHook,
    settings: CreateSettings,
    started_at: float,
    log: Logger,
) -> Acquired | DeferForThread:
    """
    Acquire a run, waiting where the thread is busy and the user wants it.

    :param started_at: Unix seconds from which the task's window counts.
    :raises OpenAIRunError: if there is none and none may be created, or the time is over.
    """
    window = settings.completion_window
    until = started_at + (settings.timeouts["create"] if window is None else window)
    while isinstance(found := acquirer.acquire(), WaitForThread):
        if time.time() >= until:
            raise found.error
        log.info("Waiting until it is free: %s", found.error)
        if settings.deferrable:
            return DeferForThread(ref=found.ref, until=until, waiting_since=started_at)
        _wait(hook, found.ref, until, settings=settings, log=log)
    return found


def _wait(
    hook: OpenAIRunsHook, ref: RunRef | None, until: float, *, settings: CreateSettings, log: Logger
) -> None:
    """Wait in the worker."""
    now = time.time()
    if ref is not None:
        limits = WaitLimits.of(
            TrackedRun(ref=ref, created_at=now, deadline=until),
            poll_interval=settings.poll_interval,
            targets=frozenset(TERMINAL),
        )
        flow = wait(ref, limits, cancel_on_timeout=False, cancel_wait=0, note=log.log)
        if hook.run_flow(flow).outcome is not Outcome.UNREACHABLE:
            return
    # Nobody can say when it ends, so the create itself has to ask.
    hook.sleep(min(BUSY_PAUSE, max(0.0, until - time.time())))
