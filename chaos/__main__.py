# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m chaos [--short] [--seed N] [--plays N] [--row WORDS] [--home FOLDER]``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from chaos import stage
from chaos.postgres import postgres
from chaos.rows import ROWS
from chaos.world import THRESHOLDS, World

AT_A_TIME = {"sqlite": 8, "postgres": 20}
"""Plays; with more of them SQLite makes Airflow wait for its lock longer than a heartbeat may take."""
COUNTED = ("duplicates", "orphans", "wrongly cancelled")
ROW = "{:<50} {:>5} {:>5} {:>6}  {}"


def say(text: str = "") -> None:
    """Print at once."""
    print(text, flush=True)


def report(acts: list[stage.Act], found: dict[str, list[str]]) -> bool:
    """Print the table, what is wrong play by play, and the three counts; tell whether they are zero."""
    say(f"\n{ROW.format('row', 'plays', 'runs', 'active', 'task results')}")
    for act in acts:
        runs = [run for play in act.plays for run in play.runs]
        active = sum(run.ended_at is None for run in runs)
        results = ", ".join(f"{n} {state}" for state, n in Counter(p.state for p in act.plays).most_common())
        say(ROW.format(act.row.name, len(act.plays), len(runs), active, results))
    plays = [play for act in acts for play in act.plays]
    total = ROW.format("all", len(plays), sum(len(play.runs) for play in plays), "", "")
    say(total.rstrip())
    for name, lines in found.items():
        if lines:
            say(f"\n{name}:")
        for line in lines:
            say(f"  {line}")
    say(f"\n{'  '.join(f'{name}: {len(found[name])}' for name in COUNTED)}")
    return not any(found[name] for name in COUNTED)


def main() -> int:
    """Play the rows; 0 if nothing was created twice, orphaned or wrongly cancelled."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few rows, one play of each sort")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeat these random moments")
    parser.add_argument("--plays", type=int, help="plays for each kind of run and way to wait")
    parser.add_argument("--row", action="append", help="only rows with these words; may be repeated")
    parser.add_argument("--minutes", type=float, default=55, help="start no row later (default: %(default)s)")
    parser.add_argument("--parallelism", type=int, default=6, help="workers (default: %(default)s)")
    parser.add_argument("--home", type=Path, help="keep Airflow's files and logs in this folder")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    options = parser.parse_args()
    rows = [row for row in ROWS if not options.row or any(words in row.name for words in options.row)]
    rows = [row for row in rows if row.in_short or not options.short]
    number = options.plays or (1 if options.short else 4)
    began = time.monotonic()
    say(
        f"seed {options.seed}, {os.cpu_count()} processors, {options.parallelism} workers, 2 triggerers, "
        f"{options.database}"
    )
    say("thresholds lowered: " + ", ".join(f"{name}={value}" for name, value in THRESHOLDS.items()))
    acts: list[stage.Act] = []
    try:
        with (
            postgres() if options.database == "postgres" else nullcontext() as database,
            World(parallelism=options.parallelism, home=options.home, database=database) as world,
        ):
            say(f"Airflow is up after {time.monotonic() - began:.0f} s")
            chosen = stage.cast(world, rows, number=number, seed=options.seed)
            at_a_time = AT_A_TIME[options.database]
            for act in stage.perform(world, chosen, at_a_time=at_a_time, until=began + options.minutes * 60):
                acts.append(act)
                say(f"{time.monotonic() - began:6.0f} s  {act.row.name}: {len(act.plays)} plays")
            acts.sort(key=chosen.index)
            clean = report(acts, stage.judge(world, acts))
    except KeyboardInterrupt:
        say("Interrupted; everything is stopped")
        return 130
    say(f"{sum(len(act.plays) for act in acts)} plays in {(time.monotonic() - began) / 60:.0f} minutes")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
