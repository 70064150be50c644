# SPDX-License-Identifier: Apache-2.0
"""What was asked of a bulk task: the operator's arguments, rendered and checked, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS
from airflow_provider_openai_runs.runs.ceiling import Ceiling
from airflow_provider_openai_runs.runs.end_of_attempt import Cause
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.policies import OnIncomplete, OnUnendable
from airflow_provider_openai_runs.runs.request import RunRequest


def _no_request(values: Mapping[str, Any]) -> RunRequest:
    raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkSettings:
    """
    The checked arguments of ``BulkCreateResponsesOperator``; durations in seconds.

    Without them, what earlier attempts have created can be ended, and no more.

    :param error: why they are not what the task asks for; None if they are.
    :param request_of: makes the request of an item of the arguments of its row.
    :param metadata: of a batch, for who pays.
    :param model: that counts for every row that does not bring its own.
    :param ceiling: what may be spent from one clear to the next.
    :param fingerprint: a short hash of each argument, by name.
    :param completion_window: from the generation's first attempt on.
    :param collect_within: how long the end of a run may wait for a worker.
    :param create_within: for the answer to a create.
    :param delete_within: for ending the runs of an earlier generation; and how long active runs are cancelled
        again and again at the end of the window without the end of one.
    """

    error: OpenAIRunError | None = None
    output_path: str = ""
    conn_id: str = ""
    request_of: Callable[[Mapping[str, Any]], RunRequest] = _no_request
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    ceiling: Ceiling = field(default_factory=Ceiling)
    limits: Limits = field(default_factory=Limits)
    completion_window: float = 0.0
    poll_interval: float | None = None
    polls_per_second: float = 200.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    collect_within: float = 300.0
    create_within: float = DEFAULT_TIMEOUTS["create"]
    delete_within: float = DEFAULT_TIMEOUTS["delete"]
    execution_timeout: float | None = None
    deferrable: bool = False
    cancel_on_kill: bool = True
    cancel_on_timeout: bool = True
    on_incomplete: OnIncomplete = "fail"
    on_unendable: OnUnendable = "give_up"
    output_type: Any = None
    include: tuple[str, ...] = ()

    @property
    def cancels(self) -> dict[Cause, bool]:
        """Whether what is active is to be ended where an attempt ends early, by the cause."""
        return {
            Cause.KILLED: self.cancel_on_kill,
            Cause.FAILED: self.cancel_on_kill,
            Cause.TIMED_OUT: self.cancel_on_timeout,
        }
