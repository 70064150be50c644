# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m dev.chaos [--short] [--seed N] [--plays N] [--row WORDS] [--home DIR]``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dev.chaos import stage
from dev.chaos.rows import ROWS
from dev.chaos.world import THRESHOLDS, World
from dev.live.postgres import postgres

AT_A_TIME = {"sqlite": 8, "postgres": 20}
"""Plays; with more of them SQLite makes Airflow wait for its lock longer than a heartbeat may take."""
COUNTED = ("duplicates", "orphans", "wrongly cancelled")
ROW = "{:>6} {:<50} {:>5} {:>5} {:>6}  {}"
SECONDS_OF_ONE_SIGNAL = 3.0
"""Ctrl-C and a time limit reach us directly and through make: the second one of them is no new wish."""


def say(text: str = "") -> None:
    """Print at once."""
    print(text, flush=True)


def tell(act: stage.Act, seconds: float | None = None) -> None:
    """Print the line of a row."""
    runs = [run for play in act.played for run in play.runs]
    active = sum(run.ended_at is None for run in runs)
    when = "" if seconds is None else f"{seconds:.0f} s"
    say(ROW.format(when, act.row.name, len(act.played), len(runs), active, stage.results(act.played)))


def report(acts: list[stage.Act], found: dict[str, list[str]]) -> bool:
    """Print the table, what is wrong play by play, and the three counts; tell whether they are zero."""
    say(f"\n{ROW.format('', 'row', 'plays', 'runs', 'active', 'task results')}")
    for act in acts:
        if act.played:
            tell(act)
    plays = [play for act in acts for play in act.played]
    say(ROW.format("", "all", len(plays), sum(len(play.runs) for play in plays), "", "").rstrip())
    for name, lines in found.items():
        if lines:
            say(f"\n{name}:")
        for line in lines:
            say(f"  {line}")
    say(f"\n{'  '.join(f'{name}: {len(found[name])}' for name in COUNTED)}")
    return not any(found[name] for name in COUNTED)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few rows, one play of each sort")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeat these random moments")
    parser.add_argument("--plays", type=int, help="plays for each kind of run and way to wait")
    parser.add_argument("--row", action="append", help="only rows with these words; may be repeated")
    parser.add_argument(
        "--minutes", type=float, default=52, help="start no play later (default: %(default)s)"
    )
    parser.add_argument("--parallelism", type=int, default=6, help="workers (default: %(default)s)")
    parser.add_argument("--at-a-time", type=int, help=f"plays (default: {AT_A_TIME})")
    parser.add_argument("--home", type=Path, help="keep Airflow's files and logs, and plays.jsonl, in here")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    return parser.parse_args()


def main() -> int:
    """Play the rows; 0 if nothing was created twice, orphaned or wrongly cancelled."""
    interrupt_once()
    options = arguments()
    rows = [row for row in ROWS if not options.row or any(words in row.name for words in options.row)]
    rows = [row for row in rows if row.in_short or not options.short]
    began = time.monotonic()
    say(
        f"seed {options.seed}, {os.cpu_count()} processors, {options.parallelism} workers, 2 triggerers, "
        f"{options.database}"
    )
    say("thresholds lowered: " + ", ".join(f"{name}={value}" for name, value in THRESHOLDS.items()))
    try:
        with (
            postgres() if options.database == "postgres" else nullcontext() as database,
            World(parallelism=options.parallelism, home=options.home, database=database) as world,
        ):
            say(f"Airflow is up after {time.monotonic() - began:.0f} s")
            acts = stage.cast(
                world, rows, number=options.plays or (1 if options.short else 4), seed=options.seed
            )
            whole, clean = play(world, acts, options, began)
    except KeyboardInterrupt:
        say("Interrupted; everything is stopped")
        return 130
    played = sum(len(act.played) for act in acts)
    say(f"{played} plays in {(time.monotonic() - began) / 60:.0f} minutes{'' if whole else ' (interrupted)'}")
    return 130 if not whole else 0 if clean else 1


def play(world: World, acts: list[stage.Act], options: argparse.Namespace, began: float) -> tuple[bool, bool]:
    """Play, print each row when it has ended, and report; tell whether it came to its end, and was clean."""
    whole = True
    try:
        at_a_time = options.at_a_time or AT_A_TIME[options.database]
        until = began + options.minutes * 60
        for act in stage.perform(world, acts, at_a_time=at_a_time, until=until):
            tell(act, time.monotonic() - began)
    except KeyboardInterrupt:
        say("Interrupted; this is what was played so far")
        whole = False
    clean = report(acts, stage.judge(world, acts, patient=whole))
    attempts = ", ".join(f"{calls} in {n} attempts" for calls, n in sorted(world.store_calls().items()))
    say(f"calls of the task state store: {attempts or 'none'}")
    return whole, clean


def interrupt_once() -> None:
    """Let Ctrl-C, a time limit and a closed terminal interrupt, but not twice in one breath."""
    last = -SECONDS_OF_ONE_SIGNAL

    def interrupt(*_: Any) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_OF_ONE_SIGNAL:
            last = time.monotonic()
            raise KeyboardInterrupt

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupt)


if __name__ == "__main__":
    sys.exit(main())
