# SPDX-License-Identifier: Apache-2.0
"""
What can be said of a task while its Dag is parsed: names of arguments, and values that are no templates.

A template, an ``XComArg`` and a callable wait for their turn: they are checked
before anything is sent.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from inspect import Parameter, signature
from typing import Any, Literal

from airflow import sdk

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.ceiling import OUTPUT_CEILINGS, check_bounded, check_ceilings
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.names import no_argument
from airflow_provider_openai_runs.runs.policies import check_policies
from airflow_provider_openai_runs.runs.request import checked_timeouts
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.tools import names_of
from airflow_provider_openai_runs.tool_calls.approval_checks import check_approval, check_approved_calls
from airflow_provider_openai_runs.tool_calls.checks import check_functions
from airflow_provider_openai_runs.typed.checks import check_output_type

#: What to do about function tools that the task has no answer for.
Unanswered = Literal["refuse", "warn", "allow"]

_TEMPLATE_MARKS = ("{{", "{%", "{#")


def check_names(operator: type[Any], unknown: Mapping[str, Any]) -> None:
    """
    Refuse an argument that neither the operator nor Airflow knows, and name the one that was meant.

    :param operator: the class that is called; what its bases take, it takes.
    :param unknown: the arguments that are left for Airflow.
    :raises TypeError: as Python does for an argument that there is not.
    """
    known = _arguments_of(operator)
    # Airflow hands on arguments of its own, which begin like this.
    for name in (name for name in unknown if name not in known and not name.startswith("_")):
        taker = getattr(operator, "custom_operator_name", operator.__name__)  # a decorator's
        raise TypeError(no_argument(taker, name, known))


def _arguments_of(operator: type[Any]) -> set[str]:
    inits = [vars(base)["__init__"] for base in operator.__mro__ if "__init__" in vars(base)]
    return {name for init in inits for name in _parameters_of(init)} - {"self"}


@lru_cache(maxsize=256)  # a Dag of a thousand tasks has a few operators
def _parameters_of(init: Callable[..., Any]) -> list[str]:
    by_name = {Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD}
    return [name for name, one in signature(init).parameters.items() if one.kind in by_name]


def check_create(operator: Any, *, unanswered: Unanswered) -> None:
    """
    Check a task that creates a run.

    :param operator: with all of its arguments.
    :param unanswered: what to do about function tools, if nobody here has an answer to their calls.
    :raises RunRequestError: naming argument, value and rule.
    """
    window, interval = literal(operator, "completion_window"), literal(operator, "poll_interval")
    window = None if window is None else checks.completion_window(window)
    interval = None if interval is None else checks.seconds("poll_interval", interval)
    if window is not None and interval is not None and interval > window:
        raise checks.invalid(
            "poll_interval",
            operator.poll_interval,
            f"is longer than completion_window={window:g} s: the run would be polled once at most",
        )
    checked_timeouts(literal(operator, "timeouts"))
    check_policies(operator)
    check_functions(operator.functions)
    check_approval(operator.approve)
    if operator.approval_subject is not None:
        checks.text("approval_subject", operator.approval_subject)
    if operator.output_type is not None:
        check_output_type(operator.output_type)
    checked = operator.output_type is not None or operator.output_path is not None
    if operator.completion_window is None and (operator.functions or operator.approve or checked):
        raise RunRequestError(
            "functions, approve, output_type and output_path need completion_window=...: without it the "
            "task does not wait for the run, so that nobody would be there. Nothing was sent."
        )
    check_calls(operator)
    if unanswered != "allow":
        _check_answered(operator, is_refused=unanswered == "refuse")


def check_calls(operator: Any) -> None:
    """
    Check that ``approve`` can name a call; again once templates are rendered, which may bring tools.

    :raises RunRequestError: naming what is unknown.
    """
    check_approved_calls(
        operator.approve,
        functions=operator.functions,
        tools=getattr(operator, "tools", None),
        prompt=getattr(operator, "prompt", None),
        more=getattr(operator, "extra_body", None),
    )


def waits_of(operator: Any) -> dict[str, float | None]:
    """Return after how many seconds a task cancels its run, by the argument; None where it does not."""
    window, execution_timeout = literal(operator, "completion_window"), operator.execution_timeout
    cancels = execution_timeout is not None and operator.cancel_on_timeout
    return {
        "completion_window": None if window is None else checks.completion_window(window),
        "execution_timeout": execution_timeout.total_seconds() if cancels else None,
    }


def check_targets(operator: Any) -> None:
    """
    Check the statuses that a sensor waits for; one that only a server may know is a warning.

    :raises RunRequestError: for what is nearly one of the API's.
    """
    statuses = literal(operator, "target_statuses")
    if statuses is None:
        return
    known = [status.value for status in RunStatus if status is not RunStatus.UNKNOWN]
    if not checks.sequence("target_statuses", statuses):
        raise checks.invalid("target_statuses", statuses, "names no status, so nothing would be waited for")
    for status in checks.sequence("target_statuses", statuses):
        if is_open(status) or checks.text("target_statuses", status) in known:
            continue
        rule = f"{status!r} is no status of the API{checks.did_you_mean(status, known)}"
        if checks.near(status, known):
            raise checks.invalid("target_statuses", statuses, rule)
        text = f"{operator.task_id}: target_statuses: {rule}. Known are {', '.join(known)}."
        warnings.warn(text, UserWarning, stacklevel=2)


def _check_answered(operator: Any, *, is_refused: bool) -> None:
    tools, more = getattr(operator, "tools", None), getattr(operator, "extra_body", None)
    answers = operator.functions or operator.approve or operator.on_tool_calls == "return"
    more = more if isinstance(more, Mapping) else {}
    never_called = "none" in (getattr(operator, "tool_choice", None), more.get("tool_choice"))
    if answers or never_called or operator.completion_window is None:
        return
    named = names_of(tools) | names_of(more.get("tools"))
    names = sorted(name for name in named if not is_open(name))
    if not names:
        return
    then = "fails the task" if is_refused else "ends the run and fails the task"
    text = (
        f"tools: nobody here can answer a call of {', '.join(map(repr, names))}, so that such a call {then}. "
        "Give functions=[...] that answer it, or on_tool_calls='return' and a SubmitToolOutputsOperator, or "
        "tool_choice='none'."
    )
    if is_refused:
        raise RunRequestError(f"{text} Nothing was sent.")
    warnings.warn(f"{operator.task_id}: {text}", UserWarning, stacklevel=2)


def check_ceilings_of(operator: Any, *, is_bounded: bool = False) -> None:
    """
    Check the ceilings of what a task spends.

    :param is_bounded: what one run writes may be bounded by what is not known yet.
    :raises RunRequestError: for a value that is none, or that has nothing to go by.
    """
    ceiling = check_ceilings(max_total_tokens=operator.max_total_tokens, max_cost=operator.max_cost)
    if not ceiling.is_set:
        return
    if not hasattr(sdk, "NEVER_EXPIRE"):
        raise RunRequestError(
            f"{ceiling.names}: needs Airflow 3.3 or newer, which keeps what was spent from one attempt "
            "to the next. Nothing was sent."
        )
    more = getattr(operator, "extra_body", None)
    given = [getattr(operator, name, None) for name in (*OUTPUT_CEILINGS, "max_tokens")]
    is_open = is_bounded or (
        more is not None and (not isinstance(more, Mapping) or bool(set(OUTPUT_CEILINGS) & set(more)))
    )
    if not is_open and all(value is None for value in given):
        check_bounded({}, ceiling)


def literal(operator: Any, name: str) -> Any:
    """Return the value of an argument; None if Airflow renders it later."""
    value = getattr(operator, name)
    return None if name in operator.template_fields and is_open(value) else value


def is_open(value: object) -> bool:
    """Tell whether Airflow makes something else of a value in a template field, as a whole or within."""
    if isinstance(value, str):
        return any(mark in value for mark in _TEMPLATE_MARKS)
    if callable(value) or (hasattr(value, "resolve") and not isinstance(value, os.PathLike)):
        return True
    return any(map(is_open, _items(value)))


def _items(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple, set)):
        yield from value
