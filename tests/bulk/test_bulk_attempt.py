# SPDX-License-Identifier: Apache-2.0
"""What stops a bulk task, by values; the state machine tries the rest."""

from __future__ import annotations

import pytest

from airflow_provider_openai_runs.bulk.attempt import BulkAttempt
from airflow_provider_openai_runs.bulk.commands import (
    Cancel,
    Command,
    Commit,
    Poll,
    Polled,
    ReadRows,
    Send,
    StopReason,
    Verdict,
    WritePart,
)
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.events import Created, Event, Intended, NewRun, NotAccepted
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.parts import Outcome, Parts
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.status import RunStatus

NOW = 1_700_000_000.0
WINDOW = 5_000.0
REF = RunRef(kind="response", id="resp_0", conn_id="ai")


class Task:
    """A task of two rows: the first has a run, the create of the second meets what the server says."""

    def __init__(self, refusal: FailureKind | None) -> None:
        self.now = NOW
        self.refusal = refusal
        self.status = RunStatus.IN_PROGRESS
        self.polls_are_refused = False
        self.cancelled: list[str] = []
        journal: list[Event] = [
            Intended(rows=(0,)),
            Created(runs=(NewRun(row=0, id="resp_0", created_at=NOW),)),
        ]
        self.attempt = BulkAttempt(
            Items.of(journal),
            limits=Limits(),
            judge=_judged,
            token_of=lambda row, number: f"{row}.{number}",
            polls=Polls(per_second=100, deadline=NOW + WINDOW),
            parts=Parts(writer="ti"),
            rate_limit=RateLimit(),
            now=NOW,
        )

    def work(self, seconds: float) -> None:
        """Let time go by, and do all that is asked for."""
        ends = self.now + seconds
        while self.now < ends and not self.attempt.is_over:
            self.now += 1.0
            for command in self.attempt.next(self.now):
                self._do(command)

    def _do(self, command: Command) -> None:
        refused = self.refusal and RequestFailure(kind=self.refusal, text="no", http_status=429)
        match command:
            case ReadRows():
                rows = [Row(number=number, values={"input": "x"}) for number in range(2)]
                self.attempt.on_rows(rows, is_last=True, now=self.now)
            case Commit():
                self.attempt.on_committed(began_at=self.now)
            case Send():
                created = NewRun(row=command.row.number, id="resp_1", created_at=self.now)
                self.attempt.on_sent(command.row.number, refused or created, now=self.now, headers={})
            case Poll():
                denied = RequestFailure(kind=FailureKind.ACCESS_DENIED, text="no", http_status=401)
                run = _run(self.status) if self.status.is_terminal else None
                polled = Polled(result=PollResult(status=self.status, raw_status=self.status.value), run=run)
                brought = denied if self.polls_are_refused else polled
                self.attempt.on_polled(command.run.row, brought, now=self.now)
            case Cancel():
                self.cancelled.append(command.run.id)
                self.attempt.on_cancelled(command.run.row, _run(RunStatus.CANCELLED), now=self.now)
            case WritePart():
                self.attempt.on_part_written()


def _run(status: RunStatus) -> Run:
    return Run(ref=REF, status=status, raw_status=status.value, object="response")


def _judged(row: int, custom_id: str | None, run: Run) -> Verdict:
    state = ItemState.SUCCEEDED if run.status is RunStatus.COMPLETED else ItemState.FAILED
    return Verdict(outcome=Outcome(row=row, custom_id=custom_id, state=state))


@pytest.mark.parametrize("refusal", [FailureKind.NO_QUOTA, FailureKind.ACCESS_DENIED])
def test_an_account_that_may_create_nothing_more_lets_its_runs_come_to_their_end(
    refusal: FailureKind,
) -> None:
    task = Task(refusal)
    task.work(600)
    assert task.attempt.stopped is StopReason.DENIED
    assert not task.attempt.is_over
    task.status = RunStatus.COMPLETED
    task.work(60)
    assert task.attempt.is_over
    assert task.cancelled == []
    assert task.attempt.items.state(0) is ItemState.SUCCEEDED
    assert task.attempt.items.state(1) is ItemState.NEW


def test_a_quota_that_comes_back_within_minutes_is_no_reason_to_stop() -> None:
    task = Task(FailureKind.NO_QUOTA)
    task.work(120)
    task.refusal = None
    task.status = RunStatus.COMPLETED
    task.work(200)
    assert task.attempt.stopped is None
    assert task.attempt.is_over


def test_runs_that_nobody_may_poll_are_left_to_the_retry() -> None:
    task = Task(FailureKind.ACCESS_DENIED)
    task.polls_are_refused = True
    task.work(1_000)
    assert task.attempt.is_over
    assert task.cancelled == []
    assert task.attempt.items.state(0) is ItemState.CREATED


def test_the_end_of_the_window_ends_what_a_denied_account_has_left() -> None:
    task = Task(FailureKind.NO_QUOTA)
    task.work(WINDOW + 60)
    assert task.attempt.stopped is StopReason.WINDOW_OVER
    assert task.attempt.is_over
    assert task.cancelled == ["resp_0"]


def test_a_bad_row_that_is_read_again_before_its_part_is_written_has_one_error() -> None:
    task = Task(None)
    for _ in range(2):
        task.attempt.on_rows([Row(number=1, error="no JSON")], is_last=False, now=NOW)
    parts = [command.part for command in task.attempt.next(NOW + 10) if isinstance(command, WritePart)]
    assert [part.written.failed for part in parts] == [(1,)]


def test_a_run_that_ended_with_its_create_keeps_its_slot_until_its_result_is_committed() -> None:
    task = Task(None)
    attempt = task.attempt
    attempt.on_rows([Row(number=1, values={"input": "x"})], is_last=True, now=NOW)
    attempt.next(NOW)
    attempt.on_committed(began_at=NOW)
    assert [send.row.number for send in attempt.next(NOW) if isinstance(send, Send)] == [1]
    created = NewRun(row=1, id="resp_1", created_at=NOW)
    attempt.on_sent(1, created, now=NOW, headers={}, ended=_run(RunStatus.COMPLETED))
    assert len(attempt._dispatcher._open) == 2
    task.work(10)
    assert len(attempt._dispatcher._open) == 1
    assert attempt.items.state(1) is ItemState.SUCCEEDED


def test_an_attempt_that_leaves_ends_nothing_and_a_kill_ends_what_it_has_left() -> None:
    task = Task(None)
    task.attempt.stop(StopReason.LEFT)
    task.work(10)
    assert task.attempt.is_over
    assert task.cancelled == []
    task.attempt.stop(StopReason.KILLED)
    task.work(10)
    assert task.cancelled == ["resp_0"]


def test_a_run_that_is_not_committed_yet_is_ended_with_the_others() -> None:
    task = Task(None)
    attempt = task.attempt
    attempt.on_rows([Row(number=1, values={"input": "x"})], is_last=True, now=NOW)
    attempt.next(NOW)
    attempt.on_committed(began_at=NOW)
    attempt.next(NOW)
    attempt.on_sent(1, NewRun(row=1, id="resp_1", created_at=NOW), now=NOW, headers={})
    attempt.stop(StopReason.KILLED)
    ended = [command.run.id for command in attempt.next(NOW) if isinstance(command, Cancel)]
    assert ended == ["resp_0", "resp_1"]


def test_a_run_that_was_written_down_and_not_committed_belongs_to_the_next_attempt() -> None:
    items = Items.of([Intended(rows=(0, 1, 2))])
    found: list[Event] = [
        Created(runs=(NewRun(row=0, id="resp_0", created_at=NOW),)),
        NotAccepted(rows=(1,)),
        Intended(rows=(7,)),
    ]
    attempt = BulkAttempt(
        items,
        limits=Limits(),
        judge=_judged,
        token_of=lambda row, number: f"{row}.{number}",
        polls=Polls(per_second=100, deadline=NOW + WINDOW),
        parts=Parts(writer="ti-2"),
        rate_limit=RateLimit(),
        now=NOW,
        found=found,
    )
    attempt.next(NOW)
    attempt.on_committed(began_at=NOW)
    part = next(command.part for command in attempt.next(NOW + 60) if isinstance(command, WritePart))
    assert [run.id for run in items.runs.values()] == ["resp_0"]
    assert items.state(1) is ItemState.NEW
    assert part.written.lost == (2,)
