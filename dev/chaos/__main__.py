# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m dev.chaos [--executor celery] [--short] [--seed N] [--row WORDS] ...``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dev.chaos import runner
from dev.chaos.celery import cluster as celery
from dev.chaos.celery.rows import ROWS as CELERY_ROWS
from dev.chaos.cluster import THRESHOLDS, Cluster, LocalCluster
from dev.chaos.rows import ROWS, Row
from dev.chaos.runner import COUNTED
from dev.live.celery import NAMES, missing
from dev.live.hosts import Hosts
from dev.live.interrupts import raise_interrupts
from dev.live.postgres import postgres

AT_A_TIME = {"sqlite": 8, "postgres": 20, "celery": 16}
"""Trials; with more of them SQLite makes Airflow wait for its lock longer than a heartbeat may take."""
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
    """Print the table, what is wrong trial by trial, and the counts; return whether they are zero."""
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


def part(text: str) -> tuple[int, int]:
    """Read which of how many shares of the rows is to be tried."""
    share, shares = map(int, text.split("/"))
    if not 1 <= share <= shares:
        raise ValueError(text)
    return share, shares


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few rows, one trial of each sort")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeat these random moments")
    parser.add_argument("--trials", type=int, help="trials for each kind of run and way to wait")
    parser.add_argument("--row", action="append", help="only rows with these words; may be repeated")
    parser.add_argument(
        "--part", type=part, default=(1, 1), metavar="K/N", help="of the rows each Nth, from the Kth on"
    )
    parser.add_argument(
        "--minutes", type=float, default=52, help="start no trial later (default: %(default)s)"
    )
    parser.add_argument("--parallelism", type=int, default=6, help="tasks at once (default: %(default)s)")
    parser.add_argument("--at-a-time", type=int, help=f"trials (default: {AT_A_TIME})")
    parser.add_argument("--home", type=Path, help="keep Airflow's files and logs, and trials.jsonl, in here")
    parser.add_argument(
        "--database", choices=("sqlite", "postgres"), default="sqlite", help="of the LocalExecutor"
    )
    parser.add_argument(
        "--executor", choices=("local", "celery"), default="local", help="celery: many hosts; needs root"
    )
    return parser.parse_args()


def main() -> int:
    """Run the trials; 0 if nothing was created twice, orphaned, wrongly cancelled or failed for good."""
    raise_interrupts()
    options = arguments()
    is_celery = options.executor == "celery"
    if is_celery and (reason := missing()) is not None:
        say(reason)
        return 2
    rows = _chosen(CELERY_ROWS if is_celery else ROWS, options)
    began = time.monotonic()
    where = "CeleryExecutor on PostgreSQL and Redis" if is_celery else options.database
    size = f"{os.cpu_count()} processors, {options.parallelism} workers, 2 triggerers"
    say(f"seed {options.seed}, {size}, {where}")
    lowered = {**THRESHOLDS, **(celery.THRESHOLDS if is_celery else {})}
    say("thresholds lowered: " + ", ".join(f"{name}={value}" for name, value in lowered.items()))
    try:
        with _cluster(options) as cluster:
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


def _chosen(table: list[Row], options: argparse.Namespace) -> Mapping[int, Row]:
    """Return the rows that were asked for, by their place in the table."""
    chosen = [
        (place, row)
        for place, row in enumerate(table)
        if (row.in_short or not options.short)
        and (not options.row or any(words in row.name for words in options.row))
    ]
    share, shares = options.part
    return dict(chosen[share - 1 :: shares])


@contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[Cluster]:
    """Start the Airflow that was asked for."""
    if options.executor == "celery":
        with (
            Hosts(NAMES) as hosts,
            celery.CeleryCluster(hosts=hosts, parallelism=options.parallelism, home=options.home) as many,
        ):
            yield many
        return
    with (
        postgres() if options.database == "postgres" else nullcontext() as database,
        LocalCluster(parallelism=options.parallelism, home=options.home, database=database) as one,
    ):
        yield one


def run(
    cluster: Cluster, groups: list[runner.TrialGroup], options: argparse.Namespace, began: float
) -> tuple[bool, bool]:
    """Run the trials, print each row when it has ended, and report; return (all were run, all is clean)."""
    whole = True
    try:
        usual = AT_A_TIME["celery" if options.executor == "celery" else options.database]
        at_a_time = options.at_a_time or usual
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
