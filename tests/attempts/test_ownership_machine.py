# SPDX-License-Identifier: Apache-2.0
"""
Drives the production driver of ownership, ``RunAcquirer``, against a toy server and a toy store.

Attempts, lost creates, a crash right before or right after each call to the outside, clears, retries, long
pauses: whatever happens, at most one paid run is alive, and each has an owner or a named fate.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from airflow_provider_openai_runs.attempts.acquire import RunAcquirer
from airflow_provider_openai_runs.attempts.create import Acquired, RunCreator
from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.runs.acquisition import OwnershipPolicy
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind
from airflow_provider_openai_runs.runs.record import token_prefix
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from tests.attempts.toy_api import CrashError, Luck, ToyApi, ToyRun, ToyStore, World

ENDS = [status for status in RunStatus if status.is_terminal]
#: The server's slowest answer to a create takes nearly all of its budget.
SLOW, SLOWEST = 20.0, 590.0
IDENTITY = ("a_dag", "manual__1", "ask", -1)

lucks = st.builds(
    Luck,
    accepted=st.sampled_from([True, True, True, False]),
    create_fails=st.sampled_from([None, None, None, *FailureKind]),
    seconds=st.sampled_from([0.0, SLOW, SLOWEST]),
    fails=st.sampled_from([None, None, None, *FailureKind]),
    crash_at=st.none() | st.integers(min_value=1, max_value=12),
    crash_after=st.booleans(),
)


class Warnings(logging.Handler):
    """Keeps what the log says: a fate may be named there."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def acquirer(world: World, *, generation: int, log: Any, **policy: Any) -> RunAcquirer:
    """Put the production driver together as an attempt does, with the toys at its edges."""
    api: Any = ToyApi(world)
    store = RecordStore(ToyStore(world), log=log)

    def clock() -> float:
        return world.now

    creator = RunCreator(
        api=api,
        request=RunRequest(kind=RunKind.THREAD_RUN, body={"model": "m"}, thread_id="thread_1"),
        store=store,
        identity=IDENTITY,
        generation=generation,
        window=3600,
        timeouts={"create": 600.0, "read": 300.0, "delete": 300.0},
        clock=clock,
    )
    found = OwnershipPolicy(generation=generation, window=3600, create_budget=600.0, cancel_budget=300.0)
    return RunAcquirer(
        api=api,
        store=store,
        creator=creator,
        policy=replace(found, **policy),
        token_prefix=token_prefix((*IDENTITY, generation)),
        log=log,
        clock=clock,
    )


class Ownership(RuleBasedStateMachine):
    @initialize(
        has_list=st.booleans(),
        resubmits=st.booleans(),
        one_run_a_thread=st.booleans(),
        on_active_run=st.sampled_from(["fail", "wait", "cancel"]),
    )
    def begin(self, *, has_list: bool, resubmits: bool, one_run_a_thread: bool, on_active_run: str) -> None:
        self.world = World(has_list=has_list, one_run_a_thread=one_run_a_thread, check=self.check)
        self.policy = {
            "on_lost_create": "resubmit" if resubmits else "fail",
            "on_active_run": on_active_run,
        }
        self.generation = 0
        self.tracked: ToyRun | None = None
        self.log = logging.Logger("ownership")  # noqa: LOG001 # one for each machine, without handlers of others
        self.warnings = Warnings()
        self.log.addHandler(self.warnings)

    @rule(luck=lucks, cleared=st.booleans())
    def attempt(self, luck: Luck, *, cleared: bool) -> None:
        """One attempt acquires its run, until it has one, gives up, or dies."""
        self.generation += cleared
        self.world.luck, self.world.calls, self.tracked = luck, 0, None
        driver = acquirer(self.world, generation=self.generation, log=self.log, **self.policy)
        try:
            found = driver.acquire()
        except CrashError:
            return
        except OpenAIRunError as error:
            self.name_in(str(error))
            self.check()
            return
        if isinstance(found, Acquired):
            self.tracked = next(run for run in self.world.runs if run.id == found.run.ref.id)
            assert not found.finished or self.tracked.status is RunStatus.COMPLETED
            record = self.world.record()
            assert record is not None
            assert found.finished or record.ref == found.run.ref

    @rule(marks_first=st.booleans(), completes=st.booleans(), refuses=st.booleans())
    def the_attempt_gives_its_run_up(self, *, marks_first: bool, completes: bool, refuses: bool) -> None:
        """The wait is over: cancel and note it, in either order, or refuse the answer."""
        run, record = self.tracked, self.world.record()
        if run is None or record is None:
            return
        self.tracked = None
        if completes and run.status.is_active:
            run.status = RunStatus.COMPLETED
        if run.status is RunStatus.COMPLETED:
            self.world.stored["openai_run"] = replace(record, refused=refuses).to_json()
        elif marks_first:
            self.world.stored["openai_run"] = replace(record, ended_by_us=True).to_json()
        elif run.status.is_active:
            run.status = RunStatus.CANCELLING

    @rule(seconds=st.sampled_from([1.0, 30.0, 120.0, 86400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(end=st.sampled_from(ENDS), cancelling=st.booleans())
    def server_works(self, end: RunStatus, *, cancelling: bool) -> None:
        for run in self.world.runs:
            if run.status is RunStatus.QUEUED:
                run.status = RunStatus.CANCELLING if cancelling else RunStatus.IN_PROGRESS
            elif run.status.is_active:
                run.status = end

    @invariant()
    def check(self) -> None:
        self.name_in(*self.warnings.lines)
        self.warnings.lines.clear()
        alive = self.world.alive()
        assert len(alive) <= 1, "two paid runs are alive"
        record = self.world.record()
        for run in alive:
            assert record is not None, f"{run.id} has no owner, and nobody has named it"
            assert run.token == record.token or (record.ref is not None and record.ref.id == run.id)

    def name_in(self, *texts: str) -> None:
        """Whoever reads that a run may go on can do something about it; the package no longer has to."""
        for run in self.world.runs:
            named = any("may be running and billing" in text and run.token in text for text in texts)
            resubmitted = any("on_lost_create='resubmit'" in text for text in texts)
            run.is_named |= named or (
                resubmitted and self.tracked is not run and self.policy["on_lost_create"] == "resubmit"
            )


Ownership.TestCase.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=30)
test_whatever_happens_one_run_is_alive_and_it_has_an_owner = Ownership.TestCase
