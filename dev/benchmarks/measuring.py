# SPDX-License-Identifier: Apache-2.0
"""
Measures one contender: in a fresh process of its own, against a fresh server.

    python -m dev.benchmarks.measuring ours 10000      one measurement, as JSON
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.benchmarks.contenders import CONTENDERS, Plan, Wait
from dev.live.interrupts import raise_interrupts

#: Seconds between two readings of the clock by the watch on the loop.
_TICK = 0.01
#: Seconds after which every wait has polled once, on a machine that keeps up.
_STARTED = 20.0
#: Airflow warns of blocks that are longer.
_WARNED = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """
    What is measured.

    :param ending: the runs end between these seconds after the start, evenly.
    :param ages: the runs are between so many seconds old at the start.
    :param settled: lags are judged for runs that end later than so many seconds after the start.
    :param grace: seconds after the last end at which the waits that are left are given up.
    """

    contender: str
    waits: int
    interval: float | None = 10.0
    ending: tuple[float, float] = (20.0, 60.0)
    ages: tuple[float, float] = (300.0, 3540.0)
    grace: float = 45.0
    settled: float = 0.0
    server: dict[str, Any] = dataclasses.field(default_factory=lambda: {"delay": 0.05})


def measure(setup: Setup) -> dict[str, Any]:
    """Run one contender against a server and return what both have counted."""
    server = start_module("dev.benchmarks.server", json.dumps(setup.server))
    assert server.stdout is not None  # noqa: S101 # for mypy
    base_url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    with tempfile.TemporaryDirectory() as home:
        connection = {"conn_type": "openai", "password": "sk-bench", "host": base_url}
        environment = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(connection),
            "BENCH_BASE_URL": base_url,
        }
        asked = json.dumps(dataclasses.asdict(setup))
        with start_module("dev.benchmarks.measuring", asked, **environment) as contender:
            try:
                found, _ = contender.communicate()
            finally:
                contender.kill()  # who interrupts does not want to wait until its runs have ended
    counts, _ = server.communicate()
    if contender.returncode:
        raise RuntimeError(f"{setup.contender} with {setup.waits} waits failed")
    figures: dict[str, Any] = json.loads(found.splitlines()[-1]) | {"server": json.loads(counts)}
    polls = figures["server"]["requests"]
    return figures | {"polls": polls, "cpu_ms_a_poll": 1000 * figures["cpu"] / max(1, polls)}


def start_module(module: str, argument: str, **environment: str) -> subprocess.Popen[str]:
    """Start a module of the bench; it ends when its standard input is closed, or before."""
    command = [sys.executable, "-W", "ignore", "-m", module, argument]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | environment)  # noqa: S603


# -- inside the contender's process --------------------------------------------------------------------------


class Watch:
    """Watches the event loop and the memory of this process."""

    def __init__(self) -> None:
        #: Seconds since the start, and for how long.
        self.blocks: list[tuple[float, float]] = []
        self.peak = 0

    async def run(self) -> None:
        """Note every hold-up of the loop, until cancelled."""
        turn = 0
        began = before = time.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self.blocks.append((before - began, now - before - _TICK))
            before, turn = now, turn + 1
            if turn % 20 == 0:
                self.peak = max(self.peak, resident())


def resident() -> int:
    """Return the memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


async def contend(setup: Setup) -> dict[str, Any]:
    """Wait for all runs and return the figures of this process."""
    async with CONTENDERS[setup.contender](os.environ["BENCH_BASE_URL"]) as wait:
        # Imports, lazy ones too, and the first client are not what is measured.
        await wait(Plan(number=0, age=0, ends_at=time.time() - 1, interval=0.1))
        chance = random.Random(setup.waits)  # noqa: S311 # the same for every contender
        began = time.time()
        plans = [
            Plan(
                number=number,
                age=chance.uniform(*setup.ages),
                ends_at=began + chance.uniform(*setup.ending),
                interval=setup.interval,
            )
            for number in range(1, setup.waits + 1)
        ]
        return await _all(setup, wait, plans)


async def _all(setup: Setup, wait: Wait, plans: list[Plan]) -> dict[str, Any]:
    started = time.time()
    finished: list[float] = []
    lags: list[float] = []
    beyond: list[float] = []
    errors: list[str] = []

    def timed(wait: Callable[[Plan], Awaitable[None]], plan: Plan) -> Any:
        async def run() -> None:
            try:
                await wait(plan)
            except Exception as error:  # noqa: BLE001 # counted and shown
                errors.append(repr(error))
                return
            lag = time.time() - plan.ends_at
            finished.append(lag)
            if lag < 0:
                errors.append(f"an event {-lag:.1f} s before the end of its run")
            if plan.ends_at < started + setup.settled:
                return
            lags.append(lag)
            # What the issue allows: a tenth of the run's age, or one interval and a second.
            age = plan.age + setup.ending[1]
            beyond.append(lag - max(age / 10, (setup.interval or 0.0) + 1))

        return run()

    watch = Watch()
    memory, cpu, began = resident(), time.process_time(), time.monotonic()
    watching = asyncio.create_task(watch.run())
    tasks = [asyncio.create_task(timed(wait, plan)) for plan in plans]
    _, unfinished = await asyncio.wait(tasks, timeout=setup.ending[1] + setup.grace)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    watching.cancel()
    for task in unfinished:
        task.cancel()
    lags.sort()
    return {
        "contender": setup.contender,
        "waits": setup.waits,
        "interval": setup.interval,
        "seconds": seconds,
        "cpu": cpu,
        "bytes_a_wait": (watch.peak - memory) / setup.waits,
        "longest_block": max((block for _, block in watch.blocks), default=0.0),
        "later_block": max((block for since, block in watch.blocks if since > _STARTED), default=0.0),
        "blocked": sum(block for _, block in watch.blocks if block > _WARNED),
        "lag_p50": statistics.median(lags) if lags else None,
        "lag_p95": lags[int(len(lags) * 0.95)] if lags else None,
        "lag_max": lags[-1] if lags else None,
        "beyond": sum(over > 0 for over in beyond),
        "finished": len(finished),
        "unfinished": len(unfinished),
        "errors": errors[:3],
    }


def main() -> None:
    """Measure a contender, or be one."""
    if len(sys.argv) == 2:  # noqa: PLR2004
        setup = Setup(**json.loads(sys.argv[1]))
        figures = asyncio.run(contend(setup))
        print(json.dumps(figures), flush=True)
        os._exit(0)  # threads of a contender that is stuck must not hold the bench up
    raise_interrupts()
    print(json.dumps(measure(Setup(contender=sys.argv[1], waits=int(sys.argv[2])))))


if __name__ == "__main__":
    main()
