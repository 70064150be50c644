# SPDX-License-Identifier: Apache-2.0
"""Turns what an attempt ends with into what Airflow knows: a result, a deferral, a pause for a person."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, assert_never

from airflow_provider_openai_runs import results
from airflow_provider_openai_runs.attempts.settings import CreateSettings
from airflow_provider_openai_runs.attempts.steps import (
    AttemptStep,
    AwaitApproval,
    Defer,
    DeferForThread,
    Finished,
)
from airflow_provider_openai_runs.operators.end_from_trigger import end_of
from airflow_provider_openai_runs.runs.budgets import BUSY_PAUSE
from airflow_provider_openai_runs.runs.status import TERMINAL
from airflow_provider_openai_runs.triggers import RunCompletionTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.sdk import Context


def perform(operator: BaseOperator, step: AttemptStep, settings: CreateSettings, context: Context) -> Any:
    """Return the result of a task, or leave its worker."""
    match step:
        case Finished():
            # With multiple_outputs Airflow pushes every key of the result.
            if settings.push_xcom and not settings.multiple_outputs:
                results.push_named(context["ti"], step.result, log=operator.log)
            return step.result
        case Defer():
            _defer(operator, step, settings)
        case DeferForThread():
            operator.defer(
                trigger=_when_free(step, settings),
                method_name="execute_after_active_run",
                kwargs={"waiting_since": step.waiting_since},
            )
        case AwaitApproval():
            _await_approval(step)
        case _:
            assert_never(step)
    return None  # the three do not return


def _defer(operator: BaseOperator, step: Defer, settings: CreateSettings) -> None:
    trigger = RunCompletionTrigger(
        **step.run.to_json(),
        poll_interval=settings.poll_interval,
        cancel_on_kill=settings.cancel_on_kill,
        cancel_on_timeout=settings.cancel_on_timeout,
        deferred_at=time.time(),
        end=end_of(
            operator,
            answers_calls=settings.answers_calls,
            checks_output=settings.output_type is not None,
            includes=bool(settings.request.include),
            writes_files=settings.output_path is not None,
        ),
        withholds=settings.withholds,
        besides=step.besides.to_json(),
        tariff=step.tariff.to_json(),
    )
    # No timeout here: Airflow's would kill the task and the server would not know.
    operator.defer(trigger=trigger, method_name="execute_complete", timeout=None)


def _when_free(step: DeferForThread, settings: CreateSettings) -> Any:
    if step.ref is None:
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger  # noqa: PLC0415 # this case only

        return TimeDeltaTrigger(timedelta(seconds=BUSY_PAUSE))
    now = time.time()
    return RunCompletionTrigger(
        ref=step.ref.to_json(),
        created_at=now,
        deadline=step.until,
        poll_interval=settings.poll_interval,
        cancel_on_kill=False,
        cancel_on_timeout=False,
        deferred_at=now,
        target_statuses=sorted(TERMINAL),
        withholds=settings.withholds,
    )


def _await_approval(step: AwaitApproval) -> NoReturn:
    from airflow.sdk.exceptions import (  # type: ignore[attr-defined, unused-ignore]  # noqa: PLC0415 # 3.3+
        TaskAwaitingInput,
    )

    raise TaskAwaitingInput(
        method_name="execute_after_approval",
        kwargs={"progress": step.run.to_json()},
        timeout=step.timeout,
    )
