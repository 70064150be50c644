# SPDX-License-Identifier: Apache-2.0
"""Ends a task in the triggerer, if its run has completed and needs nothing from a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_openai_runs.hooks import flows
from airflow_provider_openai_runs.hooks.waits import WaitResult
from airflow_provider_openai_runs.operators import results
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.waiting import Outcome
from airflow_provider_openai_runs.wire.troubled import CallFailed

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

#: Seconds for reading the run; a worker has more.
_READ_BUDGET = 60.0


async def success_event(
    hook: OpenAIRunsHook, result: WaitResult, *, push: bool, multiple_outputs: bool, log: Logger
) -> TaskSuccessEvent | None:
    """
    Return the event that ends the task, with what a worker would push; None where a worker has to decide.

    :param push: whether the task pushes its result at all.
    :param multiple_outputs: push each value under its own name, too.
    """
    if result.outcome is not Outcome.ENDED or RunStatus.parse(result.word or "") is not RunStatus.COMPLETED:
        return None
    if not push:
        return TaskSuccessEvent()
    try:
        flow = flows.patiently(flows.read(result.ref, steps=True), budget=_READ_BUDGET)
        run = await hook.arun_flow(flow)
    except CallFailed as failed:
        log.warning("Could not read %s, so a worker finishes its task: %s", result.ref, failed.trouble)
        return None
    if run.status is not RunStatus.COMPLETED or run.needs_action:
        return None
    log.info("%s", results.summary(run))
    values = results.to_xcom(run, log=log)
    return TaskSuccessEvent(xcoms={**(values if multiple_outputs else {}), "return_value": values})
