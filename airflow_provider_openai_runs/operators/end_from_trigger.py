# SPDX-License-Identifier: Apache-2.0
"""Whether a task may be finished in the triggerer, without a worker, and what would be lost."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_openai_runs.attempts.page import has_own_xcom_backend


def end_of(
    operator: Any, *, answers_calls: bool, checks_output: bool, includes: bool, writes_files: bool = False
) -> dict[str, bool] | None:
    """
    Return how the triggerer is to end a task whose run completes; None leaves it to a worker.

    A worker also where it was asked otherwise, and something would be lost: a Dag may set
    ``end_from_trigger`` for all of its tasks.

    :param operator: one with ``end_from_trigger``.
    :param answers_calls: whether the model's calls are answered in a worker.
    :param checks_output: whether the answer has to fit a type.
    :param includes: whether the read has to ask for more than it brings by itself.
    :param writes_files: whether what the run brought is written to ``output_path``.
    """
    if not operator.end_from_trigger:
        return None
    reason = _needs_a_worker(operator)
    if includes:
        reason = "what its include names is asked for there"
    if writes_files:
        reason = "its reply and files are written to output_path there"
    if checks_output:
        reason = "its output_type is checked there"
    if answers_calls:
        reason = "the model's calls are answered there"
    if reason:
        operator.log.info("A worker finishes this task in spite of end_from_trigger=True: %s", reason)
        return None
    push = bool(operator.do_xcom_push)
    return {"push": push, "multiple_outputs": push and bool(operator.multiple_outputs)}


def _needs_a_worker(operator: Any) -> str:
    """Return what Airflow does in a worker only; an empty text if there is nothing."""
    if operator.outlets:
        return "it has outlets, whose asset events Airflow registers only there"
    own = type(operator).post_execute is not BaseOperator.post_execute
    if own or getattr(operator, "_post_execute_hook", None) is not None:
        return "it has a post_execute, which Airflow calls only there"
    if has_own_xcom_backend():
        return "Airflow would push past the XCom backend of [core] xcom_backend"
    if getattr(operator, "returns_dag_result", False):
        return "its result is the Dag's, which Airflow notes only there"
    if operator.has_dag() and next(operator.iter_mapped_dependants(), None) is not None:
        return "a task is mapped over its result, whose length Airflow notes only there"
    return ""
