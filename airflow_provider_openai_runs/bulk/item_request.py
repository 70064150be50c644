# SPDX-License-Identifier: Apache-2.0
"""The create of an item: the arguments of the operator, and those in which its row differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.named_ids import check_is_no_result
from airflow_provider_openai_runs.runs.processing import check_window
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.response_request import response_request

#: Arguments of a response that continue something else: the order of items is not promised.
_CONTINUING = frozenset({"conversation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRequest:
    """
    Makes the request of an item of the arguments of its row.

    :param arguments: the operator's own, rendered.
    :param names: of the arguments that a row may have.
    :param metadata: that a person reads, for who pays; left out where a row's own needs the pairs.
    :param waits: by the argument's name, after how many seconds the task cancels a run.
    :param continuation_id: of a task that asks for a window of the API.
    """

    arguments: Mapping[str, Any]
    names: frozenset[str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    waits: Mapping[str, float | None] = field(default_factory=dict)
    continuation_id: str | None = None

    def __call__(self, values: Mapping[str, Any]) -> RunRequest:
        """
        Return what to create.

        :param values: the row's arguments; each takes the place of the operator's. None and an empty text, as
            a table has it, leave the operator's.
        :raises RunRequestError: naming the argument and the rule.
        """
        values = {name: value for name, value in values.items() if value is not None and value != ""}
        if continuing := _CONTINUING & set(values):
            name = min(continuing)
            raise RunRequestError(f"{name} is refused: items of one conversation would wait for each other.")
        if unknown := sorted(set(values) - self.names):
            check_is_no_result("the item", dict(values), meant="output_text")
            meant = checks.did_you_mean(unknown[0], self.names) or "."
            raise RunRequestError(
                f"{unknown[0]!r} is no argument of a response{meant} To make arguments of a row, give "
                "request=."
            )
        request = response_request(**{**self.arguments, **values})
        if self.continuation_id is not None:
            check_window(request.body, waits=self.waits)
        return replace(request, continues=self.continuation_id is not None).of_task(
            names=self.metadata, continuation_id=self.continuation_id or ""
        )
