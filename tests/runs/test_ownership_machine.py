# SPDX-License-Identifier: Apache-2.0
"""Drives ``decide`` against a toy server: attempts, lost creates, crashes between any two moves, clears."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, RunRef
from airflow_provider_openai_runs.runs.ownership import (
    Adopt,
    Create,
    FinishFrom,
    GiveUp,
    Observation,
    PollRun,
    Replace,
    SearchResult,
    SearchRun,
    Step,
    decide,
)
from airflow_provider_openai_runs.runs.policies import OnLostCreate
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus

ENDS = [status for status in RunStatus if status.is_terminal]
#: How long an accepted run may be missing from a list, and the server's slowest answer to a create.
HIDDEN, SLOW, SLOWEST = 33.0, 20.0, 590.0


@dataclass
class ToyRun:
    id: str
    token: str
    accepted_at: float
    status: RunStatus = RunStatus.QUEUED


@dataclass(frozen=True, kw_only=True)
class Luck:
    """What happens to the next call of the worker."""

    accepted: bool
    answered: bool
    seconds: float
    failure: FailureKind | None
    gives_up_waiting: bool
    marks_first: bool
    refuses_answer: bool


lucks = st.builds(
    Luck,
    accepted=st.sampled_from([True, True, True, False]),
    answered=st.booleans(),
    seconds=st.sampled_from([0.0, SLOW, SLOWEST]),
    failure=st.sampled_from([None, None, None, *FailureKind]),
    gives_up_waiting=st.booleans(),
    marks_first=st.booleans(),
    refuses_answer=st.booleans(),
)


class Ownership(RuleBasedStateMachine):
    @initialize(has_list=st.booleans(), resubmits=st.booleans())
    def begin(self, *, has_list: bool, resubmits: bool) -> None:
        self.has_list = has_list
        self.resubmits = resubmits
        self.now = 1_700_000_000.0
        self.generation = 0
        self.runs: list[ToyRun] = []
        self.abandoned: set[str] = set()
        self.store: dict[str, Any] | None = None
        self.worker: Generator[None, None, None] | None = None
        #: Between the intent and the end of its call only the call itself takes time: its budget bounds it.
        self.sending = False
        self.luck: Luck

    @rule(luck=lucks, steps=st.integers(min_value=1, max_value=8))
    def work(self, luck: Luck, steps: int) -> None:
        self.worker = self.worker or self.attempt()
        self.luck = luck
        for _ in range(steps):
            if next(self.worker, "over") == "over":
                self.worker = None
                return
            self.at_most_one_paid_run_is_alive()
            self.every_run_has_an_owner_or_a_named_fate()

    @rule(cleared=st.booleans())
    def the_worker_dies(self, *, cleared: bool) -> None:
        self.worker = None
        self.sending = False
        self.generation += cleared

    @precondition(lambda self: not self.sending)
    @rule(seconds=st.sampled_from([1.0, 30.0, 120.0, 86400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(end=st.sampled_from(ENDS), cancelling=st.booleans())
    def server_works(self, end: RunStatus, *, cancelling: bool) -> None:
        for run in self.runs:
            if run.status is RunStatus.QUEUED:
                run.status = RunStatus.CANCELLING if cancelling else RunStatus.IN_PROGRESS
            elif run.status.is_active:
                run.status = end

    @invariant()
    def at_most_one_paid_run_is_alive(self) -> None:
        assert len(self.alive()) <= 1

    @invariant()
    def every_run_has_an_owner_or_a_named_fate(self) -> None:
        record = Record.from_json(self.store)
        for run in self.alive():
            assert record is not None
            assert run.token == record.token or (record.ref is not None and record.ref.id == run.id)

    def alive(self) -> list[ToyRun]:
        return [run for run in self.runs if run.status.is_active and run.token not in self.abandoned]

    def decide(self, record: Record | None, observed: Observation | None) -> Step:
        how: OnLostCreate = "resubmit" if self.resubmits else "fail"
        return decide(record, generation=self.generation, observed=observed, now=self.now, on_lost_create=how)

    def attempt(self) -> Generator[None, None, None]:  # noqa: C901 # one case a move
        record = Record.from_json(self.store)
        observed: Observation | None = None
        while True:
            move = self.decide(record, observed)
            yield
            match move:
                case PollRun(ref=ref):
                    if record is not None and record.ref is None:
                        record = self.remember(record, ref)
                        yield
                    observed = self.poll(ref)
                case SearchRun(token=token, until=until):
                    observed = yield from self.search(token, until)
                case Adopt(ref=ref):
                    assert record is not None
                    assert record.ref == ref
                    yield from self.wait(record, ref)
                    return
                case FinishFrom(ref=ref):
                    assert self.run_of(ref).status is RunStatus.COMPLETED
                    return
                case GiveUp(error=error):
                    assert all(run.id in str(error) or run.token in str(error) for run in self.alive())
                    return
                case Create() | Replace():
                    if isinstance(move, Replace):
                        yield from self.end(move)
                    elif record is not None:
                        self.tell_the_fate_of(record, move.because or "")
                    record = yield from self.create()
                    observed = None
                    if record.ref is not None:
                        yield from self.wait(record, record.ref)
                        return

    def tell_the_fate_of(self, record: Record, because: str) -> None:
        assert self.resubmits or "never answered" not in because
        if "never answered" in because or "cannot be looked up" in because:
            self.abandoned.add(record.token)

    def create(self) -> Generator[None, None, Record]:
        record = Record(
            generation=self.generation, token=f"token{len(self.runs)}/{self.now}", intent_at=self.now
        )
        self.store = record.to_json()
        self.sending = True
        yield
        self.now += self.luck.seconds
        answered = self.luck.answered
        if self.luck.accepted:
            run = ToyRun(id=f"run{len(self.runs)}", token=record.token, accepted_at=self.now)
            self.runs.append(run)
        yield
        self.sending = False
        if answered and self.runs and self.runs[-1].token == record.token:
            record = self.remember(record, self.ref(self.runs[-1]))
        else:
            record = replace(record, intent_at=self.now)
            self.store = record.to_json()
        yield
        return record

    def remember(self, record: Record, ref: RunRef) -> Record:
        known = record.with_run(ref, created_at=self.now, deadline=None)
        self.store = known.to_json()
        return known

    def search(self, token: str, until: float) -> Generator[None, None, Observation]:
        while True:
            kind = self.luck.failure
            if kind is not None and kind is not FailureKind.NOT_FOUND:
                return RequestFailure(kind=kind, text="no luck")
            listed = [
                run
                for run in self.runs
                if self.has_list and run.token == token and run.accepted_at + HIDDEN <= self.now
            ]
            if listed or self.now >= until:
                ref = self.ref(listed[-1]) if listed else None
                return SearchResult(ref=ref, conclusive=self.has_list)
            self.now += 15
            yield

    def wait(self, record: Record, ref: RunRef) -> Generator[None, None, None]:
        run = self.run_of(ref)
        while run.status.is_active:
            yield
            if self.luck.gives_up_waiting:
                if self.luck.marks_first:
                    self.mark(record)
                    yield
                self.cancel(run)
                yield
                self.mark(record)
                return
        if run.status is RunStatus.COMPLETED and self.luck.refuses_answer:
            self.store = replace(record, refused=True).to_json()

    def mark(self, record: Record) -> None:
        self.store = replace(record, ended_by_us=True).to_json()

    def end(self, move: Replace) -> Generator[None, None, None]:
        run = self.run_of(move.ref)
        while run.status.is_active:
            if move.cancel:
                self.cancel(run)
            yield

    def cancel(self, run: ToyRun) -> None:
        if run.status.is_active:
            run.status = RunStatus.CANCELLING

    def poll(self, ref: RunRef) -> PollResult | RequestFailure:
        run = self.run_of(ref)
        kind = self.luck.failure
        # A server that says 404 after the first minute tells the truth: the run is gone.
        if kind is FailureKind.NOT_FOUND and self.now > run.accepted_at + HIDDEN:
            run.status = RunStatus.EXPIRED
        if kind is not None:
            return RequestFailure(kind=kind, text="no luck")
        return PollResult(status=run.status, raw_status=run.status.value)

    def run_of(self, ref: RunRef) -> ToyRun:
        return next(run for run in self.runs if run.id == ref.id)

    def ref(self, run: ToyRun) -> RunRef:
        return RunRef(kind=RunKind.THREAD_RUN, id=run.id, thread_id="thread_1", conn_id="ai")


Ownership.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
test_whatever_happens_one_run_is_alive_and_it_has_an_owner = Ownership.TestCase
