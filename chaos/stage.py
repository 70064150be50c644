# SPDX-License-Identifier: Apache-2.0
"""Plays rows, several at a time where they do not share what is broken."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from chaos.play import Play
from chaos.rows import Row
from chaos.verdict import SECONDS_TO_END, duplicates, orphans, wrongly_cancelled
from chaos.world import World

SECONDS_OF_A_PLAY = 420.0
TOLD = ("may be running and billing", "left running and billing")


@dataclass(eq=False)
class Act:
    """A row with its plays; ``seconds`` is how long they took."""

    row: Row
    plays: list[Play] = field(default_factory=list)
    seconds: float = 0.0


def cast(world: World, rows: list[Row], *, number: int, seed: int) -> list[Act]:
    """Prepare ``number`` plays for each kind of run and way to wait that a row is about."""
    acts = []
    for index, row in enumerate(rows):
        plays = []
        for kind, waits, again in (
            (kind, waits, again) for again in range(number) for kind in row.kinds for waits in row.waits
        ):
            name = f"play-{index}-{kind}-{waits}-{again}"
            dice = random.Random(f"{seed}/{row.name}/{name}")  # noqa: S311 - repeatable, not secret
            plays.append(Play(world, name, kind, waits, dice, **row.play))
        acts.append(Act(row, plays))
    return acts


def perform(world: World, acts: list[Act], *, at_a_time: int, until: float) -> Iterator[Act]:
    """Play the rows that share nothing together, then the others one by one; yield what was played."""
    together = [act for act in acts if not act.row.alone]
    with ThreadPoolExecutor(at_a_time) as pool:
        for wave in _waves(together, 3 * at_a_time):
            if time.monotonic() > until:
                return
            _play(world, wave, pool)
            yield from wave
        for act in acts:
            if act.row.alone and time.monotonic() < until:
                _play(world, [act], pool)
                yield act


def _waves(acts: list[Act], size: int) -> Iterator[list[Act]]:
    """Put rows together until there are ``size`` plays, so that few of them wait for the last one."""
    wave: list[Act] = []
    for act in acts:
        if wave and sum(len(one.plays) for one in wave) + len(act.plays) > size:
            yield wave
            wave = []
        wave.append(act)
    if wave:
        yield wave


def _play(world: World, acts: list[Act], pool: ThreadPoolExecutor) -> None:
    began = time.monotonic()
    world.begin()
    for act in acts:
        if act.row.before:
            act.row.before(world, act.plays)
    futures: list[Future[None]] = [pool.submit(_one, act.row, play) for act in acts for play in act.plays]
    for act in acts:
        if act.row.strike:
            try:
                for play in act.plays:
                    play.until_waiting()
                act.row.strike(world, act.plays)
            except Exception as error:  # noqa: BLE001 - the other plays go on, and the report says it
                act.plays[0].complaints.append(f"the strike: {error}")
    for future in futures:
        future.result()
    for act in acts:
        act.seconds = time.monotonic() - began
        for play in act.plays:
            play.story.told = any(word in play.log() for word in TOLD) if _goes_on(play) else False


def _goes_on(play: Play) -> bool:
    return play.state != "deleted" and any(run.ended_at is None for run in play.runs)


def _one(row: Row, play: Play) -> None:
    try:
        row.prepare(play)
        play.start()
        row.act(play)
    except Exception as error:  # noqa: BLE001 - the other plays go on, and the report says it
        play.complaints.append(f"{type(error).__name__}: {error}")
    play.until_ended(SECONDS_OF_A_PLAY)


def judge(world: World, acts: list[Act]) -> dict[str, list[str]]:
    """Give every run the time to end, and say what is wrong, play by play."""
    plays = [play for act in acts for play in act.plays]
    last = max((play.story.ended_at or 0.0 for play in plays), default=0.0)
    time.sleep(max(0.0, last + SECONDS_TO_END + 1 - time.time()))
    world.settle()
    now = time.time()
    found: dict[str, list[str]] = {"duplicates": [], "orphans": [], "wrongly cancelled": [], "unexpected": []}
    for act in acts:
        for play in act.plays:
            who = f"{act.row.name}: {play.name} ({play.run_id})"
            verdicts = {
                "duplicates": duplicates(play.story, play.runs),
                "orphans": orphans(play.story, play.runs, now),
                "wrongly cancelled": wrongly_cancelled(play.story, play.runs),
                "unexpected": _unexpected(act.row, play),
            }
            for name, lines in verdicts.items():
                found[name] += [f"{who}: {line}" for line in lines]
    return found


def _unexpected(row: Row, play: Play) -> list[str]:
    found = list(play.complaints)
    if play.state not in row.results:
        found.append(f"ended as {play.state}, not as {' or '.join(sorted(row.results))}")
    if row.runs is not None and len(play.runs) != row.runs:
        found.append(f"{len(play.runs)} runs, not {row.runs}: {[(r.id, r.status) for r in play.runs]}")
    if play.runs and (wrong := row.check(play)):
        found.append(wrong)
    return found
