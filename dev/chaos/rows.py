# SPDX-License-Identifier: Apache-2.0
"""The table of what is broken: one row a fault, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dev.chaos import batch_items, bulk_items, cluster_faults, task_faults
from dev.chaos.batch_rows import BATCH_ROWS
from dev.chaos.batch_rows import KIND as BATCH
from dev.chaos.bulk_rows import BULK_ROWS
from dev.chaos.bulk_rows import KIND as BULK
from dev.chaos.ceiling_rows import CAPPED, kill_around_a_create, stays_below
from dev.chaos.cluster import Cluster
from dev.chaos.crowd_rows import CROWD_ROW
from dev.chaos.file_rows import WRITING, all_is_whole, kill_while_writing, name_output
from dev.chaos.hostile_rows import HOSTILE_ROW
from dev.chaos.tool_rows import CALLS, TOOL_ROWS, was_paid_for_once
from dev.chaos.trial import LONG, WINDOW, Trial

BOTH = ("deferred", "worker")
SUCCESS = frozenset({"success"})
FAILED = frozenset({"failed"})
SHORT = 14.0
"""Seconds of a run that is to be waited for to its end."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    One fault, tried several times.

    :param prepare: what is done for each trial before it is started.
    :param fault: what is done to each trial, in a thread of its own.
    :param cluster_fault: what is done once to something that all trials share, when they are under way.
    :param early_cluster_fault: the same, before they are started.
    :param results: how a task may end.
    :param runs: how many runs a trial creates; None if that depends on the moment.
    :param check: what else must hold at the end: it returns what is wrong.
    :param trial: the options of ``Trial``.
    :param at_most: trials for each kind of run and way to wait, where they take long.
    :param at_once: so many trials wait together, however many of each sort were asked for.
    :param in_short: whether it belongs to ``make chaos-short``.
    :param roles: what is done to the trials besides, in turn: nothing, ``clear`` or ``mark``.
    """

    name: str
    prepare: Callable[[Trial], None] = lambda _: None
    fault: Callable[[Trial], None] = lambda _: None
    cluster_fault: Callable[[Cluster, list[Trial]], None] | None = None
    early_cluster_fault: Callable[[Cluster, list[Trial]], None] | None = None
    results: frozenset[str] = SUCCESS
    runs: int | None = 1
    check: Callable[[Trial], str | None] = lambda _: None
    waits: Sequence[str] = BOTH
    kinds: Sequence[str] = ("response", "thread_run")
    trial: dict[str, Any] = field(default_factory=lambda: {"seconds": SHORT})
    at_most: int = 100
    at_once: int = 0
    in_short: bool = False
    roles: Sequence[str] = ("",)

    def trial_options(self, number: int, waits: str) -> dict[str, Any]:
        """
        Return the options of one of its trials.

        A mark needs somebody to hear of it, which a worker that is being broken cannot: there it is a clear.
        The first run of a task that is cleared or marked outlasts everything, so that one that is left shows;
        the run after a clear is short, since nothing happens to it.
        """
        role = self.roles[number % len(self.roles)]
        if not role:
            return self.trial
        role = "clear" if waits == "worker" else role
        return {**self.trial, "role": role, "seconds": SHORT, "script": {"in_progress": LONG}}

    def runs_of(self, trial: Trial) -> int | None:
        """Return how many runs a trial creates; None if that depends on the moment, as a user's does."""
        return None if trial.role else self.runs

    def result_of(self, trial: Trial) -> frozenset[str]:
        """Return how a trial may end: as the row says, unless a user marks it."""
        return FAILED if trial.role == "mark" else self.results

    def number(self, wanted: int) -> int:
        """Return how many trials there are for each kind of run and way to wait, if that many are wanted."""
        sorts = len(self.kinds) * len(self.waits)
        return -(-self.at_once // sorts) if self.at_once else min(wanted, self.at_most)

    @property
    def shares_fault(self) -> bool:
        """Whether its trials share what is broken."""
        return self.cluster_fault is not None or self.early_cluster_fault is not None


LIMIT = 20.0
BUSY_LIMIT = 60.0
"""Long enough to find all trials waiting, and then all workers occupied."""
TIMES = {"window": LIMIT, "seconds": LONG}

ROWS = [
    Row(name="kill -9 of the task before or during create", fault=task_faults.kill_early, in_short=True),
    Row(
        name="kill -9 while the create is answered slowly",
        early_cluster_fault=cluster_faults.slow_creates,
        fault=task_faults.kill_during_create,
        results=SUCCESS | FAILED,
        check=task_faults.was_found_if_it_can_be,
    ),
    Row(name="kill -9 right after create", fault=task_faults.kill_after_create, in_short=True),
    Row(name="kill -9 while waiting in the worker", fault=task_faults.kill_waiting, waits=("worker",)),
    Row(name="kill -9 after resume", fault=task_faults.kill_resumed, waits=("deferred",)),
    Row(
        name="SIGTERM of the supervisor, retry left",
        fault=task_faults.evict,
        waits=("worker",),
        in_short=True,
    ),
    Row(
        name="worker frozen until replaced, comes back",
        fault=task_faults.freeze,
        waits=("worker",),
        trial={"seconds": 75.0},
        at_most=1,  # a frozen worker keeps its slot until it comes back
    ),
    *(
        Row(
            name=f"mark {state} while {'deferred' if waits == 'deferred' else 'running'}",
            fault=task_faults.mark(state),
            waits=(waits,),
            results=frozenset({state}),
            trial={},
            in_short=state == "failed",
        )
        for state in ("failed", "success")
        for waits in BOTH
    ),
    *(
        Row(
            name=f"clear while {'deferred' if waits == 'deferred' else 'running'}",
            fault=task_faults.clear,
            waits=(waits,),
            results=FAILED,
            runs=2,
            trial={},
            in_short=True,
        )
        for waits in BOTH
    ),
    Row(
        name="Dag run failed and deleted", fault=task_faults.delete, results=frozenset({"deleted"}), trial={}
    ),
    Row(
        name="dagrun_timeout",
        fault=task_faults.outlive_dag_run,
        results=frozenset({"skipped", "failed"}),
        trial={"variant": "dagrun"},
        at_most=2,
    ),
    Row(
        name="completion_window over",
        fault=task_faults.limit(LIMIT),
        check=task_faults.ended_in_time(LIMIT),
        results=FAILED,
        trial={**TIMES, "variant": "once"},
        in_short=True,
    ),
    Row(
        name="execution_timeout over",
        fault=task_faults.limit(LIMIT),
        check=task_faults.ended_in_time(LIMIT),
        results=FAILED,
        trial={"variant": "timeout"},
    ),
    Row(
        name="the run fails at the server",
        runs=2,
        trial={"seconds": 3.0, "script": {"ends": "failed"}},
    ),
    Row(
        name="the run is cancelled by someone else",
        fault=task_faults.cancel_elsewhere,
        results=FAILED,
        check=task_faults.was_not_repeated,
        trial={},
    ),
    Row(
        name="the trigger dies, the run completes meanwhile",
        waits=("deferred",),
        trial={"variant": "dies", "seconds": 2.0},
    ),
    Row(
        name="the trigger dies twice, no retry left",
        fault=task_faults.die,
        waits=("deferred",),
        results=FAILED,
        trial={"variant": "dies"},
    ),
    *(
        Row(
            name=f"busy thread, on_active_run={policy!r}",
            prepare=cluster_faults.occupy_thread,
            check=cluster_faults.foreign_run_is_wrong,
            kinds=("thread_run",),
            results=FAILED if policy == "fail" else SUCCESS,
            runs=0 if policy == "fail" else 1,
            trial={"seconds": 5.0, "variant": f"busy_{policy}"},
        )
        for policy in ("fail", "wait", "cancel")
    ),
    Row(
        name="create lost, 500, 502, 503, 504, 429, reset",
        early_cluster_fault=cluster_faults.bad_creates,
        results=SUCCESS | FAILED,
        runs=None,
        check=task_faults.was_found_if_it_can_be,
    ),
    Row(
        name="create lost, metadata not echoed",
        early_cluster_fault=cluster_faults.lost_creates,
        results=FAILED,
        kinds=("thread_run",),
        trial={"seconds": SHORT, "script": {"echo_metadata": False}},
    ),
    *(
        Row(
            name=f"{limit} over, all workers busy",
            fault=task_faults.limit(BUSY_LIMIT),
            cluster_fault=cluster_faults.occupy_workers,
            check=task_faults.ended_in_time(BUSY_LIMIT),
            results=FAILED,
            trial={"variant": variant, "window": window},
            at_most=1,
        )
        for limit, variant, window in (
            ("completion_window", "once", BUSY_LIMIT),
            ("execution_timeout", "busy_timeout", WINDOW),
        )
    ),
    Row(
        name="kill -9 of a triggerer",
        cluster_fault=cluster_faults.kill_triggerer,
        waits=("deferred",),
        trial={"seconds": 45.0},
        in_short=True,
    ),
    Row(
        name="rolling restart of the triggerers",
        cluster_fault=cluster_faults.restart_triggerers,
        waits=("deferred",),
        trial={"seconds": 60.0},
    ),
    Row(
        name="SIGSTOP of one of two triggerers, SIGCONT",
        cluster_fault=cluster_faults.freeze_triggerer,
        waits=("deferred",),
        trial={"seconds": 60.0},
    ),
    Row(
        name="kill -9 of the scheduler and all workers",
        cluster_fault=cluster_faults.kill_scheduler,
        trial={"seconds": 45.0},
    ),
    Row(
        name="restart of the api-server",
        cluster_fault=cluster_faults.restart_api_server,
        # An attempt that cannot start while it is away is a try, too.
        trial={"seconds": 45.0, "variant": "away"},
    ),
    Row(
        name="api-server away until the supervisors give up",
        cluster_fault=cluster_faults.leave_without_api_server,
        waits=("worker",),
        trial={"seconds": 130.0, "variant": "away"},
        at_most=2,
    ),
    Row(
        name="api-server away, no retry left",
        prepare=task_faults.may_be_cancelled,
        cluster_fault=cluster_faults.leave_without_api_server,
        waits=("worker",),
        results=FAILED,
        trial={"variant": "once"},
        at_most=1,
    ),
    Row(**CROWD_ROW),
    Row(
        name="simulator frozen for a minute",
        cluster_fault=cluster_faults.freeze_simulator,
        trial={"seconds": 90.0},
    ),
    Row(
        name="30 % of polls: 429, 5xx, reset, cut",
        early_cluster_fault=cluster_faults.bad_polls,
        trial={"seconds": 25.0},
    ),
    Row(**HOSTILE_ROW),
    Row(
        name="kill -9 while files are written",
        prepare=name_output,
        fault=kill_while_writing,
        check=all_is_whole,
        trial=WRITING,
        at_most=3,
    ),
    Row(
        name="kill -9 around a create near the ceiling",
        fault=kill_around_a_create,
        results=FAILED,
        runs=None,
        check=stays_below,
        trial=CAPPED,
    ),
    *(Row(runs=None, check=was_paid_for_once, trial=CALLS, **row) for row in TOOL_ROWS),
    *(
        Row(runs=None, kinds=(kind,), check=check, at_most=1, **row)
        for kind, check, rows in (
            (BULK, bulk_items.results_are_wrong, BULK_ROWS),
            (BATCH, batch_items.results_are_wrong, BATCH_ROWS),
        )
        for row in rows
    ),
]
