# SPDX-License-Identifier: Apache-2.0
"""
What a bulk task takes for thousands of prompts, beside scripts without its guarantees and a mapped task.

    python -m dev.benchmarks.bulk                 everything: 10,000 items of 10 to 60 s, half an hour
    python -m dev.benchmarks.bulk --short         500 items of 1 to 4 s, without Airflow: a minute
    python -m dev.benchmarks.bulk --only scripts,kill --items 3000

Its parts; only the last two need an Airflow:

    scripts   ``bulk_contenders`` ours, bare and openai: makespan, CPU an item, lag, writes to storage
    kill      ours, killed with -9 when half of the items are created, and started again
    memory    a worker's, by the size of its input, and a trigger's, by its active runs
    live      the operator on a live Airflow, beside a mapped task
    mark      the operator on a live Airflow, marked failed while ``--max-active`` of its runs are active

Every item takes the same time for every contender. "perfect" is a scheduler that starts an item the moment a
slot is free, and hears of each end at once. The lag is from the end of a run to the poll that finds it; it is
judged by the interval of that moment, which is a tenth of the run's age, or active runs / polls a second.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import json
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.benchmarks import bulk_live, bulk_memory
from dev.benchmarks.bulk_contenders import Job
from dev.benchmarks.bulk_server import seconds_of
from dev.benchmarks.measuring import start_module
from dev.live.interrupts import raise_interrupts
from dev.live.rest import fetch_json

HEAD = (
    f"{'contender':9} {'items':>6} | {'s':>6} {'/perfect':>8} | {'ms/item':>7} {'/bare':>5} {'server':>6} | "
    f"{'polls':>5} {'lag p50':>7} {'p95':>5} {'late':>5} | {'MB':>5} | {'twice':>5}"
)
#: What the rate after a kill is compared with, in seconds before it, and read in, after it.
RATE_WINDOW = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The size of what is measured; seconds a run takes, evenly between two."""

    items: int
    max_active: int
    shortest: float
    longest: float
    max_unrecorded: int
    polls_per_second: float
    mapped: int

    def durations(self, count: int) -> list[float]:
        """Return how long each item takes."""
        return [seconds_of(n, shortest=self.shortest, longest=self.longest) for n in range(count)]

    def perfect(self, count: int, slots: int) -> float:
        """Return the makespan of a perfect scheduler, in the order of the items."""
        free = [0.0] * min(slots, count)
        for seconds in self.durations(count):
            heapq.heappush(free, heapq.heappop(free) + seconds)
        return max(free)


class Server:
    """The server of one measurement."""

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def counts(self) -> dict[str, Any]:
        """Read what it was asked so far."""
        return dict(fetch_json(self.base_url.replace("/v1", "/counts")))


@contextmanager
def serving(asked: Asked) -> Iterator[Server]:
    """Serve until the end of the block."""
    settings = json.dumps({"shortest": asked.shortest, "longest": asked.longest})
    with start_module("dev.benchmarks.bulk_server", settings) as process:
        assert process.stdout is not None  # noqa: S101 # for mypy
        try:
            yield Server(int(process.stdout.readline()))
        finally:
            process.kill()


@contextmanager
def contending(asked: Asked, server: Server, folder: str, **changes: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a contender; it has said when it began."""
    job = Job(
        base_url=server.base_url,
        folder=folder,
        max_active=asked.max_active,
        max_unrecorded=asked.max_unrecorded,
        polls_per_second=asked.polls_per_second,
        **{"items": asked.items, **changes},
    )
    connection = {"conn_type": "openai", "password": "sk-bench", "host": server.base_url}
    environment = {
        "AIRFLOW_HOME": folder,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(connection),
    }
    argument = json.dumps(dataclasses.asdict(job))
    with start_module("dev.benchmarks.bulk_contenders", argument, **environment) as process:
        try:
            yield process
        finally:
            process.kill()


def figures_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a contender's figures."""
    found, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a contender failed: {process.args!r}")
    return dict(json.loads(found.splitlines()[-1]))


# -- scripts -----------------------------------------------------------------------------------------------


def scripts(asked: Asked) -> None:
    """Compare ours with scripts that have no journal, no results and no retry."""
    print(HEAD)
    bare_ms: float | None = None
    for contender in ("bare", "ours", "openai"):
        with serving(asked) as server, tempfile.TemporaryDirectory() as folder:
            with contending(asked, server, folder, contender=contender) as process:
                figures = figures_of(process)
            counts, writes = server.counts(), _writes(Path(folder) / "out")
        bare_ms = 1000 * figures["cpu"] / asked.items if contender == "bare" else bare_ms
        _print_row(asked, figures, counts, bare_ms)
        if contender == "ours":
            print(f"          {figures['counts']}; written: {writes}", flush=True)


def _print_row(
    asked: Asked, figures: Mapping[str, Any], counts: Mapping[str, Any], bare_ms: float | None
) -> None:
    items, seconds = asked.items, figures["seconds"]
    lags, late = lags_of(asked, counts["jobs"])
    cpu = 1000 * figures["cpu"] / items
    print(
        f"{figures['contender']:9} {items:6} | {seconds:6.1f} "
        f"{seconds / asked.perfect(items, asked.max_active):8.2f} | {cpu:7.2f} "
        f"{cpu / bare_ms if bare_ms else 0:5.2f} {1000 * counts['cpu'] / items:6.2f} | "
        f"{sum(job[3] for job in counts['jobs']) / items:5.1f} {statistics.median(lags):7.1f} "
        f"{lags[int(len(lags) * 0.95)]:5.1f} {late:5} | {figures['peak_bytes'] / 2**20:5.0f} | "
        f"{counts['twice']:5}",
        flush=True,
    )


def lags_of(asked: Asked, jobs: list[list[Any]]) -> tuple[list[float], int]:
    """Return the sorted lags, and how many are above their interval and a second."""
    seen = [(ends_at, seen_at, ends_at - created) for _, created, ends_at, _, seen_at in jobs if seen_at]
    begins, ends = sorted(job[1] for job in jobs), sorted(job[4] or float("inf") for job in jobs)
    lags, late = [], 0
    for ends_at, seen_at, age in seen:
        active = _count_until(begins, ends_at) - _count_until(ends, ends_at)
        lag = seen_at - ends_at
        lags.append(lag)
        # A tenth of jitter is added to the policy's interval.
        late += lag > max(1.0, min(30.0, (age + lag) / 10 * 1.1), active / asked.polls_per_second) + 1
    return sorted(lags) or [0.0], late


def _count_until(moments: list[float], moment: float) -> int:
    low, high = 0, len(moments)
    while low < high:
        middle = (low + high) // 2
        if moments[middle] <= moment:
            low = middle + 1
        else:
            high = middle
    return low


def _writes(folder: Path) -> str:
    """Return how many files were written a second, on average and at most; parts of results among them."""
    seconds = Counter(int(path.stat().st_mtime) for path in folder.rglob("*") if path.is_file())
    if not seconds:
        return "nothing"
    span = max(seconds) - min(seconds) + 1
    journal = sum(1 for _ in folder.rglob("journal/*/*"))
    return (
        f"{seconds.total()} files ({journal} of the journal), {seconds.total() / span:.1f} a second, "
        f"at most {max(seconds.values())}"
    )


# -- kill --------------------------------------------------------------------------------------------------


def kill(asked: Asked) -> None:
    """Kill ours with -9 when half of the items are created, and start it again."""
    with serving(asked) as server, tempfile.TemporaryDirectory() as folder:
        with contending(asked, server, folder, contender="ours") as process:
            while server.counts()["created"] < asked.items / 2:
                if process.poll() is not None:
                    raise RuntimeError("it ended before half of its items were created")
                time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
        killed_at = time.time()
        with contending(asked, server, folder, contender="ours", attempt=2) as process:
            figures = figures_of(process)
        counts = server.counts()
        failed = "".join(path.read_text() for path in Path(folder).rglob("failed.jsonl"))
        named = sum('"token"' in line for line in failed.splitlines())
    created = sorted(job[1] for job in counts["jobs"])
    before = sum(killed_at - RATE_WINDOW < at <= killed_at for at in created) / RATE_WINDOW
    rate_is_back = next(
        (at - figures["began"] for at in created if at > killed_at and _rate(created, at) >= 0.8 * before),
        None,
    )
    print(f"killed when {_count_until(created, killed_at)} of {asked.items} were created, at {before:.0f}/s")
    print(f"paid again: {counts['twice']}; lost creates: {figures['counts']['lost']}, named: {named}")
    print(f"fates: {figures['counts']}")
    back = "never" if rate_is_back is None else f"{rate_is_back:.1f} s after execute"
    print(f"80 % of the rate before: {back}; all done {figures['seconds']:.0f} s after execute")


def _rate(created: list[float], since: float) -> float:
    span = 5.0
    return (_count_until(created, since + span) - _count_until(created, since)) / span


# -- memory ------------------------------------------------------------------------------------------------


def memory(asked: Asked) -> None:
    """Read a worker's memory by the size of its input, and a trigger's by its active runs."""
    bulk_memory.main(["jsonl"])
    long = dataclasses.replace(asked, shortest=3000.0, longest=3600.0)
    with (
        serving(long) as server,
        tempfile.TemporaryDirectory() as folder,
        contending(long, server, folder, contender="trigger") as process,
    ):
        figures = figures_of(process)
    print(f"a trigger with {asked.items} active: {figures['bytes_a_run'] / 1024:.2f} KB a run")


# -- live --------------------------------------------------------------------------------------------------


def live(asked: Asked) -> None:
    """Run the operator and a mapped task on a live Airflow."""
    with serving(asked) as server:
        found = bulk_live.measure(
            server.counts,
            server.base_url,
            items=asked.items,
            mapped=asked.mapped,
            options={"max_active": asked.max_active, "max_unrecorded": asked.max_unrecorded},
        )
    for name in ("bulk", "mapped"):
        print(f"{name:7} {found[name]}")
    perfect = asked.perfect(asked.items, asked.max_active)
    bulk, mapped = found["bulk"]["seconds"], found["mapped"]["seconds"] * asked.items / asked.mapped
    print(f"perfect {perfect:.0f} s, bulk {bulk:.0f} s: {bulk / perfect:.2f} x")
    print(f"mapped, extrapolated: {mapped:.0f} s, {mapped / bulk:.0f} x the bulk task's")


def mark(asked: Asked) -> None:
    """Mark the operator failed on a live Airflow while its runs are active."""
    long = dataclasses.replace(asked, shortest=3000.0, longest=3600.0)
    items = asked.max_active
    with serving(long) as server:
        options = {"max_active": items, "max_unrecorded": asked.max_unrecorded}
        found = bulk_live.mark(server.counts, server.base_url, items=items, options=options)
    for state, seconds in (
        ("running", bulk_live.WORKER_SECONDS),
        ("deferred", bulk_live.TRIGGER_SECONDS),
    ):
        ended, course = bulk_live.cancelled_within(seconds, found[state]), found[state]
        first = next((at for at, count in course if count), float("inf"))
        print(
            f"marked while {state}: of {items} active {ended} ended within {seconds} s of the first cancel, "
            f"which came {first:.1f} s after the mark; {course[-1][1]} after {course[-1][0]:.1f} s"
        )


PARTS: dict[str, Callable[[Asked], None]] = {
    "scripts": scripts,
    "kill": kill,
    "memory": memory,
    "live": live,
    "mark": mark,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a bulk task takes for thousands of prompts")
    parser.add_argument("--short", action="store_true", help="500 items of 1 to 4 s, 100 at once, no Airflow")
    parser.add_argument("--only", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--items", type=int)
    parser.add_argument("--max-active", type=int, help="runs at once (default: a fifth of the items)")
    parser.add_argument("--seconds", type=float, nargs=2, metavar=("SHORTEST", "LONGEST"))
    parser.add_argument("--max-unrecorded", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--polls-per-second", type=float, default=200.0, help="(default: %(default)s)")
    parser.add_argument("--mapped", type=int, default=300, help="items of the mapped task (%(default)s)")
    options = parser.parse_args()
    items = options.items or (500 if options.short else 10_000)
    shortest, longest = options.seconds or ((1.0, 4.0) if options.short else (10.0, 60.0))
    asked = Asked(
        items=items,
        max_active=options.max_active or max(1, items // 5),
        shortest=shortest,
        longest=longest,
        max_unrecorded=options.max_unrecorded,
        polls_per_second=options.polls_per_second,
        mapped=options.mapped,
    )
    raise_interrupts()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    print(f"{asked}; perfect: {asked.perfect(items, asked.max_active):.1f} s")
    for name in (options.only or ("scripts,kill" if options.short else ",".join(PARTS))).split(","):
        print(f"\n{name}: {(PARTS[name].__doc__ or '').strip()}", flush=True)
        PARTS[name](asked)


if __name__ == "__main__":
    main()
