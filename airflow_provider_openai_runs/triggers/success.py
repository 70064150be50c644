# SPDX-License-Identifier: Apache-2.0
"""
Ends a task in the triggerer, if its run has completed and needs nothing from a worker.

The result is pushed before the event, in the way in which a worker pushes. Airflow (3.1 to 3.3) would write
what a ``TaskSuccessEvent`` brings along as a text of JSON, which the next task would pull in place of a dict.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_openai_runs import results, tracing
from airflow_provider_openai_runs.runs.budgets import TRIGGER_READ_BUDGET
from airflow_provider_openai_runs.runs.cut import size_of
from airflow_provider_openai_runs.runs.error_of_run import error_of_run
from airflow_provider_openai_runs.runs.polling import Outcome
from airflow_provider_openai_runs.runs.prices import Tariff
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import Totals
from airflow_provider_openai_runs.triggers import xcom
from airflow_provider_openai_runs.wire import flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.wait import WaitResult

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
    from airflow_provider_openai_runs.runs.model import Run


async def success_event(
    hook: OpenAIRunsHook,
    result: WaitResult,
    *,
    task_instance: Any,
    push: bool,
    multiple_outputs: bool,
    besides: Totals,
    tariff: Tariff,
    log: Logger,
) -> TaskSuccessEvent | None:
    """
    Push what a worker would push, and return the event that ends the task; None where a worker has to decide.

    A worker also decides where only one who knows the request can say whether a call is pending: tools do not
    travel in a trigger.

    :param push: whether the task pushes its result at all.
    :param multiple_outputs: push each value under its own name, too.
    :param besides: what the task has paid for besides this run.
    :param tariff: what this run costs.
    """
    if (
        result.outcome is not Outcome.ENDED
        or RunStatus.parse(result.raw_status or "") is not RunStatus.COMPLETED
    ):
        return None
    try:
        flow = flows.with_retries(flows.read(result.ref, steps=True), budget=TRIGGER_READ_BUDGET)
        with tracing.reading(result.ref) as span:
            run = await hook.arun_flow(flow)
            span.read(run)
    except ApiRequestFailed as failed:
        log.warning("Could not read %s, so a worker finishes its task: %s", result.ref, failed.failure)
        return None
    is_sure = run.status is RunStatus.COMPLETED and not run.may_wait and not run.is_unread
    if not is_sure or error_of_run(run) is not None:
        return None
    cost = tariff.cost_of(run)
    run = replace(run, cost=cost, totals=besides.plus(run.usage, cost))
    if not push:
        return TaskSuccessEvent()
    # Beside the event loop, which other waits need: the result may be large.
    values = await asyncio.to_thread(_small_values, run, log)
    if values is None:
        log.info("The result of %s is large, so a worker finishes its task", result.ref)
        return None
    try:
        await xcom.push(
            task_instance, {**(values if multiple_outputs else results.named(values)), "return_value": values}
        )
    except Exception as error:  # noqa: BLE001 # a worker can do it again
        log.warning(
            "Could not push the result of %s, so a worker finishes its task: %s",
            result.ref,
            message_text(error),
        )
        return None
    log.info("%s", results.summary(run))
    return TaskSuccessEvent()


def _small_values(run: Run, log: Logger) -> dict[str, Any] | None:
    # A task that withholds texts has an output_path, and a worker ends it.
    values = results.to_xcom(run, log=log, text_limit=None)
    return values if size_of(values) <= results.MAX_XCOM_BYTES else None
