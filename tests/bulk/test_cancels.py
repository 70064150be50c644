# SPDX-License-Identifier: Apache-2.0
"""A bulk task ends what is active, also where the server does not let it, by values."""

from __future__ import annotations

import pytest

from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS
from airflow_provider_openai_runs.runs.failure import FailureKind
from airflow_provider_openai_runs.runs.status import RunStatus
from tests.support.bulk_task import ManyItems, refused

WINDOW = 100.0

_REFUSALS = [
    (FailureKind.ACCESS_DENIED, 401),
    (FailureKind.REJECTED, 405),
    (FailureKind.OUTCOME_UNKNOWN, 500),
    (FailureKind.NOT_ACCEPTED, 404),
]


@pytest.mark.parametrize(("kind", "status"), _REFUSALS)
def test_runs_that_cannot_be_ended_hold_no_task_for_long_after_its_window(
    kind: FailureKind, status: int
) -> None:
    task = ManyItems(20, cancel=refused(kind, status=status), status=RunStatus.IN_PROGRESS, window=WINDOW)
    task.work()
    assert task.attempt.is_over
    assert task.attempt.stopped is StopReason.WINDOW_OVER
    assert task.seconds <= WINDOW + DEFAULT_TIMEOUTS["delete"] + 5
    assert task.count(ItemState.CREATED) == len(task.attempt.active) == 20


def test_runs_that_cannot_be_ended_hold_no_task_for_long_of_which_too_many_items_have_failed() -> None:
    wrong = refused(FailureKind.REJECTED, status=400)
    task = ManyItems(
        20,
        answer=lambda row, _: wrong if row > 15 else None,
        cancel=refused(FailureKind.ACCESS_DENIED, status=401),
        status=RunStatus.IN_PROGRESS,
        limits=Limits(max_failed=2),
    )
    task.work()
    assert task.attempt.is_over
    assert task.attempt.stopped is StopReason.TOO_MANY_FAILED
    assert task.seconds < DEFAULT_TIMEOUTS["delete"] + 30
    assert task.count(ItemState.CREATED) == 16


def test_as_long_as_runs_end_the_others_are_cancelled_too() -> None:
    task = ManyItems(20, status=RunStatus.IN_PROGRESS, window=WINDOW)
    task.cancel_succeeds_every = 250.0
    task.work()
    assert task.attempt.is_over
    assert task.attempt.active == []


def test_a_run_whose_create_is_answered_after_all_the_others_were_left_is_cancelled_too() -> None:
    task = ManyItems(
        20,
        cancel=refused(FailureKind.OUTCOME_UNKNOWN),
        status=RunStatus.IN_PROGRESS,
        limits=Limits(max_unrecorded=10),
        window=WINDOW,
    )
    task.work(50)
    task.hangs = 500.0
    task.rows = 21
    assert task.count(ItemState.CREATED) == 20
    task.attempt.on_rows([Row(number=20, values={"input": "x"})], is_last=True, now=task.now)
    task.work()
    assert task.attempt.is_over
    assert 550 < task.seconds < 550 + DEFAULT_TIMEOUTS["delete"] + 5
    assert task.cancelled["resp_20"] > 10
