# SPDX-License-Identifier: Apache-2.0
"""What a driver does where its attempt itself fails; in virtual time, with the production attempt."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk.attempt import BulkAttempt
from airflow_provider_openai_runs.bulk.commands import Command
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.driver import BulkDriver
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.parts import Parts
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.runs.end_of_attempt import Cause
from airflow_provider_openai_runs.runs.status import RunStatus
from tests.bulk.test_driver_machine import Luck, World, _judged, now, run
from tests.bulk.test_replaced import SlowIO

LOG: Any = logging.getLogger(__name__)


class BrokenAttempt(BulkAttempt):
    """It has a bug that shows after a while."""

    breaks_at = float("inf")

    def next(self, now: float) -> list[Command]:
        if now >= self.breaks_at:
            raise LookupError("a bug")
        return super().next(now)


class Limit(RateLimit):
    """It counts what it hears of."""

    refused = 0

    def on_refused(self, now: float, retry_after: float | None) -> None:
        self.refused += 1
        super().on_refused(now, retry_after)


def _driver(
    world: World, *, limit: RateLimit | None = None, retry_left: bool = True, **slow: Any
) -> BulkDriver:
    io = SlowIO(world=world, writer="ti-1", luck=Luck([]), **slow)
    io.journal.load()
    attempt = BrokenAttempt(
        Items(),
        limits=Limits(max_active=2, max_unrecorded=2),
        judge=_judged,
        token_of=lambda row, number: f"{row}.{number}",
        polls=Polls(per_second=100, deadline=None),
        parts=Parts(writer="ti-1"),
        rate_limit=limit or RateLimit(),
        now=now(),
    )
    return BulkDriver(
        attempt=attempt,
        io=io,
        log=LOG,
        cancels=dict.fromkeys(Cause, True),
        retry_left=retry_left,
        clock=now,
        tick=0.07,
    )


@pytest.mark.parametrize("retry_left", [True, False])
def test_a_bug_ends_what_is_active_without_a_retry_also_what_is_answered_after_it(retry_left: bool) -> None:
    world = World([], owner="ti-1")

    async def live() -> list[str]:
        driver = _driver(world, retry_left=retry_left, creates={"1.0": 6})
        attempt = driver.attempt
        assert isinstance(attempt, BrokenAttempt)
        attempt.breaks_at = now() + 4
        with pytest.raises(LookupError, match="a bug"):
            await driver.run()
        return [run.id for run in attempt.active]

    active = run(live())
    assert len(world.runs) == 2
    expected = RunStatus.IN_PROGRESS if retry_left else RunStatus.CANCELLED
    assert {created.status for created in world.runs.values()} == {expected}
    assert {*active} == ({*world.runs} if retry_left else set())


def _driven(world: World, *, limit: RateLimit, seconds: float, commits: dict[int, float]) -> None:
    async def live() -> None:
        driving = asyncio.create_task(_driver(world, limit=limit, commits=commits).run())
        await asyncio.wait({driving}, timeout=seconds)
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)

    run(live())


def test_a_journal_that_is_slow_is_said_once_and_no_rate_is_blamed_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world, limit = World([], owner="ti-1"), Limit()
    _driven(world, limit=limit, seconds=60, commits=dict.fromkeys(range(1, 4), 4.85))
    assert (len(world.runs), limit.refused) == (2, 0)
    assert caplog.text.count("Creates wait for their journal") == 1


def test_a_journal_that_hangs_is_said(caplog: pytest.LogCaptureFixture) -> None:
    world = World([], owner="ti-1")
    _driven(world, limit=Limit(), seconds=3, commits={1: 600})
    assert not world.runs
    assert "Creates wait for their journal" in caplog.text


def test_a_journal_that_is_quick_is_not_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    world = World([], owner="ti-1")
    _driven(world, limit=Limit(), seconds=10, commits={})
    assert len(world.runs) == 2
    assert "journal" not in caplog.text
