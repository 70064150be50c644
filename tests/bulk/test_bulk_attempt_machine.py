# SPDX-License-Identifier: Apache-2.0
"""
A bulk task whose server, storage and store fail as they like, and whose workers die at any moment.

The machine executes the commands of the production ``BulkAttempt`` one by one, in any order, each with some
luck. Whatever happens: no item is paid for twice, none has two results, and in the end each is final.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, assert_never

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from airflow_provider_openai_runs.bulk.events import Event, NewRun
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.journal import Journal
from airflow_provider_openai_runs.bulk.parts import Outcome, Parts
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.budgets import SEND_WITHIN
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.status import RunStatus

COUNT = 9
BAD_ROW = 4
START = 1_700_000_000.0


#: Why a worker stops before its items have ended.
_ENDS = (StopReason.KILLED, StopReason.LEFT, StopReason.AGAIN)


class Luck(Enum):
    GOOD = "it is done, and answered"
    REFUSED = "it is not done, and the answer says so"
    UNANSWERED = "it is done, and the answer is lost"
    LOST = "it is not done, and nobody answers"


@dataclass
class ServerRun:
    id: str
    row: int
    token: str
    status: RunStatus = RunStatus.IN_PROGRESS


@dataclass
class World:
    """What outlives a worker."""

    now: float = START
    runs: dict[str, ServerRun] = field(default_factory=dict)
    files: dict[tuple[str, ...], bytes] = field(default_factory=dict)
    stored: Any = None
    #: Whether the store takes the next value, and whether it says so.
    takes: bool = True
    answers: bool = True

    def write(self, content: bytes, *names: str) -> None:
        self.files[names] = content

    def read(self, *names: str) -> bytes:
        return self.files[names]

    def load(self) -> Any:
        return self.stored

    def save(self, value: Any) -> None:
        if self.takes:
            self.stored = json.loads(json.dumps(value))
        if not self.answers:
            raise ConnectionError

    def create(self, row: int, token: str) -> ServerRun:
        run = ServerRun(id=f"resp_{len(self.runs)}", row=row, token=token)
        self.runs[run.id] = run
        return run

    def active(self) -> list[ServerRun]:
        return [run for run in self.runs.values() if run.status is RunStatus.IN_PROGRESS]

    def items(self) -> Items:
        return Items.of(Journal(folder=self, store=self, generation=0, writer="reader").load())


class BulkAttemptMachine(RuleBasedStateMachine):
    @initialize(
        max_active=st.integers(1, 5),
        max_unrecorded=st.integers(1, 4),
        item_retries=st.integers(0, 1),
        resubmits=st.booleans(),
    )
    def start(self, *, max_active: int, max_unrecorded: int, item_retries: int, resubmits: bool) -> None:
        self.world = World()
        self.limits = Limits(
            max_active=max_active,
            max_unrecorded=max_unrecorded,
            item_retries=item_retries,
            on_lost_create="resubmit" if resubmits else "fail",
        )
        self.attempts = 0
        self._begin()

    def _begin(self) -> None:
        self.attempts += 1
        self.writer = f"ti-{self.attempts}"
        self.journal = Journal(folder=self.world, store=self.world, generation=0, writer=self.writer)
        self.attempt = BulkAttempt(
            Items.of(self.journal.load()),
            limits=self.limits,
            judge=_judged,
            token_of=lambda row, number: f"{row}.{number}",
            polls=Polls(per_second=100, deadline=START + 1_000_000),
            parts=Parts(writer=self.writer),
            rate_limit=RateLimit(),
            now=self.world.now,
        )
        self.commands: list[Command] = []
        self.position = 0

    # -- the worker ----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 1.0, 2.0]))
    def ask(self, seconds: float) -> None:
        self.world.now += seconds
        self.commands += self.attempt.next(self.world.now)

    @precondition(lambda self: self.commands)
    @rule(which=st.integers(0, 5), luck=st.sampled_from([Luck.GOOD, Luck.GOOD, *Luck]))
    def execute(self, which: int, luck: Luck) -> None:
        self._execute(self.commands.pop(which % len(self.commands)), luck)

    @rule(lucks=st.lists(st.sampled_from([Luck.GOOD, Luck.GOOD, Luck.GOOD, *Luck]), min_size=3))
    def work(self, lucks: list[Luck]) -> None:
        self.ask(1.0)
        for luck, command in zip(lucks, self.commands[: len(lucks)], strict=False):
            self._execute(command, luck)
        self.commands = self.commands[len(lucks) :]

    def _execute(self, command: Command, luck: Luck) -> None:
        now, is_done = self.world.now, luck in {Luck.GOOD, Luck.UNANSWERED}
        match command:
            case ReadRows():
                self._read_rows(command)
            case Commit():
                self._commit(command.events, is_done=is_done, is_answered=luck is Luck.GOOD)
            case Send():
                row = command.row.number
                answer: NewRun | RequestFailure | None = _failure(luck)
                if is_done:
                    created = self.world.create(row, command.token)
                    answer = answer or NewRun(row=row, id=created.id, created_at=now)
                assert answer is not None
                self.attempt.on_sent(row, answer, now=now, headers={})
            case Poll():
                polled = _failure(luck) or self._polled(command.run)
                self.attempt.on_polled(command.run.row, polled, now=now)
            case Cancel():
                run = self.world.runs[command.run.id]
                if is_done and run.status is RunStatus.IN_PROGRESS:
                    run.status = RunStatus.CANCELLED
                ended = _failure(luck) or _run(run)
                self.attempt.on_cancelled(command.run.row, ended, now=now)
            case WritePart():
                if is_done:
                    self.world.write(command.part.content, "results", command.part.written.name)
                    self.attempt.on_part_written()
                else:
                    self.attempt.on_part_failed(now)
            case _:
                assert_never(command)

    def _read_rows(self, command: ReadRows) -> None:
        self.position = 0 if command.from_start else self.position
        numbers = range(self.position, min(self.position + command.count, COUNT))
        self.position = numbers.stop
        rows = [
            Row(number=number, error="bad")
            if number == BAD_ROW
            else Row(number=number, custom_id=f"id-{number}", values={"input": "x"})
            for number in numbers
        ]
        self.attempt.on_rows(rows, is_last=self.position >= COUNT, now=self.world.now)

    def _commit(self, events: tuple[Event, ...], *, is_done: bool, is_answered: bool) -> None:
        self.world.takes, self.world.answers = is_done, is_answered
        try:
            self.journal.commit(events)
        except ConnectionError:
            self.attempt.on_commit_failed(self.world.now)
        else:
            self.attempt.on_committed(began_at=self.world.now)
        self.world.takes = self.world.answers = True

    def _polled(self, known: NewRun) -> Polled:
        run = self.world.runs[known.id]
        result = PollResult(status=run.status, raw_status=run.status.value)
        return Polled(result=result, run=_run(run) if run.status.is_terminal else None)

    # -- the world -----------------------------------------------------------------------------------------

    @rule(ends=st.lists(st.sampled_from([RunStatus.COMPLETED, RunStatus.COMPLETED, RunStatus.FAILED])))
    def end_runs(self, ends: list[RunStatus]) -> None:
        for run, status in zip(self.world.active(), ends, strict=False):
            run.status = status

    @rule(reason=st.sampled_from([None, None, None, None, *_ENDS]))
    def stop(self, *, reason: StopReason | None) -> None:
        if reason is not None:
            self.attempt.stop(reason)

    @rule(lucks=st.lists(st.sampled_from([None, *Luck]), max_size=4))
    def crash(self, lucks: list[Luck | None]) -> None:
        """Lose the worker while some of its commands are on their way; nobody reads the answers."""
        for command, luck in zip(self.commands, lucks, strict=False):
            if luck in {Luck.GOOD, Luck.UNANSWERED}:
                self._done_for_nobody(command)
        self.world.now += SEND_WITHIN
        late = [command for command in self.attempt.next(self.world.now) if isinstance(command, Send)]
        assert not late, "the attempt before, which was only cut off, still sends creates"
        lost = self.world.items().count(ItemState.INTENDED)
        assert lost <= self.limits.max_unrecorded, "more creates may be lost than were allowed"
        self._begin()

    def _done_for_nobody(self, command: Command) -> None:
        match command:
            case Send():
                self.world.create(command.row.number, command.token)
            case Commit():
                self.journal.commit(command.events)
            case WritePart():
                self.world.write(command.part.content, "results", command.part.written.name)
            case _:
                pass

    # -- what holds ----------------------------------------------------------------------------------------

    @invariant()
    def nobody_pays_twice(self) -> None:
        if not hasattr(self, "world"):
            return
        items = self.world.items()
        paid = Counter(run.row for run in self.world.runs.values())
        for row, times in paid.items():
            allowed = 1 + items.creates(row)
            assert times <= allowed, f"row {row} was paid for {times} times, {allowed} were allowed"
            assert items.retries(row) <= self.limits.item_retries
        tokens = Counter(run.token for run in self.world.runs.values())
        assert max(tokens.values(), default=0) <= 1, "a token was used twice"

    @invariant()
    def no_run_is_forgotten(self) -> None:
        if not hasattr(self, "world"):
            return
        items = self.world.items()
        known = {run.id for run in items.runs.values()}
        for run in self.world.active():
            is_named = items.state(run.row) in {ItemState.INTENDED, ItemState.LOST} or items.resubmits(
                run.row
            )
            assert run.id in known or is_named, f"{run.id} of row {run.row} is active, and nobody knows of it"
        assert sum(run.id in known for run in self.world.active()) <= self.limits.max_active

    def teardown(self) -> None:
        """Without faults it comes to its end, whatever happened before."""
        if not hasattr(self, "world"):
            return
        if self.attempt.stopped is not None:
            self.crash([])
        for _ in range(400):
            if self.attempt.is_over:
                break
            self.end_runs([RunStatus.COMPLETED] * COUNT)
            self.world.now += 1.0
            self.work([Luck.GOOD] * 100)
        assert self.attempt.is_over, "it goes on for ever"
        items = self.world.items()
        assert all(items.state(row).is_final for row in range(COUNT))
        assert items.state(BAD_ROW) is ItemState.FAILED
        lines = [
            json.loads(line)
            for part in items.parts
            for line in self.world.read("results", part.name).splitlines()
        ]
        assert sorted(line["row"] for line in lines) == [*range(COUNT)], "a result is lost, or there twice"
        assert all(line.get("custom_id") == f"id-{line['row']}" for line in lines if line["row"] != BAD_ROW)
        assert not [run for run in self.world.active() if items.state(run.row) is not ItemState.LOST]


def _failure(luck: Luck) -> RequestFailure | None:
    kinds = {Luck.REFUSED: FailureKind.RETRY_LATER}
    if luck is Luck.GOOD:
        return None
    return RequestFailure(kind=kinds.get(luck, FailureKind.OUTCOME_UNKNOWN), text="no luck")


def _run(run: ServerRun) -> Run:
    ref = RunRef(kind="response", id=run.id, conn_id="ai")
    return Run(ref=ref, status=run.status, raw_status=run.status.value, object="response")


def _judged(row: int, custom_id: str | None, run: Run) -> Verdict:
    state = ItemState.SUCCEEDED if run.status is RunStatus.COMPLETED else ItemState.FAILED
    outcome = Outcome(
        row=row, state=state, custom_id=custom_id, result={"id": run.ref.id}, error=run.raw_status
    )
    return Verdict(outcome=outcome, retryable=run.status is RunStatus.FAILED)


TestBulkAttempt = BulkAttemptMachine.TestCase
TestBulkAttempt.settings = settings(
    max_examples=2 * settings().max_examples, stateful_step_count=40, deadline=None
)
