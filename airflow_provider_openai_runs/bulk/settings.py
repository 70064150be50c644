# SPDX-License-Identifier: Apache-2.0
"""What was asked of a bulk task: the operator's arguments, rendered and checked, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.runs.end_of_attempt import Cause
from airflow_provider_openai_runs.runs.policies import OnIncomplete, OnUnendable
from airflow_provider_openai_runs.runs.request import RunRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkSettings:
    """
    The checked arguments of ``BulkCreateResponsesOperator``; durations in seconds.

    :param request_of: makes the request of an item of the arguments of its row.
    :param fingerprint: a short hash of each argument, by name.
    :param completion_window: from the generation's first attempt on.
    :param collect_within: how long the end of a run may wait for a worker.
    :param create_within: for the answer to a create.
    :param delete_within: for ending the runs of an earlier generation.
    """

    conn_id: str
    output_path: str
    request_of: Callable[[Mapping[str, Any]], RunRequest]
    fingerprint: Mapping[str, str]
    limits: Limits
    completion_window: float
    poll_interval: float | None
    polls_per_second: float
    requests_per_minute: float | None
    tokens_per_minute: float | None
    collect_within: float
    create_within: float
    delete_within: float
    execution_timeout: float | None
    deferrable: bool
    cancel_on_kill: bool
    cancel_on_timeout: bool
    on_incomplete: OnIncomplete
    on_unendable: OnUnendable
    output_type: Any
    include: tuple[str, ...]

    @property
    def cancels(self) -> dict[Cause, bool]:
        """Whether what is active is to be ended where an attempt ends early, by the cause."""
        return {
            Cause.KILLED: self.cancel_on_kill,
            Cause.FAILED: self.cancel_on_kill,
            Cause.TIMED_OUT: self.cancel_on_timeout,
        }
