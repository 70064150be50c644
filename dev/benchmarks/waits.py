# SPDX-License-Identifier: Apache-2.0
"""
What thousands of waits in one process cost: ours, the official triggers', and the least that they could.

    python -m dev.benchmarks.waits            everything, about 45 minutes
    python -m dev.benchmarks.waits --short    1,000 waits and the contenders they compare with, a minute
    python -m dev.benchmarks.waits --only away,busy
    python -m dev.benchmarks.waits --only sizes,away --contenders floor,ours --waits 5000,10000

See ``contenders`` for who is compared and ``server`` for what is asked.

In the table: "late" counts the waits whose lag is above a tenth of the run's age and above one interval + 1
s; "lost" those that had no event, or a wrong one, when the measurement ended; "block" is the longest time in
which the event loop did nothing else, at all and later than 20 s after the start, "total" the sum of those
above 0.2 s.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_openai_runs.runs.model import PollResult
from airflow_provider_openai_runs.runs.polling import PollAgain, PollPolicy, WaitLimits
from airflow_provider_openai_runs.runs.status import RunStatus
from dev.benchmarks.contenders import CONTENDERS
from dev.benchmarks.measuring import Setup, measure
from dev.benchmarks.table import Table, rates
from dev.live.interrupts import raise_interrupts

SIZES = (1_000, 5_000, 10_000, 20_000)
MANY = 10_000
_RUN = 1800.0
_DELAY = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to leave the parts that compare down to."""

    contenders: frozenset[str]
    waits: frozenset[int]


def short() -> None:
    """Compare 1,000 waits that poll every five seconds."""
    table = Table()
    for contender, waits in (("floor", 1_000), ("sdk", 1_000), ("ours", 1_000), ("session", 100)):
        setup = Setup(contender=contender, waits=waits, interval=5.0, ending=(4.0, 8.0), grace=8.0)
        table.row(measure(setup))


def sizes(asked: Asked) -> None:
    """Compare at every size that a contender bears, with a poll every ten seconds."""
    table = Table()
    bears = [(contender, waits) for waits in SIZES for contender in ("floor", "heap", "sdk", "ours")]
    bears += [("session", 1_000), ("batch", 100), ("session", 100), ("batch", 1_000)]
    for contender, waits in bears:
        if contender in asked.contenders and waits in asked.waits:
            table.row(measure(Setup(contender=contender, waits=waits)))
    table.growth(SIZES[0], SIZES[-1])


def growing(asked: Asked) -> None:
    """Measure the interval that grows with the run's age, which is the default."""
    table = Table()
    for waits in SIZES:
        if waits in asked.waits:
            table.row(measure(Setup(contender="ours", waits=waits, interval=None)))
    table.growth(SIZES[0], SIZES[-1])


def busy(_: Asked) -> None:
    """Answer one of 10,000 waits with a 429 that asks to wait for 20 s."""
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
    print(f"polls that left before its time: {server['too_early']}")
    print("polls a second, mean (highest) of each ten seconds: " + rates(server["per_second"]))


def away(asked: Asked) -> None:
    """Take the server away from 10,000 waits for a minute, beside the floor."""
    table = Table()
    for contender in ("floor", "ours"):
        if contender in asked.contenders:
            _away(table, contender, 60.0)


def away_long(_: Asked) -> None:
    """Take the server away from 10,000 waits for five minutes."""
    _away(Table(), "ours", 300.0)


def _away(table: Table, contender: str, gone: float) -> None:
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
    print("polls a second, mean (highest) of each ten seconds: " + rates(figures["server"]["per_second"]))


def polls(_: Asked) -> None:
    """Count the polls of a run of half an hour, by the same object that drives a wait."""
    ours, fixed = _polls(None), _polls(5.0)
    print(f"polls of a run of 30 minutes: ours {ours:.0f}, every 5 s {fixed:.0f}, ratio {fixed / ours:.2f}")


def _polls(interval: float | None, runs: int = 500) -> float:
    result = PollResult(status=RunStatus.IN_PROGRESS, raw_status="in_progress")
    made = 0
    for _ in range(runs):
        waiting, now = PollPolicy(WaitLimits(created_at=0.0, poll_interval=interval), started_at=0.0), 0.0
        while now < _RUN:
            made += 1
            move = waiting.on_result(result, now=now)
            assert isinstance(move, PollAgain)  # noqa: S101 # for mypy
            now += move.seconds + _DELAY
    return made / runs


PARTS: dict[str, Callable[[Asked], None]] = {
    "polls": polls,
    "sizes": sizes,
    "growing": growing,
    "busy": busy,
    "away": away,
    "away-long": away_long,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What thousands of waits in one process cost")
    parser.add_argument("--short", action="store_true", help="1,000 waits, a minute")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="of sizes and away")
    parser.add_argument("--waits", default=",".join(map(str, (100, *SIZES))), help="of sizes and growing")
    arguments = parser.parse_args()
    asked = Asked(
        contenders=frozenset(arguments.contenders.split(",")),
        waits=frozenset(map(int, arguments.waits.split(","))),
    )
    raise_interrupts()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    if arguments.short:
        polls(asked)
        short()
        return
    for name in arguments.only.split(","):
        print(f"\n{name}: {(PARTS[name].__doc__ or '').strip()}")
        PARTS[name](asked)


if __name__ == "__main__":
    main()
