# SPDX-License-Identifier: Apache-2.0
"""The table of what is broken: one row a fault, and what must come of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chaos import faults
from chaos.play import LONG, Play
from chaos.world import World

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
    in_short: bool = False

    @property
    def alone(self) -> bool:
        """Whether what is broken is shared."""
        return self.strike is not None or self.before is not None


# -- the worker is lost -----------------------------------------------------------------------------------


def _kill_early(play: Play) -> None:
    play.task_process()
    play.pause(0, 1.5)
    play.kill_task()


def _kill_during_create(play: Play) -> None:
    play.until_run()
    play.pause(0, faults.SLOW_CREATE - 1.5)
    play.kill_task()


def _kill_after_create(play: Play) -> None:
    play.until_run()
    play.pause(0, 1.5)
    play.kill_task()


def _kill_waiting(play: Play) -> None:
    play.until_waiting()
    play.pause(2, 6)
    play.kill_task()


def _kill_resumed(play: Play) -> None:
    play.until_waiting()
    play.until_state("running")
    play.task_process()
    play.pause(0, 1.5)
    play.kill_task()


def _evict(play: Play) -> None:
    play.until_waiting()
    play.pause(2, 6)
    for pid in (play.supervisor(), play.task_process()):
        os.kill(pid, signal.SIGTERM)


def _freeze(play: Play) -> None:
    """Stop the worker until Airflow has given its task to another one, and let it come back."""
    play.until_waiting()
    play.pause(1, 3)
    frozen = (play.supervisor(), play.task_process())
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        play.until("a second attempt", lambda: play.instance.get("try_number", 1) > 1 and _is_running(play))
        play.pause(0, 3)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def _is_running(play: Play) -> bool:
    return play.instance.get("state") in {"running", "deferred"}


# -- a user intervenes ------------------------------------------------------------------------------------


def _mark(state: str) -> Callable[[Play], None]:
    def act(play: Play) -> None:
        play.until_waiting()
        play.pause(0, 5)
        play.mark(state)

    return act


def _clear(play: Play) -> None:
    play.until_waiting()
    play.pause(0, 5)
    play.clear()
    play.until_run(2)
    play.pause(8, 10)
    if play.runs[1].ended_at is not None:
        play.complaints.append("the run after the clear was ended")
    play.mark("failed")


def _delete(play: Play) -> None:
    play.until_waiting()
    play.pause(1, 5)
    play.delete()


# -- time is over -----------------------------------------------------------------------------------------


def _limit(seconds: float) -> Callable[[Play], None]:
    def act(play: Play) -> None:
        run = play.until_run()
        # execution_timeout counts from the start of the attempt; a busy machine needs long until the create.
        began = datetime.fromisoformat(play.instance["start_date"]).timestamp()
        play.excuse((began if play.variant == "timeout" else run.created_at) + seconds - 1)

    return act


def _late(seconds: float) -> Callable[[Play], str | None]:
    def check(play: Play) -> str | None:
        run = play.runs[0]
        if run.ended_at is None:
            return None  # an orphan, which is counted
        lag = run.ended_at - run.created_at - seconds
        return f"cancelled {lag:.1f} s after the deadline" if lag > 5 + seconds / 10 else None

    return check


# -- the run itself ---------------------------------------------------------------------------------------


def _cancel_elsewhere(play: Play) -> None:
    play.until_waiting()
    play.pause(2, 6)
    play.cancel_run()


def _die(play: Play) -> None:
    play.excuse(time.time())  # when no retry is left


LIMIT = 20.0
TIMES = {"window": LIMIT, "seconds": LONG}

ROWS = [
    Row(name="kill -9 of the task before or during create", act=_kill_early, in_short=True),
    Row(
        name="kill -9 while the create is answered slowly",
        before=faults.slow_creates,
        act=_kill_during_create,
        results=SUCCESS | FAILED,
    ),
    Row(name="kill -9 right after create", act=_kill_after_create, in_short=True),
    Row(name="kill -9 while waiting in the worker", act=_kill_waiting, waits=("worker",)),
    Row(name="kill -9 after resume", act=_kill_resumed, waits=("deferred",)),
    Row(name="SIGTERM of the supervisor, retry left", act=_evict, waits=("worker",), in_short=True),
    Row(
        name="worker frozen until replaced, comes back",
        act=_freeze,
        waits=("worker",),
        play={"seconds": 75.0},
    ),
    *(
        Row(
            name=f"mark {state} while {'deferred' if waits == 'deferred' else 'running'}",
            act=_mark(state),
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
            act=_clear,
            waits=(waits,),
            results=FAILED,
            runs=2,
            play={},
            in_short=True,
        )
        for waits in BOTH
    ),
    Row(name="Dag run failed and deleted", act=_delete, results=frozenset({"deleted"}), play={}),
    Row(
        name="dagrun_timeout",
        act=lambda play: play.excuse(play.until_run().created_at),
        results=frozenset({"skipped", "failed"}),
        play={"variant": "dagrun"},
    ),
    Row(
        name="completion_window over",
        act=_limit(LIMIT),
        check=_late(LIMIT),
        results=FAILED,
        play={**TIMES, "variant": "once"},
        in_short=True,
    ),
    Row(
        name="execution_timeout over",
        act=_limit(LIMIT),
        check=_late(LIMIT),
        results=FAILED,
        play={"variant": "timeout"},
    ),
    Row(
        name="the run fails at the server",
        runs=2,
        play={"seconds": 3.0, "script": {"ends": "failed"}},
    ),
    Row(name="the run is cancelled by someone else", act=_cancel_elsewhere, results=FAILED, play={}),
    Row(
        name="the trigger dies, the run completes meanwhile",
        waits=("deferred",),
        play={"variant": "dies", "seconds": 2.0},
    ),
    Row(
        name="the trigger dies twice, no retry left",
        act=_die,
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
    ),
    Row(
        name="create lost, metadata not echoed",
        before=faults.lost_creates,
        results=FAILED,
        kinds=("thread_run",),
        play={"seconds": SHORT, "script": {"echo_metadata": False}},
    ),
    Row(name="kill -9 of a triggerer", strike=faults.kill_triggerer, waits=("deferred",), in_short=True),
    Row(
        name="SIGSTOP of one of two triggerers, SIGCONT",
        strike=faults.freeze_triggerer,
        waits=("deferred",),
        play={"seconds": 60.0},
    ),
    Row(
        name="kill -9 of the scheduler and all workers", strike=faults.kill_scheduler, play={"seconds": 30.0}
    ),
    Row(name="restart of the api-server", strike=faults.restart_api_server, play={"seconds": 25.0}),
    Row(name="simulator frozen for a minute", strike=faults.freeze_simulator, play={"seconds": 30.0}),
    Row(name="30 % of looks: 429, 5xx, reset, cut", before=faults.bad_looks, play={"seconds": 25.0}),
]
