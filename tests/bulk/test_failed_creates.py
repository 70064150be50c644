# SPDX-License-Identifier: Apache-2.0
"""What creates that bring no run mean for their items and for the others, by values."""

from __future__ import annotations

import pytest

from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.policies import OnLostCreate
from tests.support.bulk_task import Answer, ManyItems, refused

#: Creates under way at once.
UNRECORDED = Limits().max_unrecorded


def _away(kind: FailureKind, *, begins: float = 10.0, lasts: float = 60.0) -> Answer:
    """A server that answers so for a while."""
    return lambda _row, seconds: refused(kind) if begins <= seconds < begins + lasts else None


# -- the server is away -------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_lost_create", ["fail", "resubmit"])
def test_an_outage_takes_what_was_under_way_and_a_few_that_try_whether_it_is_over(
    on_lost_create: OnLostCreate,
) -> None:
    task = ManyItems(
        3_000, answer=_away(FailureKind.OUTCOME_UNKNOWN), limits=Limits(on_lost_create=on_lost_create)
    )
    task.work()
    assert task.attempt.is_over
    further = task.creates.total() - 3_000
    lost = task.count(ItemState.LOST)
    assert 0 < (lost if on_lost_create == "fail" else further) <= UNRECORDED + 10
    assert task.count(ItemState.SUCCEEDED) == 3_000 - lost


def test_after_an_outage_the_others_are_created_as_fast_as_before() -> None:
    task = ManyItems(3_000, answer=_away(FailureKind.OUTCOME_UNKNOWN))
    task.work()
    assert task.seconds < 300


def test_a_server_that_takes_creates_and_answers_none_meets_one_at_a_time() -> None:
    task = ManyItems(3_000, answer=_away(FailureKind.OUTCOME_UNKNOWN, lasts=7_200), hangs=600.0)
    task.work(7_200)
    assert task.creates.total() <= UNRECORDED + 13


def test_creates_that_are_lost_by_chance_slow_nothing_down() -> None:
    task = ManyItems(
        3_000, answer=lambda row, _: refused(FailureKind.OUTCOME_UNKNOWN) if row % 10 == 3 else None
    )
    task.work()
    assert task.count(ItemState.LOST) == 300
    assert task.seconds < 60


# -- one item is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", [0, 150, 299])
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FailureKind.ACCESS_DENIED, 403),
        (FailureKind.NO_QUOTA, 429),
        (FailureKind.NOT_FOUND, 404),
        (FailureKind.NOT_ACCEPTED, 200),
        (FailureKind.RETRY_LATER, 429),
    ],
)
def test_an_item_that_the_server_always_refuses_fails_alone(
    kind: FailureKind, status: int, poison: int
) -> None:
    task = ManyItems(300, answer=lambda row, _: refused(kind, status=status) if row == poison else None)
    task.work()
    assert task.attempt.stopped is None
    assert task.attempt.items.state(poison) is ItemState.FAILED
    assert task.count(ItemState.SUCCEEDED) == 299
    assert task.creates[poison] <= 20
    assert task.seconds < 1_800


def test_items_that_a_firewall_blocks_slow_the_others_down_by_little() -> None:
    denied = refused(FailureKind.ACCESS_DENIED, status=403)
    task = ManyItems(3_000, answer=lambda row, _: denied if row % 100 == 7 else None)
    task.work()
    assert task.count(ItemState.FAILED) == 30
    assert task.seconds < 120


# -- all are refused for a while ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.NOT_ACCEPTED,
        FailureKind.NOT_FOUND,
        FailureKind.ACCESS_DENIED,
        FailureKind.NO_QUOTA,
        FailureKind.RETRY_LATER,
        FailureKind.NOT_SENT,
    ],
)
@pytest.mark.parametrize("begins", [0.0, 10.0])
def test_what_passes_within_minutes_costs_no_item(kind: FailureKind, begins: float) -> None:
    task = ManyItems(1_500, answer=_away(kind, begins=begins, lasts=60.0))
    task.work()
    assert task.attempt.stopped is None
    assert task.count(ItemState.SUCCEEDED) == 1_500
    assert task.creates.total() <= 1_500 + UNRECORDED + 20
    assert task.seconds < 600


@pytest.mark.parametrize("kind", [FailureKind.NOT_FOUND, FailureKind.ACCESS_DENIED, FailureKind.NO_QUOTA])
def test_a_connection_of_which_nothing_is_taken_for_minutes_stops_the_task(kind: FailureKind) -> None:
    task = ManyItems(3_000, answer=_away(kind, lasts=1e9))
    task.work(1_800)
    assert task.attempt.stopped is StopReason.DENIED
    assert task.attempt.denied == refused(kind)
    assert task.count(ItemState.FAILED) == 0


def test_a_request_that_is_wrong_fails_at_once_and_holds_nobody_up() -> None:
    wrong: RequestFailure = refused(FailureKind.REJECTED, status=400)
    task = ManyItems(1_000, answer=lambda row, _: wrong if row < 500 else None)
    task.work()
    assert (task.count(ItemState.FAILED), task.count(ItemState.SUCCEEDED)) == (500, 500)
    assert task.creates.total() == 1_000
    assert task.seconds < 60
