# SPDX-License-Identifier: Apache-2.0
"""A bulk task of many rows whose server answers as a test says; its time goes by at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from airflow_provider_openai_runs.bulk.attempt import BulkAttempt
from airflow_provider_openai_runs.bulk.commands import (
    Cancel,
    Command,
    Commit,
    Poll,
    Polled,
    ReadRows,
    Send,
    Verdict,
    WritePart,
)
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.events import Event, NewRun
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.parts import Outcome, Parts
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.status import RunStatus

START = 1_700_000_000.0
TICK = 0.5

#: What a create of a row is answered with, by the seconds since the start; None is a run.
Answer = Callable[[int, float], RequestFailure | None]


def refused(kind: FailureKind, *, status: int = 500) -> RequestFailure:
    """Return the failure of a create."""
    return RequestFailure(kind=kind, text="the server says no", http_status=status)


class ManyItems:
    """
    A task whose attempt is driven by values.

    :param answer: to each create; by default it brings a run.
    :param cancel: to each cancel; by default it ends the run.
    :param status: of a run that is polled.
    :param window: seconds from the start to the deadline.
    :param hangs: seconds until a create is answered.
    :param known_rows: how many the input says that it has.
    """

    def __init__(
        self,
        rows: int,
        *,
        answer: Answer = lambda _row, _seconds: None,
        cancel: RequestFailure | None = None,
        status: RunStatus = RunStatus.COMPLETED,
        limits: Limits | None = None,
        journal: Iterable[Event] = (),
        window: float = 86_400.0,
        hangs: float = 0.0,
        known_rows: int | None = None,
    ) -> None:
        self.now = START
        self.rows = rows
        self.answer = answer
        self.cancel = cancel
        self.status = status
        self.hangs = hangs
        #: Seconds from the end of one run by a cancel to the next; the others are refused.
        self.cancel_succeeds_every = 0.0
        self._cancelled_at = START
        #: Creates by row.
        self.creates: Counter[int] = Counter()
        #: When creates were sent, in seconds since the start.
        self.sent_at: list[float] = []
        #: Cancels by run.
        self.cancelled: Counter[str] = Counter()
        self._position = 0
        self._under_way: list[tuple[float, int]] = []
        self.attempt = BulkAttempt(
            Items.of(journal),
            limits=limits or Limits(),
            judge=_judged,
            token_of=lambda row, number: f"{row}.{number}",
            polls=Polls(per_second=1_000, deadline=START + window),
            parts=Parts(writer="ti"),
            rate_limit=RateLimit(),
            now=START,
            known_rows=known_rows,
        )

    @property
    def seconds(self) -> float:
        """The time since the start."""
        return self.now - START

    def count(self, state: ItemState) -> int:
        """Return how many items stand there."""
        return self.attempt.items.count(state)

    def work(self, seconds: float = 200_000.0) -> None:
        """Let time go by until the attempt is over, so long at most."""
        ends = self.now + seconds
        while self.now < ends and not self.attempt.is_over:
            self.now += TICK
            self._answer_creates()
            for command in self.attempt.next(self.now):
                self._do(command)

    def _answer_creates(self) -> None:
        due = [row for at, row in self._under_way if at <= self.now]
        self._under_way = [(at, row) for at, row in self._under_way if at > self.now]
        for row in due:
            created = NewRun(row=row, id=f"resp_{row}", created_at=self.now)
            brought = self.answer(row, self.seconds) or created
            self.attempt.on_sent(row, brought, now=self.now, headers={})

    def _do(self, command: Command) -> None:
        attempt, now = self.attempt, self.now
        match command:
            case ReadRows():
                self._position = 0 if command.from_start else self._position
                numbers = range(self._position, min(self._position + command.count, self.rows))
                self._position = numbers.stop
                rows = [Row(number=number, values={"input": "x"}) for number in numbers]
                attempt.on_rows(rows, is_last=len(numbers) < command.count, now=now)
            case Commit():
                attempt.on_committed(began_at=now)
            case Send():
                self.creates[command.row.number] += 1
                self.sent_at.append(self.seconds)
                self._under_way.append((now + self.hangs, command.row.number))
            case Poll():
                run = _run(self.status) if self.status.is_terminal else None
                result = PollResult(status=self.status, raw_status=self.status.value)
                attempt.on_polled(command.run.row, Polled(result=result, run=run), now=now)
            case Cancel():
                self.cancelled[command.run.id] += 1
                attempt.on_cancelled(command.run.row, self._cancelled(), now=now)
            case WritePart():
                attempt.on_part_written()

    def _cancelled(self) -> Run | RequestFailure:
        if self.cancel is not None:
            return self.cancel
        if self.now < self._cancelled_at + self.cancel_succeeds_every:
            return refused(FailureKind.OUTCOME_UNKNOWN)
        self._cancelled_at = self.now
        return _run(RunStatus.CANCELLED)


def _run(status: RunStatus) -> Run:
    ref = RunRef(kind="response", id="resp_0", conn_id="ai")
    return Run(ref=ref, status=status, raw_status=status.value, object="response")


def _judged(row: int, custom_id: str | None, run: Run) -> Verdict:
    state = ItemState.SUCCEEDED if run.status is RunStatus.COMPLETED else ItemState.FAILED
    return Verdict(outcome=Outcome(row=row, custom_id=custom_id, state=state))
