# SPDX-License-Identifier: Apache-2.0
"""What a task pushes or writes: the run's dict, without secrets; small enough for XCom where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_provider_openai_runs.runs.cut import cut_steps
from airflow_provider_openai_runs.runs.end_of_attempt import has_retry_left
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.tool_secrets import without_secrets
from airflow_provider_openai_runs.runs.usage import as_text
from airflow_provider_openai_runs.runs.withheld import without_text

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Above this many bytes of JSON, pictures and details of the steps stay at the server.
MAX_XCOM_BYTES = 1_000_000
#: What has a key of its own in XCom, too, where it has a value: ``ask.output["output_text"]`` reads that.
OWN_KEYS = ("output_text", "output", "status", "usage", "id", "thread_id", "ref")
#: How an error ends whose task has pushed what is known of its run.
IN_XCOM = "XCom 'return_value' of this task holds what is known of it."
_MARK = ', "steps_truncated": true'
#: Things left out that the log names.
_SHOWN = 5


def whole(run: Run) -> dict[str, Any]:
    """Return the run as plain JSON under the contract's names, of whatever size."""
    if run.tools:
        run = replace(run, tools=tuple(map(without_secrets, run.tools)))
    if run.steps:
        # An item may list tools that were added on the way.
        run = replace(
            run, steps=tuple(replace(step, details=without_secrets(step.details)) for step in run.steps)
        )
    return run.to_xcom()


def to_xcom(run: Run, *, log: Logger, text_limit: int | None) -> dict[str, Any]:
    """
    Return the run as plain JSON under the contract's names, small enough for XCom.

    :param log: what is left out is named there.
    :param text_limit: bytes of a text that may be in there; None is no limit.
    """
    values = whole(without_text(run, text_limit))
    if left_out := cut_steps(values, limit=MAX_XCOM_BYTES - len(_MARK)):
        values["steps_truncated"] = True
        shown = "; ".join(message_text(item) for item in left_out[:_SHOWN])
        log.warning(
            "The result of %s is larger than %d bytes. Not in XCom (steps_truncated=True): %s%s; the hook's "
            "steps() reads them",
            run.ref,
            MAX_XCOM_BYTES,
            shown,
            f"; {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else "",
        )
    return values


def named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes under keys of its own: Airflow reads a None under a key as *not found*."""
    return {name: values[name] for name in OWN_KEYS if values.get(name) is not None}


def push_named(ti: Any, values: Mapping[str, Any], *, log: Logger) -> None:
    """
    Push what the next task reads by its name; Airflow pushes the whole dict when it is returned.

    :raises AirflowRuntimeError: if Airflow does not take one, and a retry, which costs nothing, may push it.
    """
    for name, value in named(values).items():
        try:
            ti.xcom_push(key=name, value=value)
        except AirflowRuntimeError as error:
            if has_retry_left(ti):
                log.warning("Airflow does not take the XCom %r. A retry pushes it, and pays nothing", name)
                raise
            # Without a retry left, the task would fail with all of it.
            text = "Airflow does not take the XCom %r; it is in the result (return_value) as well: %s"
            log.warning(text, name, message_text(error))


def push(context: Any, values: Mapping[str, Any], *, multiple_outputs: bool) -> None:
    """Push the result of a task that is about to fail, as one that succeeds does."""
    ti = context["ti"]
    for name, value in (values if multiple_outputs else named(values)).items():
        ti.xcom_push(key=name, value=value)
    ti.xcom_push(key="return_value", value=dict(values))


def summary(run: Run) -> str:
    """Return the line for the log of a run that has ended."""
    ended = run.completed_at or run.failed_at or run.cancelled_at
    seconds = f" after {ended - run.created_at} s" if ended and run.created_at else ""
    tokens = ""
    if (used := run.usage) is not None:
        cached = "" if used.cached_tokens is None else f" ({used.cached_tokens} cached)"
        tokens = f", {used.prompt_tokens} prompt{cached} and {used.completion_tokens} completion tokens"
        tokens += _cost(run.cost)
    return f"Finished: {run.ref} is {run.raw_status}{seconds}{tokens}{_in_all(run)}"


def _in_all(run: Run) -> str:
    """Say what the task has paid for besides this run, if anything."""
    totals = run.totals
    if totals is None or (totals.usage == run.usage and not totals.silent):
        return ""
    tokens = f"{totals.usage.total_tokens} tokens{_cost(totals.cost)}" if totals.usage else "0 tokens"
    runs = "1 run" if totals.silent == 1 else f"{totals.silent} runs"
    silent = f", and {runs} that did not say theirs" if totals.silent else ""
    return f"; over all attempts of the task {tokens}{silent}"


def _cost(cost: Decimal | None) -> str:
    return "" if cost is None else f" (cost {as_text(cost)})"
