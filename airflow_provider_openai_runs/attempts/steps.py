# SPDX-License-Identifier: Apache-2.0
"""What an attempt ends with in its worker: a result, or what the task has to wait for without a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.runs.usage import Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The task has its result."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer:
    """
    The triggerer waits for the end of the run, or for its next calls.

    :param besides: what the task has paid for besides this run.
    """

    run: TrackedRun
    besides: Totals = field(default_factory=Totals)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferForThread:
    """
    The triggerer waits until a thread may be free again; then the task starts once more.

    :param ref: the run that keeps it busy; None where nobody knows, so that time has to pass.
    :param until: Unix seconds at which the task gives up.
    :param waiting_since: Unix seconds, from when the task's window counts.
    """

    ref: RunRef | None
    until: float
    waiting_since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitApproval:
    """A person decides about the calls of the run; at ``timeout`` at the latest, Airflow resumes the task."""

    run: TrackedRun
    timeout: timedelta | None


AttemptStep = Finished | Defer | DeferForThread | AwaitApproval
