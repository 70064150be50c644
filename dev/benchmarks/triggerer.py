# SPDX-License-Identifier: Apache-2.0
"""
A thousand waits in a real triggerer, ours beside the official provider's trigger for sessions.

    python -m dev.benchmarks.triggerer                 1,000 waits, both, about a quarter of an hour
    python -m dev.benchmarks.triggerer --waits 20 --steady 5 --ending 10

Airflow's own database (SQLite, or PostgreSQL with ``--postgres``), and its own triggerer with the default
capacity, are started afresh for each contender; the deferred task instances are put there all at once (see
``dev.benchmarks.deferred``). Nothing takes up what the triggerer wakes: no scheduler runs, no worker.

A run is watched from its first poll. When all are, a steady time goes by, and then the runs end one
after another; the lag is from there to the moment at which Airflow wrote the event. Memory is the resident
set of the supervisor and of the process that runs the triggers; CPU is of both.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dev import ROOT
from dev.benchmarks.measuring import start_module
from dev.live import LiveAirflow
from dev.live.interrupts import raise_interrupts
from dev.live.postgres import postgres

DAGS = Path(__file__).parent / "dags"
_TRIGGERER = "triggerer-1"
_BLOCKED = re.compile(r"async thread was blocked for ([0-9.]+) seconds")
_READ_INTERVAL = 0.5
_MB = 1024 * 1024
#: Seconds in which a triggerer imports what it needs before the waits are put there.
_SETTLES = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Both processes at one moment: bytes, and CPU seconds since their start."""

    at: float
    memory: tuple[int, int]
    cpu: tuple[float, float]
    files: int


class Sampler:
    """Watches a triggerer's supervisor and the process that runs its triggers, in a thread."""

    def __init__(self, pid: int) -> None:
        self.samples: list[Sample] = []
        self._supervisor = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def before(self, at: float) -> Sample:
        """Return the last sample before a moment."""
        return next(sample for sample in reversed(self.samples) if sample.at <= at)

    def cpu(self, since: float, until: float) -> tuple[float, float]:
        """Return the CPU seconds between two moments, of the supervisor and of the runner."""
        first, last = self.before(since).cpu, self.before(until).cpu
        return last[0] - first[0], last[1] - first[1]

    def _run(self) -> None:
        while not self._stop.wait(_READ_INTERVAL):
            children = self._supervisor.children()
            if not children:
                continue
            both = (self._supervisor, max(children, key=lambda child: child.memory_info().rss))
            times = [process.cpu_times() for process in both]
            self.samples.append(
                Sample(
                    at=time.time(),
                    memory=(both[0].memory_info().rss, both[1].memory_info().rss),
                    cpu=(times[0].user + times[0].system, times[1].user + times[1].system),
                    files=both[0].num_fds(),
                )
            )


class Server:
    """The bench's server, in a process of its own, and the requests that control it."""

    def __init__(self) -> None:
        self._process = start_module("dev.benchmarks.server", json.dumps({"delay": 0.05, "ends_from": None}))
        assert self._process.stdout is not None  # noqa: S101 # for mypy
        self._port = int(self._process.stdout.readline())
        self.base_url = f"http://127.0.0.1:{self._port}/v1"

    def first_polls(self) -> list[float]:
        """Return when each run was first asked for."""
        return self._control("/first_polls")

    def end_from(self, at: float) -> None:
        """Let the runs end, counted from this moment."""
        self._control(f"/ends_from/{at}")

    def stop(self) -> dict[str, Any]:
        """Return its counts."""
        counts, _ = self._process.communicate(timeout=10)
        return dict(json.loads(counts))

    def _control(self, path: str) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", path)
            return list(json.loads(connection.getresponse().read())["first_polls"])
        finally:
            connection.close()


def play(contender: str, asked: argparse.Namespace, database: str | None) -> dict[str, Any]:
    """Measure one contender in a triggerer of its own."""
    env = {"BENCH_RUNS": str(asked.waits), "AIRFLOW__CORE__MAX_MAP_LENGTH": str(max(1024, asked.waits))}
    if database:
        env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database
    chance = random.Random(asked.waits)  # noqa: S311 # the same for every contender
    ends = [chance.uniform(0, asked.ending) for _ in range(asked.waits)]
    airflow, server = LiveAirflow(DAGS, env=env), Server()
    try:
        airflow.migrate()
        _in(airflow, "airflow", "dags", "reserialize")
        airflow.start(_TRIGGERER)
        sampler = Sampler(airflow.pid(_TRIGGERER))
        time.sleep(_SETTLES)
        plan = {"contender": contender, "ends": ends, "interval": asked.interval, "base_url": server.base_url}
        put_at = _in(airflow, "dev.benchmarks.deferred", "put", json.dumps(plan))
        polls = _watched(airflow, server, asked.waits, until=put_at + asked.grace)
        watched_at = time.time()
        ends_from = watched_at + asked.steady
        server.end_from(ends_from)
        time.sleep(asked.steady + asked.ending)
        rows = _in(
            airflow, "dev.benchmarks.deferred", "read", json.dumps({"until": time.time() + asked.grace})
        )
        sampler.stop()
        log = (airflow.home / f"{_TRIGGERER}.log").read_text(errors="replace")
    finally:
        airflow.stop()
        counts = server.stop()
    events = [row for row in rows if row["event_at"] is not None]
    lags = sorted(row["event_at"] - ends_from - ends[row["number"]] for row in events)
    last = max((row["event_at"] for row in events), default=time.time())
    return {
        "polls": counts["requests"],
        "watched": [at - put_at for at in polls],
        "lags": lags,
        "wrong": [row["event"] for row in events if not _says_completed(row["event"])],
        "memory": [
            [sampler.before(put_at).memory[which], max(one.memory[which] for one in sampler.samples)]
            for which in (0, 1)
        ],
        "files": max(one.files for one in sampler.samples),
        "cpu_watched": sampler.cpu(put_at, watched_at),
        "cpu_steady": sampler.cpu(watched_at, ends_from),
        "cpu_events": sampler.cpu(ends_from, last + 1),
        "blocked": [float(seconds) for seconds in _BLOCKED.findall(log)],
        "silent": log.count("appears deadlocked"),
    }


def _says_completed(kwargs: dict[str, Any] | None) -> bool:
    return ((kwargs or {}).get("event") or {}).get("status") in {"completed", "success"}


def _in(airflow: LiveAirflow, module: str, *arguments: str) -> Any:
    """Run a module in Airflow's environment and return the last line that it prints, as JSON if it is."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    path = os.pathsep.join([str(ROOT), *filter(None, [airflow.env.get("PYTHONPATH")])])
    env = {**airflow.env, "PYTHONPATH": path}
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)  # noqa: S603 # our own
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1]) if module == "dev.benchmarks.deferred" else None


def _watched(airflow: LiveAirflow, server: Server, waits: int, *, until: float) -> list[float]:
    while True:
        airflow.components[_TRIGGERER].check()
        polls = server.first_polls()
        if len(polls) >= waits or time.time() > until:
            return polls
        time.sleep(1)


def show(contender: str, waits: int, steady: float, found: dict[str, Any]) -> None:
    """Print one measurement."""
    watched, lags = found["watched"], found["lags"]
    print(f"\n{contender}: {waits} waits, {found['polls']} requests")
    print(f"  watched             {len(watched)}: {_spread(watched)}")
    print(f"  lag                 {len(lags)}: {_spread(lags)}; no event {waits - len(lags)}")
    for which, name in enumerate(("supervisor", "runner")):
        before, peak = found["memory"][which]
        cpu = [found[f"cpu_{phase}"][which] for phase in ("watched", "steady", "events")]
        print(
            f"  {name:12} memory {before / _MB:.0f} -> {peak / _MB:.0f} MB "
            f"({(peak - before) / 1024 / waits:.1f} KB a wait); CPU until all are watched {cpu[0]:.1f} s, "
            f"steady {cpu[1] / steady * 60:.1f} s a minute, while they end {cpu[2]:.1f} s"
        )
    blocked = found["blocked"]
    print(
        f"  open files of the supervisor {found['files']}; Airflow warned {len(blocked)} times of a blocked "
        f"loop, for {max(blocked, default=0):.1f} s at most, and {found['silent']} times of a deadlock"
    )
    for event in found["wrong"][:3]:
        print(f"  wrong event: {event}")
    sys.stdout.flush()


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    return (
        f"first {ordered[0]:.1f} s, median {statistics.median(ordered):.1f} s, "
        f"p95 {ordered[int(len(ordered) * 0.95)]:.1f} s, last {ordered[-1]:.1f} s"
    )


def main() -> None:
    """Measure the contenders one after the other."""
    parser = argparse.ArgumentParser(description="A thousand waits in a real triggerer")
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument("--contenders", default="ours,session")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between two polls")
    parser.add_argument("--grace", type=float, default=420.0, help="seconds in which all must be watched")
    parser.add_argument("--steady", type=float, default=30.0, help="seconds before the first end")
    parser.add_argument("--ending", type=float, default=60.0, help="seconds in which they end")
    parser.add_argument("--grace", type=float, default=120.0, help="seconds after the last end")
    parser.add_argument("--postgres", action="store_true", help="Debian's PostgreSQL in place of SQLite")
    asked = parser.parse_args()
    raise_interrupts()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    for contender in asked.contenders.split(","):
        with postgres() if asked.postgres else nullcontext() as database:
            show(contender, asked.waits, asked.steady, play(contender, asked, database))


if __name__ == "__main__":
    main()
