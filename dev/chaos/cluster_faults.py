# SPDX-License-Identifier: Apache-2.0
"""Faults that all trials of a row share: of Airflow's components, of the workers, of the simulator."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

from dev.chaos.cluster import Cluster
from dev.chaos.trial import LONG, Trial

SLOW_CREATE = 6.0
CREATE = {"method": "POST", "path": "/(responses|runs)$"}
POLL = {"method": "GET", "path": r"/(responses|runs)/\w+$"}
LONGER_THAN_THRESHOLDS = 45.0
SECONDS_AFTER_DEADLINE = 12.0
WITHOUT_API_SERVER = 75.0
"""Three failed heartbeats are over after 42 to 53 s."""
BLOCKER = "blocker"
TRIGGERERS = ("triggerer-1", "triggerer-2")
FOREIGN_SECONDS = {"busy_fail": 2 * LONG, "busy_wait": 60.0, "busy_cancel": 2 * LONG}
FOREIGN_ENDS = {"busy_fail": "in_progress", "busy_wait": "completed", "busy_cancel": "cancelled"}


def slow_creates(cluster: Cluster, trials: list[Trial]) -> None:
    """Let the first create of each trial be accepted at once and answered late."""
    cluster.ask("/simulator/faults", {**CREATE, "kind": "slow", "delay": SLOW_CREATE, "times": len(trials)})


def bad_creates(cluster: Cluster, trials: list[Trial]) -> None:
    """Let as many creates as there are trials go wrong, each in one of the ways, in random order."""
    kinds: list[dict[str, Any]] = [
        {"kind": "lost"},
        {"kind": "reset"},
        *({"status": status} for status in (500, 502, 503, 504)),
        {"status": 429, "retry_after": 2},
    ]
    chosen = [kinds[number % len(kinds)] for number in range(len(trials))]
    random.Random(trials[0].dice.random()).shuffle(chosen)  # noqa: S311 - repeatable, not secret
    cluster.ask("/simulator/faults", [{**CREATE, **fault} for fault in chosen])


def lost_creates(cluster: Cluster, trials: list[Trial]) -> None:
    """Accept the create of each trial, and never answer."""
    cluster.ask("/simulator/faults", {**CREATE, "kind": "lost", "times": len(trials)})


def bad_polls(cluster: Cluster, trials: list[Trial]) -> None:
    """Let 30 % of polls go wrong, for so many polls as the trials will take."""
    kinds: list[dict[str, Any]] = [{"status": 429, "retry_after": 1}, {"status": 502}, {"kind": "reset"}]
    faults = [*kinds, {"kind": "cut"}, {"kind": "garbage"}]
    cluster.ask(
        "/simulator/faults",
        [{**POLL, **fault, "times": len(trials), "probability": 0.07} for fault in faults],
    )


def kill_triggerer(cluster: Cluster, trials: list[Trial]) -> None:
    """Kill one of the two, and start it again while the other has taken over, or not."""
    trials[0].pause(2, 5)
    name = trials[0].dice.choice(TRIGGERERS)
    cluster.down.add(name)
    cluster.airflow.kill(name)
    trials[0].pause(1, 25)
    cluster.airflow.start(name)
    cluster.down.discard(name)


def restart_triggerers(cluster: Cluster, trials: list[Trial]) -> None:
    """Ask one after the other to end, and start it again, as a deployment does."""
    for name in TRIGGERERS:
        trials[0].pause(1, 5)
        cluster.down.add(name)
        cluster.airflow.terminate(name)
        cluster.airflow.start(name)
        cluster.down.discard(name)
        cluster.airflow.wait_healthy()


def freeze_triggerer(cluster: Cluster, trials: list[Trial]) -> None:
    """Stop one of the two until the other has its triggers, and let it come back."""
    trials[0].pause(2, 5)
    name = trials[0].dice.choice(TRIGGERERS)
    cluster.airflow.kill(name, signal.SIGSTOP)
    try:
        time.sleep(LONGER_THAN_THRESHOLDS)
    finally:
        cluster.airflow.kill(name, signal.SIGCONT)


def kill_scheduler(cluster: Cluster, trials: list[Trial]) -> None:
    """Kill the scheduler with its workers and their tasks, as if the machine had died."""
    trials[0].pause(2, 5)
    cluster.down.add("scheduler")
    cluster.airflow.kill("scheduler")
    trials[0].pause(1, 10)
    cluster.airflow.start("scheduler")
    cluster.down.discard("scheduler")


def restart_api_server(cluster: Cluster, trials: list[Trial]) -> None:
    """Restart what every worker and triggerer talks to Airflow through."""
    trials[0].pause(2, 5)
    cluster.down.add("api-server")
    cluster.airflow.terminate("api-server")
    cluster.airflow.start("api-server")
    cluster.down.discard("api-server")
    cluster.airflow.wait_healthy()


def leave_without_api_server(cluster: Cluster, trials: list[Trial]) -> None:
    """Take the API away for longer than three heartbeats: supervisors give their tasks up without a mark."""
    trials[0].pause(2, 5)
    cluster.down.add("api-server")
    cluster.airflow.kill("api-server")
    time.sleep(WITHOUT_API_SERVER)
    cluster.airflow.start("api-server")
    cluster.down.discard("api-server")
    cluster.airflow.wait_healthy()


def freeze_simulator(cluster: Cluster, trials: list[Trial]) -> None:
    """Let the service answer nothing for a minute."""
    trials[0].pause(2, 5)
    cluster.airflow.kill("simulator", signal.SIGSTOP)
    try:
        time.sleep(60)
    finally:
        cluster.airflow.kill("simulator", signal.SIGCONT)


def occupy_workers(cluster: Cluster, trials: list[Trial]) -> None:
    """Keep every worker busy until the time of all trials is over; complain where one was not."""
    cluster.watch(BLOCKER)
    blockers = [
        cluster.trigger(BLOCKER, f"{BLOCKER}-{n}", {"seconds": 300}) for n in range(2 * cluster.parallelism)
    ]
    try:
        deadlines = {trial: trial.until_deadline_is_known() for trial in trials}
        until = max(deadlines.values(), default=0.0) + SECONDS_AFTER_DEADLINE
        while time.time() < until:
            now, busy = time.time(), cluster.busy_workers
            for trial in [trial for trial, deadline in deadlines.items() if deadline <= now]:
                if busy < cluster.parallelism:
                    trial.complaints.append(f"only {busy} workers were busy at its deadline")
                del deadlines[trial]
            time.sleep(0.2)
    finally:
        for run_id in blockers:
            cluster.api.mark_run(BLOCKER, run_id, new_state="failed")
        cluster.forget(BLOCKER)


def occupy_thread(trial: Trial) -> None:
    """Give the trial a thread on which a run of somebody else is at work."""
    ask, about = trial.cluster.ask, f"Foreign {trial.name}"
    ask(
        "/simulator/scenarios",
        {"in_progress": FOREIGN_SECONDS[trial.variant], "expires_after": 4 * LONG, "when": f"{about}$"},
    )
    thread = ask("/v1/threads", {"messages": [{"role": "user", "content": about}]})["id"]
    metadata = {"trial": f"foreign {trial.name}"}
    ask(f"/v1/threads/{thread}/runs", {"assistant_id": trial.cluster.assistant, "metadata": metadata})
    trial.conf["thread"] = thread


def foreign_run_is_wrong(trial: Trial) -> str | None:
    """Say what is wrong with what became of the run of somebody else."""
    [foreign] = trial.cluster.runs[f"foreign {trial.name}"]
    expected = FOREIGN_ENDS[trial.variant]
    return None if foreign.status == expected else f"the run of somebody else is {foreign.status}"
