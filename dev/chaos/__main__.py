# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m dev.chaos [--short] [--seed N] [--trials N] [--row WORDS] [--home DIR]``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from dev.chaos import runner
from dev.chaos.cluster import THRESHOLDS, Cluster
from dev.chaos.rows import ROWS
from dev.live.interrupts import raise_interrupts
from dev.live.postgres import postgres

AT_A_TIME = {"sqlite": 8, "postgres": 20}
"""Trials; with more of them SQLite makes Airflow wait for its lock longer than a heartbeat may take."""
COUNTED = ("duplicates", "orphans", "wrongly cancelled")
ROW = "{:>6} {:<50} {:>6} {:>5} {:>6}  {}"


def say(text: str = "") -> None:
    """Print at once."""
    print(text, flush=True)


def print_row(group: runner.TrialGroup, seconds: float | None = None) -> None:
    """Print the line of a row."""
    runs = [run for trial in group.ended for run in trial.runs]
    active = sum(run.ended_at is None for run in runs)
    when = "" if seconds is None else f"{seconds:.0f} s"
    say(ROW.format(when, group.row.name, len(group.ended), len(runs), active, runner.results(group.ended)))


def report(groups: list[runner.TrialGroup], found: dict[str, list[str]]) -> bool:
    """Print the table, what is wrong trial by trial, and the three counts; return whether they are zero."""
    say(f"\n{ROW.format('', 'row', 'trials', 'runs', 'active', 'task results')}")
    for group in groups:
        if group.ended:
            print_row(group)
    trials = [trial for group in groups for trial in group.ended]
    say(ROW.format("", "all", len(trials), sum(len(trial.runs) for trial in trials), "", "").rstrip())
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
    parser.add_argument("--short", action="store_true", help="a few rows, one trial of each sort")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeat these random moments")
    parser.add_argument("--trials", type=int, help="trials for each kind of run and way to wait")
    parser.add_argument("--row", action="append", help="only rows with these words; may be repeated")
    parser.add_argument(
        "--minutes", type=float, default=52, help="start no trial later (default: %(default)s)"
    )
    parser.add_argument("--parallelism", type=int, default=6, help="workers (default: %(default)s)")
    parser.add_argument("--at-a-time", type=int, help=f"trials (default: {AT_A_TIME})")
    parser.add_argument("--home", type=Path, help="keep Airflow's files and logs, and trials.jsonl, in here")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    return parser.parse_args()


def main() -> int:
    """Run the trials; 0 if nothing was created twice, orphaned or wrongly cancelled."""
    raise_interrupts()
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
            Cluster(parallelism=options.parallelism, home=options.home, database=database) as cluster,
        ):
            say(f"Airflow is up after {time.monotonic() - began:.0f} s")
            groups = runner.prepare(
                cluster, rows, number=options.trials or (1 if options.short else 4), seed=options.seed
            )
            whole, clean = run(cluster, groups, options, began)
    except KeyboardInterrupt:
        say("Interrupted; everything is stopped")
        return 130
    ended = sum(len(group.ended) for group in groups)
    say(f"{ended} trials in {(time.monotonic() - began) / 60:.0f} minutes{'' if whole else ' (interrupted)'}")
    return 130 if not whole else 0 if clean else 1


def run(
    cluster: Cluster, groups: list[runner.TrialGroup], options: argparse.Namespace, began: float
) -> tuple[bool, bool]:
    """Run the trials, print each row when it has ended, and report; return (all were run, all is clean)."""
    whole = True
    try:
        at_a_time = options.at_a_time or AT_A_TIME[options.database]
        until = began + options.minutes * 60
        for group in runner.run(cluster, groups, at_a_time=at_a_time, until=until):
            print_row(group, time.monotonic() - began)
    except KeyboardInterrupt:
        say("Interrupted; these trials had ended")
        whole = False
    clean = report(groups, runner.judge(cluster, groups, wait_for_ends=whole))
    attempts = ", ".join(f"{calls} in {n} attempts" for calls, n in sorted(cluster.store_calls().items()))
    say(f"calls of the task state store: {attempts or 'none'}")
    return whole, clean


if __name__ == "__main__":
    sys.exit(main())
