# SPDX-License-Identifier: Apache-2.0
"""
Drives the production driver of ownership, ``RunAcquirer``, against a toy server and a toy store.

Attempts, lost creates, a crash right before or right after each call to the outside, clears, retries, long
pauses, records that are damaged or rewritten by an older version, a store that fails or refuses, clocks that
differ, a Dag or a connection that is edited, runs that cannot be ended or wait for calls: whatever happens,
at most one paid run is alive, each has an owner or a named fate, no success is paid for again, no more
creates are lost than the user allows, and none is sent into a conversation that waits for the answer to a
call. What the task says to have spent is what its runs tell, each once, and no run is missing.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_openai_runs.attempts.acquire import RunAcquirer
from airflow_provider_openai_runs.attempts.create import Acquired, RunCreator
from airflow_provider_openai_runs.attempts.ledger import Ledger
from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.acquisition import OwnershipPolicy
from airflow_provider_openai_runs.runs.ceiling import Ceiling, prompt_bound
from airflow_provider_openai_runs.runs.errors import LostCreateError, OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind
from airflow_provider_openai_runs.runs.record import Record, token_prefix
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.spending import Spending
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from tests.attempts.toy_api import HERE, CrashError, Luck, ToyApi, ToyRun, ToyStore, World, as_run
from tests.support.airflow_versions import needs_store

pytestmark = needs_store

ENDS = [RunStatus.COMPLETED, RunStatus.INCOMPLETE, *(status for status in RunStatus if status.is_terminal)]
#: The server's slowest answer to a create takes nearly all of its budget.
SLOW, SLOWEST = 20.0, 590.0
LOST = FailureKind.OUTCOME_UNKNOWN
#: A reply that is too large is that of a run that has ended, and no create's.
FAILURES = [kind for kind in FailureKind if kind is not FailureKind.TOO_LARGE]
REQUEST = RunRequest(
    kind=RunKind.THREAD_RUN, body={"model": "m", "max_completion_tokens": 100}, thread_id="thread_1"
)
NO_CEILING = Ceiling()
IDENTITY = ("a_dag", "manual__1", "ask", -1)

WRITES = ["written", "fails", "answer lost", "refused"]

lucks = st.builds(
    Luck,
    accepted=st.sampled_from([True, True, True, False]),
    creates=st.lists(st.just(LOST), max_size=4)
    | st.lists(st.sampled_from([LOST, FailureKind.REJECTED, None]), max_size=3)
    | st.lists(st.sampled_from([None, *FAILURES]), max_size=3),
    seconds=st.sampled_from([0.0, 0.0, SLOW, SLOWEST]),
    fails=st.sampled_from([*[None] * 8, *FAILURES]),
    crash_at=st.none() | st.none() | st.integers(min_value=1, max_value=12),
    crash_after=st.booleans(),
    writes=st.just([]) | st.lists(st.sampled_from(WRITES), max_size=4),
    skew=st.sampled_from([0.0, 0.0, -10.0, 10.0, -900.0, 900.0]),
    address=st.sampled_from([*[HERE] * 5, "https://there.example/v1"]),
)
policies = st.fixed_dictionaries(
    {
        "resubmits": st.sampled_from([0, 0, 1, 2]),
        "on_active_run": st.sampled_from(["fail", "wait", "cancel"]),
        "on_incomplete": st.sampled_from(["fail", "accept"]),
        "on_unendable": st.sampled_from(["give_up", "fail"]),
        "window": st.sampled_from([3600.0, 3600.0, 3600.0, None]),
    }
)


class Warnings(logging.Handler):
    """Keeps what the log says: a fate may be named there."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def acquirer(
    world: World, *, generation: int, log: Any, ceiling: Ceiling = NO_CEILING, **policy: Any
) -> RunAcquirer:
    """Put the production driver together as an attempt does, with the toys at its edges."""
    api: Any = ToyApi(world)
    store = RecordStore(ToyStore(world), log=log)

    def clock() -> float:
        return world.now + world.luck.skew

    creator = RunCreator(
        api=api,
        request=REQUEST,
        store=store,
        ledger=Ledger(store=store, generation=generation, request=REQUEST, log=log, ceiling=ceiling),
        identity=IDENTITY,
        generation=generation,
        window=policy.get("window", 3600),
        timeouts={"create": 600.0, "read": 300.0, "delete": 300.0},
        clock=clock,
    )
    found = OwnershipPolicy(
        generation=generation,
        window=3600,
        create_budget=600.0,
        cancel_budget=300.0,
        token_prefix=token_prefix((*IDENTITY, generation)),
    )
    return RunAcquirer(
        api=api,
        store=store,
        creator=creator,
        policy=replace(found, **policy),
        log=log,
        clock=clock,
    )


class Ownership(RuleBasedStateMachine):
    ceiling = NO_CEILING

    def tokens_of(self, number: int) -> int:
        """Let a sum of tokens say by its digits which runs are in it."""
        return int(4**number)

    @initialize(
        has_list=st.booleans(),
        one_run_a_thread=st.booleans(),
        policy=policies,
    )
    def begin(self, *, has_list: bool, one_run_a_thread: bool, policy: dict[str, Any]) -> None:
        self.world = World(
            has_list=has_list,
            one_run_a_thread=one_run_a_thread,
            check=self.check,
            check_create=self.check_create,
            tokens_of=self.tokens_of,
        )
        self.policy = policy
        #: As many creates of this generation may be lost, and whether the record says all of them.
        self.may_be_lost, self.is_damaged = 1 + policy["resubmits"], False
        self.generation, self.prefix = 0, token_prefix((*IDENTITY, 0))
        self.tracked: ToyRun | None = None
        self.log = logging.Logger("ownership")  # noqa: LOG001 # one for each machine, without handlers of others
        self.warnings = Warnings()
        self.log.addHandler(self.warnings)

    @rule(luck=lucks, cleared=st.sampled_from([False, False, False, True]))
    def attempt(self, luck: Luck, *, cleared: bool) -> None:
        """One attempt acquires its run, until it has one, gives up, or dies."""
        self.generation += cleared
        if cleared:
            self.may_be_lost = 1 + self.policy["resubmits"]
        self.prefix = token_prefix((*IDENTITY, self.generation))
        self.world.luck, self.world.calls, self.tracked = luck, 0, None
        driver = acquirer(
            self.world, generation=self.generation, log=self.log, ceiling=self.ceiling, **self.policy
        )
        try:
            found = driver.acquire()
        except (CrashError, ConnectionError):
            return
        except OpenAIRunError as error:
            self.name_in(str(error))
            self.check()
            return
        if isinstance(found, Acquired):
            self.tracked = next(run for run in self.world.runs if run.id == found.run.ref.id)
            record = self.world.record()
            assert record is not None
            is_on_record = record.ref == found.run.ref
            self.tracked.is_known |= is_on_record
            assert found.finished or is_on_record or luck.skipped_writes
            assert not found.finished or self.is_success(self.tracked) or self.policy["window"] is None

    @precondition(lambda self: self.tracked is not None)
    @rule(marks=st.sampled_from(["first", "after", "never"]), completes=st.booleans(), refuses=st.booleans())
    def the_attempt_gives_its_run_up(self, *, marks: str, completes: bool, refuses: bool) -> None:
        """The wait is over: cancel and note it, in either order, or refuse the answer."""
        run, record = self.tracked, self.world.record()
        if run is None or record is None or self.policy["window"] is None:
            return
        self.tracked = None
        if record.run is None:  # its write had failed
            record, run.is_known = record.with_run(TrackedRun(ref=ToyApi(self.world).ref(run))), True
        if run.called:
            self.nobody_answers(run, record, marks=marks)
            return
        if completes and run.status.is_active:
            run.status = RunStatus.COMPLETED
        if self.is_success(run):
            run.is_refused = refuses
            self.note(record, refused=refuses, ended=True, ended_by_us=False)
        elif marks == "first":
            self.note(record, ended_by_us=True)
        elif run.status.is_active:
            run.status = RunStatus.CANCELLED if marks == "after" else RunStatus.CANCELLING
            if marks == "after":
                self.note(record, ended_by_us=True, ended=True)

    def nobody_answers(self, run: ToyRun, record: Record, *, marks: str) -> None:
        """Refuse the run, answer its calls with an error, note that: the worker may die in between."""
        run.is_refused = True
        self.note(record, refused=True)
        run.has_calls = marks == "never"
        if marks == "after":
            self.note(record, refused=True, ended=True)

    @precondition(lambda self: self.world.runs)
    @rule(policy=policies)
    def the_dag_is_edited(self, policy: dict[str, Any]) -> None:
        self.policy = policy
        self.may_be_lost = max(self.may_be_lost, 1 + policy["resubmits"])

    @precondition(lambda self: self.world.stored)
    @rule()
    def an_older_version_rewrites_the_record(self) -> None:
        """It keeps what it knows; ARCHITECTURE says what follows from the rest."""
        for name in ("lost", "failure", "ended", "attempt", "kind", "conn_id"):
            self.may_be_lost += len(self.world.stored["openai_run"].pop(name, ())) if name == "lost" else 0
            self.world.stored["openai_run"].pop(name, None)

    @precondition(lambda self: self.world.alive())
    @rule(
        lacks=st.sets(
            st.sampled_from(["cycle", "token", "ref", "intent_at", "created_at"]), min_size=1, max_size=2
        ),
        garbage=st.sampled_from([None, "?", [], {"kind": "thread_run"}]),
    )
    def the_record_is_damaged(self, lacks: set[str], garbage: Any) -> None:
        """Somebody has edited it, or another version has written it."""
        stored = self.world.stored.get("openai_run")
        self.is_damaged = True
        if stored is not None:
            for name in lacks & set(stored):
                stored[name] = garbage
                if garbage is None or (name, garbage) == ("token", "?"):  # which could be one
                    del stored[name]
                    if name == "ref":  # nothing says that there was one: it is a lost create
                        for run in self.of_this_generation():
                            run.is_known &= run.token != stored.get("token")
            self.tracked = None

    @rule(seconds=st.sampled_from([1.0, 30.0, 120.0, 86400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @precondition(lambda self: self.world.alive())
    @rule(end=st.sampled_from(ENDS), way=st.sampled_from(["quickly", "slowly", "cancelling"]))
    def server_works(self, end: RunStatus, *, way: str) -> None:
        for run in self.world.runs:
            if run.status is RunStatus.QUEUED and way != "quickly":
                run.status = RunStatus.CANCELLING if way == "cancelling" else RunStatus.IN_PROGRESS
            elif run.status.is_active:
                run.status = end

    @precondition(lambda self: self.tracked is not None and self.tracked.status.is_active)
    @rule()
    def the_model_calls(self) -> None:
        """As a response does, which ends with that."""
        for run in self.world.runs:
            if run.status.is_active:
                run.status, run.called, run.has_calls = RunStatus.COMPLETED, True, True

    @invariant()
    def check(self) -> None:
        self.name_in(*self.warnings.lines)
        self.warnings.lines.clear()
        alive = self.world.alive()
        assert len(alive) <= 1, "two paid runs are alive"
        record = self.world.record()
        for run in alive:
            assert record is not None, f"{run.id} has no owner, and nobody has named it"
            has_owner = run.token == record.token or (record.ref is not None and record.ref.id == run.id)
            assert has_owner or record.unreadable
        self.check_account()
        lost = [run for run in self.of_this_generation() if not run.is_known]
        assert len(lost) <= self.may_be_lost, "more creates were lost than the user allows"

    def check_account(self) -> None:
        """Each run counts once, by the digit of its tokens, or is known to be missing."""
        totals = self.spending().totals()
        counted = totals.usage.total_tokens if totals.usage else 0
        counted_ones = [run for run in self.world.runs if counted // run.tokens % 4]
        assert counted == sum(run.tokens for run in counted_ones if run.status.is_terminal)
        assert len(self.world.runs) <= len(counted_ones) + totals.silent

    def spending(self) -> Spending:
        stored = self.world.stored.get("openai_run") or {}
        return Spending.from_json(stored.get("spending"))

    def check_create(self, token: str) -> None:
        """No run of this generation has done the work already."""
        assert token.startswith(self.prefix)
        done = [run for run in self.of_this_generation() if self.is_success(run)]
        assert not [run for run in done if run.is_known and not run.is_refused], "a success is paid for again"
        known = [run for run in self.world.runs if run.is_known and not run.is_named]
        waits = [run for run in known if run.has_calls]
        assert self.is_damaged or not waits, "the server refuses this create"

    def of_this_generation(self) -> list[ToyRun]:
        return [run for run in self.world.runs if run.token.startswith(self.prefix)]

    def is_success(self, run: ToyRun) -> bool:
        accepts = self.policy["on_incomplete"] == "accept"
        completed = run.status is RunStatus.COMPLETED and not run.called
        return completed or (accepts and run.status is RunStatus.INCOMPLETE)

    def note(self, record: Record, **changes: Any) -> None:
        """Write the record, as the end of an attempt does; one that cannot be read stays as it is."""
        if not record.unreadable:
            spending = self.spending()
            if record.ref is not None and changes.get("ended"):
                run = next(run for run in self.world.runs if run.id == record.ref.id)
                spending = spending.settled(as_run(run, record.ref))
            stored = replace(record, **changes).to_json()
            self.world.stored["openai_run"] = {**stored, "spending": spending.to_json()}

    def name_in(self, *texts: str) -> None:
        """Whoever reads that a run may go on can do something about it; the package no longer has to."""
        for text in texts:
            for run in self.world.runs:
                named = run.token in text or f"{run.id} " in text or "cannot be read" in text
                run.is_named |= named and "may be running and billing" in text


class Ceilings(Ownership):
    """The same with a ceiling of two runs, each of which uses all that it may, or a third now and then."""

    reserved = prompt_bound(REQUEST.body) + 100
    ceiling = Ceiling(tokens=2 * reserved)

    def tokens_of(self, number: int) -> int:
        return self.reserved // (1, 1, 3)[number % 3]

    def check_account(self) -> None:
        """Whatever is lost, silent, cancelled or never read: what this generation may be billed is below."""
        assert self.ceiling.tokens is not None
        assert sum(run.tokens for run in self.of_this_generation()) <= self.ceiling.tokens


Ceilings.TestCase.settings = settings(
    max_examples=settings().max_examples, stateful_step_count=30, deadline=None
)
test_no_generation_is_billed_more_than_its_ceiling = Ceilings.TestCase
Ownership.TestCase.settings = settings(
    max_examples=2 * settings().max_examples, stateful_step_count=30, deadline=None
)
test_whatever_happens_one_run_is_alive_and_it_has_an_owner = Ownership.TestCase


def test_a_list_that_another_server_gives_proves_nothing_about_a_create_without_an_answer() -> None:
    world = World()
    log: Any = logging.Logger("moved")  # noqa: LOG001 # of its own
    lines = Warnings()
    log.addHandler(lines)
    store = RecordStore(ToyStore(world), log=log)
    record = Record(
        generation=0, token=f"{token_prefix((*IDENTITY, 0))}1", intent_at=world.now, account=Account.of(HERE)
    )
    store.save(record)
    world.now += 3600
    world.luck = Luck(address="https://there.example/v1")
    with pytest.raises(LostCreateError, match="may be running and billing"):
        acquirer(world, generation=0, log=log).acquire()
    assert world.runs == []
    assert any(f"led to {HERE}" in line for line in lines.lines)

    world.luck = Luck()
    assert acquirer(world, generation=0, log=log).acquire()
    assert len(world.runs) == 1, "the server that was asked to create says that it did not"
