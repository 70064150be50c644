# SPDX-License-Identifier: Apache-2.0
"""What can be said of a bulk task while its Dag is parsed, and what Airflow shows of its items."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.bulk.rows import check_ending
from airflow_provider_openai_runs.operators.parse_checks import is_open
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError

_ANSWERS = "nobody here answers the calls of thousands of runs; use CreateResponseOperator for those."
#: Arguments of ``CreateResponseOperator`` that a bulk task has no use for, with the value that says nothing.
_REFUSED: dict[str, tuple[Any, str]] = {
    "functions": ((), _ANSWERS),
    "approve": (None, _ANSWERS),
    "on_tool_calls": ("fail", _ANSWERS),
    "conversation": (None, "items of one conversation would wait for each other."),
    "on_active_run": ("fail", "items are in no conversation, so none is ever busy."),
    "end_from_trigger": (False, "a worker has to collect the results."),
    "text_in_xcom": (None, "no text is in XCom in any case: results are in output_path."),
    "assistant_id": (None, "thread runs in bulk are not possible for now; use responses."),
    "thread_id": (None, "thread runs in bulk are not possible for now; use responses."),
    "thread": (None, "thread runs in bulk are not possible for now; use responses."),
}


@dataclass(frozen=True, slots=True, repr=False)
class Counted:
    """Items of which Airflow learns how many there are: it stores the rendered fields of every task."""

    value: Any

    def serialize(self) -> str:
        """Return what Airflow stores."""
        try:
            return f"{len(self.value)} items"
        except TypeError:
            return f"items: {type(self.value).__name__}"

    __str__ = __repr__ = serialize


def check_bulk(
    *,
    items: object,
    input_path: object,
    output_path: object,
    completion_window: object,
    request: object = None,
    **more: Any,
) -> None:
    """
    Refuse what a bulk task cannot do, with the reason.

    :raises RunRequestError: naming the argument.
    """
    import airflow.sdk  # noqa: PLC0415 # imported by now; the name alone would be bound to this function

    if not hasattr(airflow.sdk, "NEVER_EXPIRE"):
        raise RunRequestError(
            "BulkCreateResponsesOperator needs Airflow 3.3 or later: without its task state store, a retry "
            "would pay for every item again. Nothing was sent."
        )
    for name, (nothing, reason) in _REFUSED.items():
        given = more.get(name, nothing)
        if given != nothing and given is not None and given != []:
            raise RunRequestError(f"{name} is refused in bulk: {reason} Nothing was sent.")
    if (items is None) == (input_path is None):
        raise RunRequestError("Give one of items and input_path. Nothing was sent.")
    _check_input(items, input_path)
    if request is not None:
        _check_request(request)
    if output_path is None:
        raise RunRequestError(
            "output_path is required: results, and the journal by which a retry pays nothing twice, are "
            "written there. Nothing was sent."
        )
    if completion_window is None:
        raise RunRequestError(
            "completion_window=None is refused in bulk: to keep within max_active, the task has to wait for "
            "the runs. Nothing was sent."
        )


def _check_input(items: object, input_path: object) -> None:
    """Refuse what is wrong however templates are rendered."""
    if isinstance(input_path, str) and not is_open(input_path):
        check_ending(input_path)
    if isinstance(items, (str, bytes, Mapping)) and not is_open(items):
        raise checks.invalid("items", items, "must be a list of texts, or of dicts of arguments")


def _check_request(request: object) -> None:
    if not callable(request) or inspect.iscoroutinefunction(request):
        raise checks.invalid("request", request, "must be a function from a row's values to arguments")
    checks.called_with("request", request, {}, of="one argument, a dict of the row's values")


def max_failed_of(value: object) -> float | None:
    """
    Return the limit of failed items: a whole number of them, or a share as a float.

    :raises RunRequestError: if it is neither.
    """
    if value is None:
        return None
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    is_share = isinstance(value, float) and 0 <= value <= 1
    if not (is_number or is_share):
        raise RunRequestError(
            f"max_failed={value!r} must be a number of items, such as 100, or a share of them as a float "
            "between 0.0 and 1.0. Nothing was sent."
        )
    return value  # type: ignore[return-value]  # narrowed by the checks
