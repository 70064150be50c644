# SPDX-License-Identifier: Apache-2.0
"""A bulk task of which more items fail than its user allows, by values."""

from __future__ import annotations

import pytest

from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.events import PartWritten
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.runs.failure import FailureKind
from tests.support.bulk_task import Answer, ManyItems, refused

WRONG = refused(FailureKind.REJECTED, status=400)


def _first_fail(count: int) -> Answer:
    return lambda row, _: WRONG if row < count else None


def test_failures_that_came_first_count_once_the_number_of_items_is_known() -> None:
    task = ManyItems(
        2_000, answer=lambda row, _: WRONG if 0 < row <= 101 else None, limits=Limits(max_failed=0.05)
    )
    task.work()
    assert task.attempt.is_over
    assert task.attempt.stopped is StopReason.TOO_MANY_FAILED


@pytest.mark.parametrize(("share", "allowed"), [(0.05, 5), (0.29, 29)])
def test_a_share_is_kept_exactly(share: float, allowed: int) -> None:
    task = ManyItems(100, answer=_first_fail(allowed), limits=Limits(max_failed=share), known_rows=100)
    task.work()
    assert task.attempt.stopped is None
    assert task.count(ItemState.SUCCEEDED) == 100 - allowed


def test_a_share_of_a_known_number_of_items_stops_the_task_as_soon_as_it_is_passed() -> None:
    task = ManyItems(2_000, answer=_first_fail(1_000), limits=Limits(max_failed=0.05), known_rows=2_000)
    task.work()
    assert task.attempt.stopped is StopReason.TOO_MANY_FAILED
    assert task.creates.total() <= 300


@pytest.mark.parametrize("share", [0.05, 0.9])
def test_a_hundred_failures_without_a_success_are_more_than_any_share_of_an_unknown_number(
    share: float,
) -> None:
    task = ManyItems(2_000, answer=_first_fail(2_000), limits=Limits(max_failed=share))
    task.work()
    assert task.attempt.stopped is StopReason.TOO_MANY_FAILED
    assert task.creates.total() <= 300


@pytest.mark.parametrize("max_failed", [10, 0.02])
def test_a_retry_that_begins_with_too_many_failures_creates_nothing(max_failed: float) -> None:
    task = ManyItems(
        500,
        limits=Limits(max_failed=max_failed),
        journal=[PartWritten(name="part", failed=tuple(range(50)))],
        known_rows=500,
    )
    task.work()
    assert task.attempt.is_over
    assert task.attempt.stopped is StopReason.TOO_MANY_FAILED
    assert task.creates.total() == 0


def test_a_worker_that_goes_away_ends_nothing_of_a_task_with_too_many_failures() -> None:
    task = ManyItems(
        500, limits=Limits(max_failed=10), journal=[PartWritten(name="part", failed=tuple(range(50)))]
    )
    task.attempt.stop(StopReason.LEFT)
    task.work()
    assert task.attempt.stopped is StopReason.LEFT
