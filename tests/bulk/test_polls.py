# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult
from airflow_provider_openai_runs.runs.polling import Done, Outcome
from airflow_provider_openai_runs.runs.status import RunStatus

NOW = 1_700_000_000.0
ACTIVE = PollResult(status=RunStatus.IN_PROGRESS, raw_status="in_progress")
COMPLETED = PollResult(status=RunStatus.COMPLETED, raw_status="completed")


def _waiting_for(count: int, *, per_second: float, deadline: float | None = None, age: float = 0.0) -> Polls:
    polls = Polls(per_second=per_second, deadline=deadline)
    polls.add((NewRun(row=row, id=f"resp_{row}", created_at=NOW - age) for row in range(count)), now=NOW)
    return polls


def _play(polls: Polls, seconds: int) -> list[int]:
    """Poll for so many seconds, none of the runs ends; return how many were polled in each."""
    polled = []
    for second in range(seconds):
        now = NOW + second
        rows = polls.due(now)
        for row in rows:
            polls.on_poll(row, ACTIVE, now=now)
        polled.append(len(rows))
    return polled


def test_thousands_of_runs_stay_within_the_budget_from_the_first_second_on() -> None:
    polled = _play(_waiting_for(2_000, per_second=100, age=300), 120)
    assert max(polled) <= 2 * 100
    assert sum(polled) <= 100 * 120 * 1.1


def test_a_new_run_among_thousands_is_first_polled_after_its_share_of_the_budget() -> None:
    polls = _waiting_for(2_000, per_second=100, age=300)
    polls.add([NewRun(row=2_000, id="resp_new", created_at=NOW)], now=NOW)
    found = []
    for second in range(40):
        found += [second for row in polls.due(NOW + second) if row == 2_000]
    assert found == [21], "2,001 runs at 100 polls a second: 20.01 s"


def test_a_few_runs_are_polled_as_often_as_their_age_asks_for() -> None:
    polled = _play(_waiting_for(3, per_second=100), 60)
    assert sum(polled) > 3 * 15


def test_a_run_that_ended_is_polled_no_more() -> None:
    polls = _waiting_for(2, per_second=100, age=10)
    assert polls.due(NOW + 1) == [0, 1]
    done = polls.on_poll(0, COMPLETED, now=NOW + 1)
    assert isinstance(done, Done)
    assert (done.outcome, done.polled) == (Outcome.ENDED, COMPLETED)
    polls.on_poll(1, ACTIVE, now=NOW + 1)
    assert len(polls) == 1
    assert polls.due(NOW + 100) == [1]


def test_a_run_that_is_forgotten_while_its_poll_is_due_is_not_polled() -> None:
    polls = _waiting_for(1, per_second=100, age=10)
    polls.forget(0)
    assert polls.next_at() is None
    assert polls.due(NOW + 100) == []


def test_the_deadline_is_noticed_at_its_time_by_every_run_within_the_budget() -> None:
    polls = _waiting_for(100, per_second=100, deadline=NOW + 50, age=300)
    over = set()
    for second in range(53):
        now = NOW + second
        for row in polls.due(now):
            decision = polls.on_poll(row, ACTIVE, now=now)
            if isinstance(decision, Done):
                assert decision.outcome is Outcome.WINDOW_OVER
                assert now >= NOW + 50
                over.add(row)
    assert len(over) == 100


def test_a_failure_is_not_an_end() -> None:
    polls = _waiting_for(1, per_second=100, age=10)
    polls.due(NOW + 1)
    failure = RequestFailure(kind=FailureKind.RETRY_LATER, text="429", retry_after=20)
    polls.on_poll(0, failure, now=NOW + 1)
    assert polls.due(NOW + 20) == []
    assert polls.due(NOW + 21.5) == [0]
