# SPDX-License-Identifier: Apache-2.0
"""Plays rows: those that share nothing together, those that break what all share one after the other."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field

from dev.chaos.play import ENDED, Play
from dev.chaos.rows import ROWS, Row
from dev.chaos.verdict import SECONDS_TO_END, duplicates, orphans, wrongly_cancelled
from dev.chaos.world import World

SECONDS_OF_A_PLAY = 420.0
SECONDS_TO_GET_UNDER_WAY = 90.0
TOLD = ("may be running and billing", "left running and billing")
AIRFLOW_72716 = "https://github.com/apache/airflow/issues/72716"


@dataclass(eq=False)
class Act:
    """A row with its plays."""

    row: Row
    plays: list[Play] = field(default_factory=list)

    @property
    def played(self) -> list[Play]:
        """The plays that have come to their end."""
        return [play for play in self.plays if play.state is not None]


def cast(world: World, rows: list[Row], *, number: int, seed: int) -> list[Act]:
    """Prepare ``number`` plays for each kind of run and way to wait that a row is about."""
    acts = []
    for row in rows:
        plays = []
        for again, kind, waits in (
            (again, kind, waits)
            for again in range(min(number, row.at_most))
            for waits in row.waits
            for kind in row.kinds
        ):
            name = f"play-{ROWS.index(row)}-{kind}-{waits}-{again}"
            dice = random.Random(f"{seed}/{row.name}/{name}")  # noqa: S311 - repeatable, not secret
            plays.append(Play(world, name, kind, waits, dice, **row.play))
        acts.append(Act(row, plays))
    return acts


def perform(world: World, acts: list[Act], *, at_a_time: int, until: float) -> Iterator[Act]:
    """Yield each row when its last play has ended; no play is started after ``until`` (monotonic)."""
    pool = ThreadPoolExecutor(at_a_time)
    try:
        yield from _together([act for act in acts if not act.row.alone], pool, until)
        for act in acts:
            if act.row.alone:
                for first in range(0, len(act.plays), at_a_time):
                    if time.monotonic() < until:
                        _alone(world, act, act.plays[first : first + at_a_time], pool)
                if act.played:
                    yield act
    except BaseException:
        world.end()  # the plays under way notice it
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _together(acts: list[Act], pool: ThreadPoolExecutor, until: float) -> Iterator[Act]:
    left = {act: len(act.plays) for act in acts}
    futures: dict[Future[None], Act] = {
        pool.submit(_one, act.row, play, until): act for act in acts for play in act.plays
    }
    for future in as_completed(futures):
        future.result()
        act = futures[future]
        left[act] -= 1
        if not left[act] and act.played:
            yield act


def _alone(world: World, act: Act, plays: list[Play], pool: ThreadPoolExecutor) -> None:
    """Play some plays of a row whose fault they share."""
    if act.row.before:
        act.row.before(world, plays)
    futures = [pool.submit(_one, act.row, play) for play in plays]
    if act.row.strike:
        try:
            _wait_until_under_way(world, plays)
            act.row.strike(world, plays)
        except Exception as error:  # noqa: BLE001 - the plays go on, and the report says it
            plays[0].complaints.append(f"the strike: {type(error).__name__}: {error}")
    for future in futures:
        future.result()


def _wait_until_under_way(world: World, plays: list[Play]) -> None:
    """Wait until all plays wait that can at once; what is not so far by then is struck where it is."""
    deferred = sum(play.waits == "deferred" for play in plays)
    wanted = deferred + min(len(plays) - deferred, world.parallelism - 2)
    deadline = time.monotonic() + SECONDS_TO_GET_UNDER_WAY
    while sum(play.is_waiting for play in plays) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)


def _one(row: Row, play: Play, until: float | None = None) -> None:
    if until is not None and time.monotonic() > until:
        return
    try:
        row.prepare(play)
        play.start()
        row.act(play)
    except Exception as error:  # noqa: BLE001 - the other plays go on, and the report says it
        play.complaints.append(f"{type(error).__name__}: {error}")
        with suppress(Exception):
            if play.run_id and play.instance.get("state") not in ENDED:
                play.fail_dag_run()  # nobody else would end it
    play.until_ended(SECONDS_OF_A_PLAY)
    if play.state is None:  # everything was stopped
        return
    if play.state != "deleted" and any(run.ended_at is None for run in play.runs):
        play.story.told = any(word in play.log() for word in TOLD)
    play.write(row.name)


def judge(world: World, acts: list[Act], *, patient: bool = True) -> dict[str, list[str]]:
    """Say what is wrong, play by play; with patience every run is given the time to end before."""
    plays = [play for act in acts for play in act.played]
    if patient:
        last = max((play.story.ended_at or 0.0 for play in plays), default=0.0)
        time.sleep(max(0.0, last + SECONDS_TO_END + 1 - time.time()))
        world.settle()
    now = time.time()
    mistakes = world.mistakes_of_airflow()
    found: dict[str, list[str]] = {"duplicates": [], "orphans": [], "wrongly cancelled": [], "unexpected": []}
    for act in acts:
        for play in act.played:
            who = f"{act.row.name}: {play.name} ({play.run_id})"
            note = f" [Airflow failed an attempt of it: {AIRFLOW_72716}]" if play.run_id in mistakes else ""
            verdicts = {
                "duplicates": duplicates(play.story, play.runs),
                "orphans": orphans(play.story, play.runs, now),
                "wrongly cancelled": wrongly_cancelled(play.story, play.runs),
                "unexpected": _unexpected(act.row, play),
            }
            for name, lines in verdicts.items():
                found[name] += [f"{who}: {line}{note}" for line in lines]
    return found


def _unexpected(row: Row, play: Play) -> list[str]:
    found = list(play.complaints)
    if play.state not in row.results:
        found.append(f"ended as {play.state}, not as {' or '.join(sorted(row.results))}")
    if row.runs is not None and len(play.runs) != row.runs:
        found.append(f"{len(play.runs)} runs, not {row.runs}: {[(r.id, r.status) for r in play.runs]}")
    if wrong := row.check(play):
        found.append(wrong)
    return found


def results(plays: list[Play]) -> str:
    """Count the states in which plays ended: ``3 success, 1 failed``."""
    return ", ".join(f"{n} {state}" for state, n in Counter(play.state for play in plays).most_common())
