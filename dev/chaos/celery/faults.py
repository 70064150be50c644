# SPDX-License-Identifier: Apache-2.0
"""Faults that all trials of a row share, on an Airflow of many hosts; and what a user does meanwhile."""

from __future__ import annotations

import io
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import cast

from dev import ROOT
from dev.chaos.celery.cluster import VISIBILITY, CeleryCluster
from dev.chaos.cluster import Cluster
from dev.chaos.trial import ENDED, Trial
from dev.live.celery import (
    API_SERVER,
    DAG_PROCESSOR,
    SCHEDULERS,
    TRIGGERERS,
    WORKERS,
)
from dev.live.rest import RestError

Fault = Callable[[Cluster, list[Trial]], None]
SECONDS_WITHOUT_AIRFLOW = 300.0
SECONDS_TO_THE_FAULT = 400.0
SECONDS_TO_ADOPT = 45.0
BEFORE_THE_ISSUE = "5535149"
"""The last version that landed before Celery was part of the matrix: what an upgrade starts from."""
XCOM_BACKEND = "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend"
ALL = (API_SERVER, DAG_PROCESSOR, *SCHEDULERS, *TRIGGERERS, *WORKERS)


def fault(do: Callable[[CeleryCluster, list[Trial]], None]) -> Fault:
    """Let a function be a fault of a row, after a random pause."""

    def run(cluster: Cluster, trials: list[Trial]) -> None:
        trials[0].pause(1, 4)
        do(cast("CeleryCluster", cluster), trials)

    return run


# -- a user meanwhile --------------------------------------------------------------------------------------


#: A triggerer that is restarted before it has heard of a mark leaves the run: docs/deployment.md says so.
SECONDS_TO_HEAR_OF_A_MARK = 20.0


def as_its_role(trial: Trial) -> None:
    """Clear or mark the task while the fault is under way, as soon as Airflow answers and somebody waits."""
    if not trial.role:
        return
    trial.until("the fault", trial.cluster.fault_has_begun.is_set, timeout=SECONDS_TO_THE_FAULT)
    trial.pause(3, 20)
    _until_airflow_answers(trial)
    trial.cluster.settle()
    trial.until_waiting()
    if trial.role == "mark":
        trial.mark("failed")
        return
    before = trial.attempts
    trial.clear()
    if trial.waits == "worker":
        _mark_what_was_adopted(trial, before)


def _mark_what_was_adopted(trial: Trial, before: int) -> None:
    """
    Mark a task that goes on with the run from before its clear.

    Airflow does not tell the clear of a running task from a retry. If its worker was lost as well, nobody has
    ended the run, and the next attempt adopts it; the mark proves that it has an owner.
    """
    goes_on_since: float | None = None
    deadline = time.monotonic() + SECONDS_WITHOUT_AIRFLOW
    while len(trial.runs) == 1 and trial.instance.get("state") not in ENDED:
        if time.monotonic() > deadline or trial.cluster.is_over:
            return
        if not (trial.attempts > before and trial.is_waiting):
            goes_on_since = None
        elif goes_on_since is None:
            goes_on_since = time.monotonic()
        elif time.monotonic() > goes_on_since + SECONDS_TO_ADOPT:
            trial.role = "mark"
            trial.mark("failed")
            return
        time.sleep(0.5)


def _until_airflow_answers(trial: Trial) -> None:
    deadline = time.monotonic() + SECONDS_WITHOUT_AIRFLOW
    while time.monotonic() < deadline and not trial.cluster.is_over:
        with suppress(OSError, RestError):
            if trial.cluster.api.health().get("metadatabase") == "healthy":
                return
        time.sleep(1)


# -- workers -----------------------------------------------------------------------------------------------


def kill_worker(*, whole: bool) -> Fault:
    """Kill one of two workers: all of it, or the process that the others were forked from."""

    def do(cluster: CeleryCluster, trials: list[Trial]) -> None:
        name = trials[0].dice.choice(WORKERS)
        (cluster.kill if whole else cluster.kill_main_process)(name, 8)

    return fault(do)


def shut_worker_down(signum: int, grace: float, *, whole: bool = False) -> Fault:
    """Ask one of two workers to end: warm, cold, or all its processes at once as a container does."""

    def do(cluster: CeleryCluster, trials: list[Trial]) -> None:
        cluster.shut_down(trials[0].dice.choice(WORKERS), signum, grace, whole=whole)

    return fault(do)


def redeliver_after(seconds: int) -> Fault:
    """Let Redis hand a message out again that is not confirmed after so many seconds, which is at the end."""

    def do(cluster: CeleryCluster, _: list[Trial]) -> None:
        cluster.reconfigure((*SCHEDULERS, *WORKERS), {VISIBILITY: str(seconds)})

    return fault(do)


def end_of_redelivery(cluster: Cluster, trials: list[Trial]) -> None:
    """Restore the usual time-out, once the trials have ended."""
    while any(trial.state is None for trial in trials) and not cluster.is_over:
        time.sleep(1)
    redeliver_after(3600)(cluster, trials)


# -- cuts --------------------------------------------------------------------------------------------------


def cut(name: str, *others: str, seconds: float) -> Fault:
    """Let no packet pass between a host and others (or all) for so long."""

    def do(cluster: CeleryCluster, _: list[Trial]) -> None:
        with cluster.cut(name, *others):
            time.sleep(seconds)

    return fault(do)


# -- what everyone needs -----------------------------------------------------------------------------------


def restart_database(signum: int, seconds: float) -> Fault:
    """Stop PostgreSQL while all trials wait."""

    def do(cluster: CeleryCluster, _: list[Trial]) -> None:
        cluster.stop_database(signum, seconds)

    return fault(do)


def restart_database_twice(cluster: Cluster, trials: list[Trial]) -> None:
    """Stop PostgreSQL while the trials wait, and when the first of them has been resumed and has ended."""
    restart_database(signal.SIGINT, 8)(cluster, trials)
    while not any(trial.instance.get("state") == "success" for trial in trials) and not cluster.is_over:
        time.sleep(0.1)
    cast("CeleryCluster", cluster).stop_database(signal.SIGINT, 8)


def empty_broker(cluster: Cluster, trials: list[Trial]) -> None:
    """Empty Redis while tasks are queued, twice."""
    for _ in range(2):
        trials[0].pause(1, 15)
        cast("CeleryCluster", cluster).empty_broker(5)


def fail_over_schedulers(cluster: Cluster, _: list[Trial]) -> None:
    """Kill one scheduler, and when it is back the other one."""
    for name in SCHEDULERS:
        cast("CeleryCluster", cluster).kill(name, 25)
        time.sleep(15)


def api_server_away(seconds: float) -> Fault:
    """Kill the api-server, and start it again after so many seconds."""

    def do(cluster: CeleryCluster, _: list[Trial]) -> None:
        cluster.kill(API_SERVER, seconds)

    return fault(do)


def kill_triggerers(number: int, seconds: float) -> Fault:
    """Kill one triggerer or both, for so many seconds."""

    def do(cluster: CeleryCluster, _: list[Trial]) -> None:
        with ExitStack() as stack:
            stack.enter_context(cluster.without(*TRIGGERERS[:number]))
            for name in TRIGGERERS[:number]:
                cluster.airflow.kill(name)
            time.sleep(seconds)

    return fault(do)


# -- other set-ups -----------------------------------------------------------------------------------------


def xcom_on_object_storage(cluster: Cluster, _: list[Trial]) -> None:
    """Restart everything with an XCom backend that keeps every value in files."""
    folder = cluster.folder / "xcom"
    folder.mkdir(exist_ok=True)
    cast("CeleryCluster", cluster).reconfigure(
        ALL,
        {
            "AIRFLOW__CORE__XCOM_BACKEND": XCOM_BACKEND,
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{folder}",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
        },
    )


def kill_worker_and_restore_xcom(cluster: Cluster, trials: list[Trial]) -> None:
    """Kill a worker, and restart everything without that backend once the trials have ended."""
    kill_worker(whole=True)(cluster, trials)
    while any(trial.state is None for trial in trials) and not cluster.is_over:
        time.sleep(1)
    time.sleep(SECONDS_TO_HEAR_OF_A_MARK)
    restored = {"AIRFLOW__CORE__XCOM_BACKEND": "airflow.sdk.execution_time.xcom.BaseXCom"}
    cast("CeleryCluster", cluster).reconfigure(ALL, restored)


def install_older_version(cluster: Cluster, _: list[Trial]) -> None:
    """Restart whoever runs the package with the version from before the issue."""
    older = cluster.folder / "older"
    extract_older_version(older)
    _run_with(cluster, older, ROOT)


def extract_older_version(folder: Path) -> None:
    """Write the package into a folder, as it was before the issue."""
    git = ("git", "-C", str(ROOT), "archive", BEFORE_THE_ISSUE, "airflow_provider_openai_runs")
    packed = subprocess.run(git, check=True, capture_output=True).stdout  # noqa: S603 - our own
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def upgrade(cluster: Cluster, trials: list[Trial]) -> None:
    """Restart them with this version, while the trials wait."""
    trials[0].pause(2, 10)
    _run_with(cluster, ROOT)


def _run_with(cluster: Cluster, *folders: Path) -> None:
    names = (*WORKERS, *TRIGGERERS, DAG_PROCESSOR)
    path = ":".join(map(str, folders))
    cast("CeleryCluster", cluster).reconfigure(names, {"PYTHONPATH": path})
