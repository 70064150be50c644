# SPDX-License-Identifier: Apache-2.0
"""The table of what is broken: one row a fault, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dev.chaos import acts, faults
from dev.chaos.play import LONG, WINDOW, Play
from dev.chaos.tool_rows import CALLS, TOOL_ROWS, was_paid_for_once
from dev.chaos.world import World

BOTH = ("deferred", "worker")
SUCCESS = frozenset({"success"})
FAILED = frozenset({"failed"})
SHORT = 14.0
"""Seconds of a run that is to be waited for to its end."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    One fault, played several times.

    :param prepare: what is done for each play before it is started.
    :param act: what is done to each play, in a thread of its own.
    :param strike: what is done once to something that all plays share, when they are under way.
    :param before: the same before they are started.
    :param results: how a task may end.
    :param runs: how many runs a play creates; None if that depends on the moment.
    :param check: what else must hold at the end: it returns what is wrong.
    :param play: the options of ``Play``.
    :param at_most: plays for each kind of run and way to wait, where they take long.
    :param in_short: whether it belongs to ``make chaos-short``.
    """

    name: str
    prepare: Callable[[Play], None] = lambda _: None
    act: Callable[[Play], None] = lambda _: None
    strike: Callable[[World, list[Play]], None] | None = None
    before: Callable[[World, list[Play]], None] | None = None
    results: frozenset[str] = SUCCESS
    runs: int | None = 1
    check: Callable[[Play], str | None] = lambda _: None
    waits: Sequence[str] = BOTH
    kinds: Sequence[str] = ("response", "thread_run")
    play: dict[str, Any] = field(default_factory=lambda: {"seconds": SHORT})
    at_most: int = 100
    in_short: bool = False

    @property
    def alone(self) -> bool:
        """Whether what is broken is shared."""
        return self.strike is not None or self.before is not None


LIMIT = 20.0
BUSY_LIMIT = 60.0
"""Long enough to find all plays waiting, and then all workers occupied."""
TIMES = {"window": LIMIT, "seconds": LONG}

ROWS = [
    Row(name="kill -9 of the task before or during create", act=acts.kill_early, in_short=True),
    Row(
        name="kill -9 while the create is answered slowly",
        before=faults.slow_creates,
        act=acts.kill_during_create,
        results=SUCCESS | FAILED,
        check=acts.was_found_if_it_can_be,
    ),
    Row(name="kill -9 right after create", act=acts.kill_after_create, in_short=True),
    Row(name="kill -9 while waiting in the worker", act=acts.kill_waiting, waits=("worker",)),
    Row(name="kill -9 after resume", act=acts.kill_resumed, waits=("deferred",)),
    Row(name="SIGTERM of the supervisor, retry left", act=acts.evict, waits=("worker",), in_short=True),
    Row(
        name="worker frozen until replaced, comes back",
        act=acts.freeze,
        waits=("worker",),
        play={"seconds": 75.0},
        at_most=1,  # a frozen worker keeps its slot until it comes back
    ),
    *(
        Row(
            name=f"mark {state} while {'deferred' if waits == 'deferred' else 'running'}",
            act=acts.mark(state),
            waits=(waits,),
            results=frozenset({state}),
            play={},
            in_short=state == "failed",
        )
        for state in ("failed", "success")
        for waits in BOTH
    ),
    *(
        Row(
            name=f"clear while {'deferred' if waits == 'deferred' else 'running'}",
            act=acts.clear,
            waits=(waits,),
            results=FAILED,
            runs=2,
            play={},
            in_short=True,
        )
        for waits in BOTH
    ),
    Row(name="Dag run failed and deleted", act=acts.delete, results=frozenset({"deleted"}), play={}),
    Row(
        name="dagrun_timeout",
        act=acts.outlive_dag_run,
        results=frozenset({"skipped", "failed"}),
        play={"variant": "dagrun"},
        at_most=2,
    ),
    Row(
        name="completion_window over",
        act=acts.limit(LIMIT),
        check=acts.ended_in_time(LIMIT),
        results=FAILED,
        play={**TIMES, "variant": "once"},
        in_short=True,
    ),
    Row(
        name="execution_timeout over",
        act=acts.limit(LIMIT),
        check=acts.ended_in_time(LIMIT),
        results=FAILED,
        play={"variant": "timeout"},
    ),
    Row(
        name="the run fails at the server",
        runs=2,
        play={"seconds": 3.0, "script": {"ends": "failed"}},
    ),
    Row(
        name="the run is cancelled by someone else",
        act=acts.cancel_elsewhere,
        results=FAILED,
        check=acts.was_not_repeated,
        play={},
    ),
    Row(
        name="the trigger dies, the run completes meanwhile",
        waits=("deferred",),
        play={"variant": "dies", "seconds": 2.0},
    ),
    Row(
        name="the trigger dies twice, no retry left",
        act=acts.die,
        waits=("deferred",),
        results=FAILED,
        play={"variant": "dies"},
    ),
    *(
        Row(
            name=f"busy thread, on_active_run={policy!r}",
            prepare=faults.occupy_thread,
            check=faults.foreign_run_is_wrong,
            kinds=("thread_run",),
            results=FAILED if policy == "fail" else SUCCESS,
            runs=0 if policy == "fail" else 1,
            play={"seconds": 5.0, "variant": f"busy_{policy}"},
        )
        for policy in ("fail", "wait", "cancel")
    ),
    Row(
        name="create lost, 500, 502, 503, 504, 429, reset",
        before=faults.bad_creates,
        results=SUCCESS | FAILED,
        runs=None,
        check=acts.was_found_if_it_can_be,
    ),
    Row(
        name="create lost, metadata not echoed",
        before=faults.lost_creates,
        results=FAILED,
        kinds=("thread_run",),
        play={"seconds": SHORT, "script": {"echo_metadata": False}},
    ),
    *(
        Row(
            name=f"{limit} over, all workers busy",
            act=acts.limit(BUSY_LIMIT),
            strike=faults.occupy_workers,
            check=acts.ended_in_time(BUSY_LIMIT),
            results=FAILED,
            play={"variant": variant, "window": window},
            at_most=1,
        )
        for limit, variant, window in (
            ("completion_window", "once", BUSY_LIMIT),
            ("execution_timeout", "busy_timeout", WINDOW),
        )
    ),
    Row(
        name="kill -9 of a triggerer",
        strike=faults.kill_triggerer,
        waits=("deferred",),
        play={"seconds": 45.0},
        in_short=True,
    ),
    Row(
        name="rolling restart of the triggerers",
        strike=faults.restart_triggerers,
        waits=("deferred",),
        play={"seconds": 60.0},
    ),
    Row(
        name="SIGSTOP of one of two triggerers, SIGCONT",
        strike=faults.freeze_triggerer,
        waits=("deferred",),
        play={"seconds": 60.0},
    ),
    Row(
        name="kill -9 of the scheduler and all workers", strike=faults.kill_scheduler, play={"seconds": 45.0}
    ),
    Row(name="restart of the api-server", strike=faults.restart_api_server, play={"seconds": 45.0}),
    Row(name="simulator frozen for a minute", strike=faults.freeze_simulator, play={"seconds": 90.0}),
    Row(name="30 % of looks: 429, 5xx, reset, cut", before=faults.bad_looks, play={"seconds": 25.0}),
    *(Row(runs=None, check=was_paid_for_once, play=CALLS, **row) for row in TOOL_ROWS),
]
