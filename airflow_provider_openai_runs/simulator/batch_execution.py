# SPDX-License-Identifier: Apache-2.0
"""Executes the requests of a batch: each as a response of its own, all from the same scenarios."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.answers import last_error
from airflow_provider_openai_runs.simulator.batch_items import BatchItem
from airflow_provider_openai_runs.simulator.errors import ApiError, error_for_status
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.lifecycle import Status
from airflow_provider_openai_runs.simulator.response_creation import new_response

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.batch_input import BatchLine
    from airflow_provider_openai_runs.simulator.response import Response
    from airflow_provider_openai_runs.simulator.store import Store

_ANSWERED = (Status.COMPLETED, Status.INCOMPLETE)
_STATUS_OF_ERRORS = {"invalid_prompt": 400, "rate_limit_exceeded": 429}


def execute(store: Store, line: BatchLine, at: float) -> BatchItem:
    """Let a response that ends at `at` answer a request; what the API refuses fails as it would alone."""
    try:
        _check_foreground(line.body)
        response = new_response(store, line.body, at)
    except ApiError as refusal:
        return BatchItem(line.custom_id, new_id("req", length=32), None, refusal)
    ends = response.end_at(at)
    failure = None if ends in _ANSWERED else _failure(response)
    return BatchItem(line.custom_id, new_id("req", length=32), response, failure)


def _check_foreground(body: dict[str, Any]) -> None:
    if body.get("background"):
        raise ApiError("Background mode is not supported in the Batch API.", param="background")


def _failure(response: Response) -> ApiError:
    """Make the HTTP error as which a response that does not answer appears in a batch."""
    error = last_error(response.scenario)
    status = _STATUS_OF_ERRORS.get(error["code"], 500)
    return error_for_status(status, message=error["message"], code=error["code"])
