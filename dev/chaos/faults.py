# SPDX-License-Identifier: Apache-2.0
"""What is done to something that all plays of a row share."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

from dev.chaos.play import LONG, Play
from dev.chaos.world import World

SLOW_CREATE = 6.0
CREATE = {"method": "POST", "path": "/(responses|runs)$"}
LOOK = {"method": "GET", "path": r"/(responses|runs)/\w+$"}
LONGER_THAN_THRESHOLDS = 45.0
SECONDS_AFTER_DEADLINE = 12.0
BLOCKER = "blocker"
TRIGGERERS = ("triggerer-1", "triggerer-2")
FOREIGN_SECONDS = {"busy_fail": 2 * LONG, "busy_wait": 60.0, "busy_cancel": 2 * LONG}
FOREIGN_ENDS = {"busy_fail": "in_progress", "busy_wait": "completed", "busy_cancel": "cancelled"}


def slow_creates(world: World, plays: list[Play]) -> None:
    """Let the first create of each play be accepted at once and answered late."""
    world.ask("/simulator/faults", {**CREATE, "kind": "slow", "delay": SLOW_CREATE, "times": len(plays)})


def bad_creates(world: World, plays: list[Play]) -> None:
    """Let as many creates as there are plays go wrong, each in one of the ways, in random order."""
    kinds: list[dict[str, Any]] = [
        {"kind": "lost"},
        {"kind": "reset"},
        *({"status": status} for status in (500, 502, 503, 504)),
        {"status": 429, "retry_after": 2},
    ]
    chosen = [kinds[number % len(kinds)] for number in range(len(plays))]
    random.Random(plays[0].dice.random()).shuffle(chosen)  # noqa: S311 - repeatable, not secret
    world.ask("/simulator/faults", [{**CREATE, **fault} for fault in chosen])


def lost_creates(world: World, plays: list[Play]) -> None:
    """Accept the create of each play, and never answer."""
    world.ask("/simulator/faults", {**CREATE, "kind": "lost", "times": len(plays)})


def bad_looks(world: World, plays: list[Play]) -> None:
    """Let 30 % of looks go wrong, for so many looks as the plays will take."""
    kinds: list[dict[str, Any]] = [{"status": 429, "retry_after": 1}, {"status": 502}, {"kind": "reset"}]
    faults = [*kinds, {"kind": "cut"}, {"kind": "garbage"}]
    world.ask(
        "/simulator/faults",
        [{**LOOK, **fault, "times": len(plays), "probability": 0.07} for fault in faults],
    )


def kill_triggerer(world: World, plays: list[Play]) -> None:
    """Kill one of the two, and start it again while the other has taken over, or not."""
    plays[0].pause(2, 5)
    name = plays[0].dice.choice(TRIGGERERS)
    world.down.add(name)
    world.airflow.kill(name)
    plays[0].pause(1, 25)
    world.airflow.start(name)
    world.down.discard(name)


def restart_triggerers(world: World, plays: list[Play]) -> None:
    """Ask one after the other to end, and start it again, as a deployment does."""
    for name in TRIGGERERS:
        plays[0].pause(1, 5)
        world.down.add(name)
        world.airflow.terminate(name)
        world.airflow.start(name)
        world.down.discard(name)
        world.airflow.wait_healthy()


def freeze_triggerer(world: World, plays: list[Play]) -> None:
    """Stop one of the two until the other has its triggers, and let it come back."""
    plays[0].pause(2, 5)
    name = plays[0].dice.choice(TRIGGERERS)
    world.airflow.kill(name, signal.SIGSTOP)
    try:
        time.sleep(LONGER_THAN_THRESHOLDS)
    finally:
        world.airflow.kill(name, signal.SIGCONT)


def kill_scheduler(world: World, plays: list[Play]) -> None:
    """Kill the scheduler with its workers and their tasks, as if the machine had died."""
    plays[0].pause(2, 5)
    world.down.add("scheduler")
    world.airflow.kill("scheduler")
    plays[0].pause(1, 10)
    world.airflow.start("scheduler")
    world.down.discard("scheduler")


def restart_api_server(world: World, plays: list[Play]) -> None:
    """Restart what every worker and triggerer talks to Airflow through."""
    plays[0].pause(2, 5)
    world.down.add("api-server")
    world.airflow.terminate("api-server")
    world.airflow.start("api-server")
    world.down.discard("api-server")
    world.airflow.wait_healthy()


def freeze_simulator(world: World, plays: list[Play]) -> None:
    """Let the service answer nothing for a minute."""
    plays[0].pause(2, 5)
    world.airflow.kill("simulator", signal.SIGSTOP)
    try:
        time.sleep(60)
    finally:
        world.airflow.kill("simulator", signal.SIGCONT)


def occupy_workers(world: World, plays: list[Play]) -> None:
    """Keep every worker busy until the time of all plays is over; complain where one was not."""
    world.watch(BLOCKER)
    blockers = [
        world.trigger(BLOCKER, f"{BLOCKER}-{n}", {"seconds": 300}) for n in range(2 * world.parallelism)
    ]
    try:
        deadlines = {play: play.until_deadline_is_known() for play in plays}
        until = max(deadlines.values(), default=0.0) + SECONDS_AFTER_DEADLINE
        while time.time() < until:
            now, busy = time.time(), world.busy_workers
            for play in [play for play, deadline in deadlines.items() if deadline <= now]:
                if busy < world.parallelism:
                    play.complaints.append(f"only {busy} workers were busy at its deadline")
                del deadlines[play]
            time.sleep(0.2)
    finally:
        for run_id in blockers:
            world.api.mark_run(BLOCKER, run_id, new_state="failed")
        world.forget(BLOCKER)


def occupy_thread(play: Play) -> None:
    """Give the play a thread on which a run of somebody else is at work."""
    ask, about = play.world.ask, f"Foreign {play.name}"
    ask(
        "/simulator/scenarios",
        {"in_progress": FOREIGN_SECONDS[play.variant], "expires_after": 4 * LONG, "when": f"{about}$"},
    )
    thread = ask("/v1/threads", {"messages": [{"role": "user", "content": about}]})["id"]
    metadata = {"play": f"foreign {play.name}"}
    ask(f"/v1/threads/{thread}/runs", {"assistant_id": play.world.assistant, "metadata": metadata})
    play.conf["thread"] = thread


def foreign_run_is_wrong(play: Play) -> str | None:
    """Say what is wrong with what became of the run of somebody else."""
    [foreign] = play.world.runs[f"foreign {play.name}"]
    expected = FOREIGN_ENDS[play.variant]
    return None if foreign.status == expected else f"the run of somebody else is {foreign.status}"
