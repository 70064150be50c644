# SPDX-License-Identifier: Apache-2.0
"""The arguments of a task that creates, once they are rendered: checked, and as an attempt takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_openai_runs.attempts.settings import CreateSettings
from airflow_provider_openai_runs.operators.hidden import revealed, without_values
from airflow_provider_openai_runs.operators.parse_checks import check_calls, is_open
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.ceiling import check_ceilings
from airflow_provider_openai_runs.runs.end_of_attempt import has_retry_left
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.output_arguments import checked_output_path
from airflow_provider_openai_runs.runs.request import RunRequest, checked_timeouts
from airflow_provider_openai_runs.runs.text import message_text

#: Seconds to wait for a run whose deadline is not on record, where the task's own window cannot be read.
_WINDOW_TO_FINISH = 24 * 3600.0


def settings_of(operator: Any, *, may_own: bool, ti: Any) -> CreateSettings:
    """
    Return the arguments of this attempt, rendered and checked.

    :param operator: a ``BaseCreateOperator``.
    :param may_own: a run may have been paid for already. What cannot be asked for any more, since the Dag
        or what its templates find has changed, then stops only a create; a run that there is
        is finished from or ended, and its calls are not answered.
    """
    try:
        with revealed(operator, operator.template_fields):
            check_calls(operator)  # again: a template may have brought the tools
            _check_output_path(operator)
            return _settings(operator, operator.build_request(), window=_window(operator))
    except RunRequestError as error:
        unsendable: Exception = without_values(error) if operator.text_in_xcom == 0 else error
        if not may_own:
            raise unsendable from None
    except Exception as error:
        # Of a decorator's function: anything. A retry may still answer the calls that the run waits for.
        unsendable = error
        if not may_own or (has_retry_left(ti) and operator.takes_calls):
            raise
    what = type(unsendable).__name__
    is_shown = isinstance(unsendable, RunRequestError) or operator.text_in_xcom != 0
    operator.log.warning(
        "These arguments cannot be sent any more; a run that there is is finished all the same: %s",
        message_text(f"{what}: {unsendable}") if is_shown else what,
    )
    return replace(settings_to_finish(operator), unsendable=unsendable)


def settings_to_finish(operator: Any) -> CreateSettings:
    """Return the arguments without what is asked for."""
    with revealed(operator, operator.template_fields):
        request = replace(operator.request_of_resume(), forgot_tools=operator.takes_calls)
        unknown = _settings(operator, request, window=_window_to_finish(operator))
    return replace(unknown, functions=(), approve=None, outputs={})


def _window(operator: Any) -> float | None:
    """
    Return the seconds that a task waits; None only if its Dag says so, and creates without waiting.

    :raises RunRequestError: for a window that was given and has rendered to nothing: nobody would wait, and
        the task would succeed without a word.
    """
    if _is_left_out(operator, "completion_window"):
        return None
    return checks.completion_window(operator.completion_window)


def _check_output_path(operator: Any) -> None:
    """
    Refuse a path that was given and has rendered to nothing: the files would not be kept, without a word.

    :raises RunRequestError: saying so.
    """
    if operator.output_path is None and not _is_left_out(operator, "output_path"):
        raise checks.invalid("output_path", None, f"must be a path{checks.FROM_A_TEMPLATE}")


def _is_left_out(operator: Any, name: str) -> bool:
    """Whether the Dag file itself gives no value, nor what ``expand`` takes from another task."""
    if getattr(operator, name) is not None or name not in operator.left_out:
        return False
    dag = operator.get_dag()
    task = None if dag is None else dag.task_dict.get(operator.task_id)
    given = getattr(getattr(task, "expand_input", None), "value", None)
    return not (isinstance(given, Mapping) and is_open(given.get(name)))


def _window_to_finish(operator: Any) -> float | None:
    """Return a window even if none can be read any more: a run that there is is not left without a wait."""
    try:
        return _window(operator)
    except RunRequestError:
        return _WINDOW_TO_FINISH


def _settings(operator: Any, request: RunRequest, *, window: float | None) -> CreateSettings:
    interval = operator.poll_interval
    return CreateSettings(
        request=request,
        conn_id=operator.connection_of_run(),
        completion_window=window,
        poll_interval=None if interval is None else checks.seconds("poll_interval", interval),
        execution_timeout=operator.execution_timeout,
        timeouts=checked_timeouts(operator.timeouts),
        deferrable=operator.deferrable,
        cancel_on_kill=operator.cancel_on_kill,
        cancel_on_timeout=operator.cancel_on_timeout,
        on_incomplete=operator.on_incomplete,
        on_lost_create=operator.on_lost_create,
        max_resubmits=operator.max_resubmits,
        on_active_run=operator.on_active_run,
        on_unendable=operator.on_unendable,
        functions=tuple(operator.functions),
        outputs=operator.given_outputs(),
        max_rounds=operator.max_rounds,
        max_tool_errors=operator.max_tool_errors,
        on_tool_calls=operator.on_tool_calls,
        approve=operator.approve,
        approval_timeout=operator.approval_timeout,
        approval_subject=operator.approval_subject,
        on_approval_timeout=operator.on_approval_timeout,
        on_second_approval=operator.on_second_approval,
        output_type=operator.output_type,
        push_xcom=bool(operator.do_xcom_push),
        multiple_outputs=operator.multiple_outputs,
        output_path=checked_output_path(operator.output_path),
        text_in_xcom=operator.text_in_xcom,
        provider_metadata=operator.provider_metadata,
        ceiling=check_ceilings(max_total_tokens=operator.max_total_tokens, max_cost=operator.max_cost),
    )
