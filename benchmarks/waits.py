# SPDX-License-Identifier: Apache-2.0
"""
What thousands of waits in one process cost: ours, the official triggers', and the least that they could.

    python -m benchmarks.waits            everything, about 45 minutes
    python -m benchmarks.waits --short    1,000 waits and the contenders they compare with, a minute
    python -m benchmarks.waits --only away,busy

Needs aiohttp for the floor; see ``benchmarks.contenders`` for who is compared and ``benchmarks.server`` for
what is asked. In the table: "late" counts the waits whose lag is above a tenth of the run's age and above one
interval + 1 s; "lost" those that had no event, or a wrong one, when the measurement ended; "block" is the
longest time in which the event loop did nothing else, "total" the sum of those above 0.2 s.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable

from airflow_provider_openai_runs.runs.model import Look
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.waiting import KeepWaiting, Waiting, WaitLimits
from benchmarks.measuring import Setup, measure
from benchmarks.table import Table, rates

SIZES = (1_000, 5_000, 10_000, 20_000)
MANY = 10_000
_RUN = 1800.0
_DELAY = 0.05


def short() -> None:
    """Compare 1,000 waits that look every five seconds."""
    table = Table()
    for contender, waits in (("floor", 1_000), ("sdk", 1_000), ("ours", 1_000), ("session", 100)):
        setup = Setup(contender=contender, waits=waits, interval=5.0, ending=(4.0, 8.0), patience=8.0)
        table.row(measure(setup))


def sizes() -> None:
    """Compare at every size that a contender bears, with a look every ten seconds."""
    table = Table()
    for waits in SIZES:
        for contender in ("floor", "sdk", "ours"):
            table.row(measure(Setup(contender=contender, waits=waits)))
        if waits == SIZES[0]:
            table.row(measure(Setup(contender="session", waits=waits)))
    for contender in ("batch", "session"):
        table.row(measure(Setup(contender=contender, waits=100)))
    table.row(measure(Setup(contender="batch", waits=1_000)))
    table.growth(SIZES[0], SIZES[-1])


def growing() -> None:
    """Measure the interval that grows with the run's age, which is the default."""
    table = Table()
    for waits in SIZES:
        table.row(measure(Setup(contender="ours", waits=waits, interval=None)))
    table.growth(SIZES[0], SIZES[-1])


def busy() -> None:
    """Answer one of 10,000 waits with a 429 that asks for 20 s of patience."""
    at, seconds = 25.0, 20.0
    setup = Setup(
        contender="ours",
        waits=MANY,
        ending=(20.0, 100.0),
        settled=at + seconds + 30,
        server={"delay": _DELAY, "busy": [at, seconds]},
    )
    figures = measure(setup)
    server = figures["server"]
    Table().row(figures)
    print(f"One 429 after {server['refused_at']:.1f} s with Retry-After: {seconds:.0f}; ", end="")
    print(f"looks that left before its time: {server['too_early']}")
    print("looks a second, mean (highest) of each ten seconds: " + rates(server["per_second"]))


def away() -> None:
    """Take the server away from 10,000 waits: for a minute beside the floor, then for five minutes."""
    table = Table()
    for contender, gone in (("floor", 60.0), ("ours", 60.0), ("ours", 300.0)):
        back = 30.0 + gone
        setup = Setup(
            contender=contender,
            waits=MANY,
            ending=(20.0, back + 90),
            settled=back + 60,
            server={"delay": _DELAY, "away": [30.0, back]},
        )
        figures = measure(setup)
        table.row(figures)
        print(f"away for {gone:.0f} s; lags of the runs that ended later than 60 s after its return")
        print("looks a second, mean (highest) of each ten seconds: " + rates(figures["server"]["per_second"]))


def looks() -> None:
    """Count the looks at a run of half an hour, by the same object that a wait is driven by."""
    ours, fixed = _looks(None), _looks(5.0)
    print(f"looks at a run of 30 minutes: ours {ours:.0f}, every 5 s {fixed:.0f}, ratio {fixed / ours:.2f}")


def _looks(interval: float | None, runs: int = 500) -> float:
    look = Look(status=RunStatus.IN_PROGRESS, word="in_progress")
    made = 0
    for _ in range(runs):
        waiting, now = Waiting(WaitLimits(created_at=0.0, poll_interval=interval), started_at=0.0), 0.0
        while now < _RUN:
            made += 1
            move = waiting.on_look(look, now=now)
            assert isinstance(move, KeepWaiting)  # noqa: S101 # for mypy
            now += move.seconds + _DELAY
    return made / runs


PARTS: dict[str, Callable[[], None]] = {
    "looks": looks,
    "sizes": sizes,
    "growing": growing,
    "busy": busy,
    "away": away,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What thousands of waits in one process cost")
    parser.add_argument("--short", action="store_true", help="1,000 waits, a minute")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    if arguments.short:
        looks()
        short()
        return
    for name in arguments.only.split(","):
        print(f"\n{name}: {(PARTS[name].__doc__ or '').strip()}")
        PARTS[name]()


if __name__ == "__main__":
    main()
