# SPDX-License-Identifier: Apache-2.0
"""
Any order of answers, ends and crashes of a bulk task: nothing is paid for twice, and nothing is forgotten.

The machine plays the worker, the journal and the server. What was not committed is gone with a worker.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_openai_runs.bulk.dispatcher import Dispatcher, Limits
from airflow_provider_openai_runs.bulk.events import (
    Event,
    NewRun,
    PartWritten,
    Retried,
)
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.journal_lines import from_lines, to_lines
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.budgets import COMMIT_EVERY, SEND_WITHIN

ROWS = 12


class Answer(Enum):
    RUN = "a run"
    LATER = "not accepted, and may be sent again"
    REFUSED = "not accepted, for good"
    LOST = "nothing, and nothing was accepted"
    LOST_BUT_ACCEPTED = "nothing, and a run was created"


@dataclass
class ServerRun:
    id: str
    row: int
    is_active: bool = True
    succeeded: bool = False


class BulkMachine(RuleBasedStateMachine):
    @initialize(
        max_active=st.integers(1, 6),
        max_unrecorded=st.integers(1, 4),
        item_retries=st.integers(0, 2),
        resubmits=st.booleans(),
    )
    def start(self, *, max_active: int, max_unrecorded: int, item_retries: int, resubmits: bool) -> None:
        self.limits = Limits(
            max_active=max_active,
            max_unrecorded=max_unrecorded,
            item_retries=item_retries,
            on_lost_create="resubmit" if resubmits else "fail",
        )
        self.now = 1_700_000_000.0
        self.journal = b""
        self.runs: list[ServerRun] = []
        #: Creates that are on their way, by the attempt that sent them.
        self.sent: list[int] = []
        self.crashes = 0
        self._new_attempt()

    def _new_attempt(self) -> None:
        self.worker = Dispatcher(Items.of(from_lines(self.journal)), self.limits)
        self.committing: tuple[Event, ...] | None = None
        self.offered: set[int] = set()
        self.sent = []
        self.ended: dict[int, ServerRun] = {}
        #: Rows whose fate is known and not written yet, and those whose part is not committed.
        self.part: dict[int, str] = {}
        self.written: dict[int, str] = {}
        for row in [*self.worker.items.rows(ItemState.INTENDED)]:
            self._lose(row)

    # -- the worker ----------------------------------------------------------------------------------------

    @rule(rows=st.sets(st.integers(0, ROWS - 1), min_size=4))
    def offer(self, rows: set[int]) -> None:
        for row in sorted(rows - self.offered - {*self.part, *self.written}):
            if self.worker.items.state(row) is ItemState.NEW and self.worker.wanted:
                self.worker.offer(Row(number=row))
                self.offered.add(row)

    @precondition(lambda self: self.committing is None)
    @rule(admitted=st.none() | st.integers(0, 3))
    def begin_commit(self, admitted: int | None) -> None:
        self.committing = self.worker.to_commit(self.now, admitted=admitted)
        self.began = self.now

    @precondition(lambda self: self.committing is not None)
    @rule()
    def finish_commit(self) -> None:
        assert self.committing is not None
        self.journal += to_lines(self.committing)
        self.worker.on_committed(self.began)
        for event in self.committing:
            if isinstance(event, PartWritten):
                for row in event.rows:
                    del self.written[row]
            if isinstance(event, Retried):
                for row in event.rows:
                    del self.ended[row]
        self.committing = None
        for row in [*self.offered]:
            if self.worker.items.state(row) not in {ItemState.NEW, ItemState.INTENDED}:
                self.offered.discard(row)

    @rule()
    def send(self) -> None:
        self.sent += self.worker.to_send(self.now)

    @rule(answers=st.lists(st.sampled_from(Answer), min_size=3))
    def answer(self, answers: list[Answer]) -> None:
        for answer in answers[: len(self.sent)]:
            self._answer(self.sent.pop(), answer)

    def _answer(self, row: int, answer: Answer) -> None:
        if answer in {Answer.RUN, Answer.LOST_BUT_ACCEPTED}:
            run = ServerRun(id=f"resp_{len(self.runs)}", row=row)
            self.runs.append(run)
        match answer:
            case Answer.RUN:
                self.worker.on_created(NewRun(row=row, id=run.id, created_at=self.now))
            case Answer.LATER:
                self.worker.on_not_accepted(row, again=True)
            case Answer.REFUSED:
                self.worker.on_not_accepted(row, again=False)
                self.part[row] = "failed"
            case Answer.LOST | Answer.LOST_BUT_ACCEPTED:
                self._lose(row)

    def _lose(self, row: int) -> None:
        if self.worker.on_lost(row):
            self.offered.discard(row)
        else:
            self.part[row] = "lost"

    @rule()
    def notice_ends(self) -> None:
        for run in [self._run(new.id) for new in self.worker.items.runs.values()]:
            if run.is_active or run.row in (self.part | self.written | self.ended):
                continue
            if run.succeeded:
                self.worker.on_ended(run.row)
                self.part[run.row] = "succeeded"
            elif self.worker.on_failed(run.row, retryable=True):
                self.ended[run.row] = run
            else:
                self.part[run.row] = "failed"

    @precondition(lambda self: self.part and self.committing is None)
    @rule()
    def write_part(self) -> None:
        def rows(fate: str) -> tuple[int, ...]:
            return tuple(row for row, its in self.part.items() if its == fate)

        name = f"{self.crashes}-{len(self.journal)}"
        self.worker.on_part(
            PartWritten(name=name, succeeded=rows("succeeded"), failed=rows("failed"), lost=rows("lost"))
        )
        self.written |= self.part
        self.part = {}

    @rule(stops=st.sampled_from([False, False, True]))
    def stop(self, *, stops: bool) -> None:
        if stops:
            self.worker.stop(goes_on=False)

    @rule(
        answers=st.lists(st.sampled_from([*Answer, Answer.RUN, Answer.RUN]), min_size=1), sends=st.booleans()
    )
    def work(self, answers: list[Answer], *, sends: bool = True) -> None:
        """Do all of it once, as a worker without bad luck does; or all but the last."""
        self.offer({*range(ROWS)})
        self.answer(answers)
        self.notice_ends()
        if self.part:
            self.write_part()
        self.now += COMMIT_EVERY
        if self.committing is None:
            self.begin_commit(None)
        if self.committing is not None:
            self.finish_commit()
        if sends:
            self.send()

    # -- the world -----------------------------------------------------------------------------------------

    @rule(ends=st.lists(st.booleans(), max_size=4))
    def end_runs(self, ends: list[bool]) -> None:
        for run, succeeded in zip([run for run in self.runs if run.is_active], ends, strict=False):
            run.is_active, run.succeeded = False, succeeded

    @rule(seconds=st.sampled_from([0.1, COMMIT_EVERY, SEND_WITHIN + 0.1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(committed=st.booleans(), accepted=st.sets(st.integers(0, ROWS)))
    def crash(self, *, committed: bool, accepted: set[int]) -> None:
        """
        Lose the worker; of what it had sent, the server takes some.

        It may only be cut off, and go on; no commit of it counts. The next one waits until it sends no more.
        """
        for row in self.sent:
            if row in accepted:
                self.runs.append(ServerRun(id=f"resp_{len(self.runs)}", row=row))
        if self.committing is not None and committed:
            self.journal += to_lines(self.committing)
        self.crashes += 1
        self.now += SEND_WITHIN
        assert not self.worker.to_send(self.now), "the attempt before still sends creates"
        self._new_attempt()
        lost = self.worker.items.count(ItemState.INTENDED)
        assert lost <= self.limits.max_unrecorded, "more creates may be lost than were allowed"

    # -- what holds ----------------------------------------------------------------------------------------

    @invariant()
    def nobody_pays_twice_and_nothing_is_forgotten(self) -> None:
        if not hasattr(self, "journal"):
            return
        items = Items.of(from_lines(self.journal))
        paid = Counter(run.row for run in self.runs)
        active = Counter(run.row for run in self.runs if run.is_active)
        for row, times in paid.items():
            allowed = 1 + items.creates(row)
            assert times <= allowed, f"row {row} was paid for {times} times, {allowed} were allowed"
            assert active[row] <= 1 + items.resubmits(row), f"row {row} has {active[row]} active runs"
            is_past = items.retries(row) or items.resubmits(row)
            assert is_past or items.state(row) is not ItemState.NEW, f"the run of row {row} is in no journal"
        known = {new.id for new in items.runs.values()}
        assert sum(run.is_active and run.id in known for run in self.runs) <= self.limits.max_active

    def teardown(self) -> None:
        """Without faults, whatever happened before comes to its end: each item is final, once."""
        if not hasattr(self, "journal"):
            return
        self.crash(committed=True, accepted={*range(ROWS)})
        for _ in range(8 * ROWS):
            self.end_runs([True] * len(self.runs))
            self.work([Answer.RUN] * ROWS)
        items = self.worker.items
        assert self.worker.is_settled
        assert all(items.state(row).is_final for row in range(ROWS))
        assert sorted(row for part in items.parts for row in part.rows) == [*range(ROWS)]

    def _run(self, run_id: str) -> ServerRun:
        return next(run for run in self.runs if run.id == run_id)


TestBulk = BulkMachine.TestCase
TestBulk.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=40, deadline=None)
