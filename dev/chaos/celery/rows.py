# SPDX-License-Identifier: Apache-2.0
"""The table of what is broken on an Airflow of many hosts; each row's fault is shared by its trials."""

from __future__ import annotations

import signal
from typing import Any

from dev.chaos import bulk_items, bulk_rows
from dev.chaos.celery import faults
from dev.chaos.rows import Row
from dev.live.celery import (
    API_SERVER,
    BROKER,
    DATABASE,
    SCHEDULERS,
    SIMULATOR,
    TRIGGERERS,
    WORKERS,
)

WORKER, TRIGGERER, SCHEDULER = WORKERS[1], TRIGGERERS[1], SCHEDULERS[1]
USERS = ("", "clear", "", "mark", "")
"""Of five trials one is cleared and one is marked while the fault is under way."""
CLEARS = ("", "clear", "", "", "")
"""While no triggerer has a wait, a mark is heard by nobody: docs/deployment.md says what is left behind."""
DEFERRED, IN_WORKER = ("deferred",), ("worker",)


def row(name: str, fault: faults.Fault, *, seconds: float = 60.0, **more: Any) -> Row:
    """
    Make a row whose trials have retries enough for what Airflow itself burns.

    :param seconds: how long their runs take.
    """
    options: dict[str, Any] = {
        "fault": faults.as_its_role,
        "roles": USERS,
        "trial": {"seconds": seconds, "variant": "persistent"},
        **more,
    }
    return Row(name=name, cluster_fault=fault, **options)


def bulk(name: str, fault: faults.Fault, *, seconds: float = bulk_rows.SECONDS, **more: Any) -> Row:
    """Make a row about tasks of many prompts; nobody clears or marks them: ``dev.chaos.bulk_rows`` does."""
    return row(
        f"bulk: {name}",
        fault,
        seconds=seconds,
        **{
            "kinds": (bulk_rows.KIND,),
            "waits": IN_WORKER,
            "roles": ("",),
            "runs": None,
            "prepare": bulk_rows.items(bulk_rows.ITEMS),
            "check": bulk_items.results_are_wrong,
            **more,
        },
    )


ROWS = [
    row("main process of a worker killed", faults.kill_worker(whole=False)),
    row("whole worker killed", faults.kill_worker(whole=True)),
    row("warm shutdown of a worker", faults.shut_worker_down(signal.SIGTERM, 120)),
    row("cold shutdown of a worker", faults.shut_worker_down(signal.SIGQUIT, 60)),
    row("SIGTERM to all of a worker, 30 s", faults.shut_worker_down(signal.SIGTERM, 30, whole=True)),
    row("worker - api-server cut for 20 s", faults.cut(WORKER, API_SERVER, seconds=20)),
    row("worker - api-server cut for 130 s", faults.cut(WORKER, API_SERVER, seconds=130), seconds=150),
    row("worker cut off for 70 s", faults.cut(WORKER, seconds=70), seconds=90),
    row("worker - simulator cut for 60 s", faults.cut(WORKER, SIMULATOR, seconds=60), seconds=45),
    row("worker - broker cut for 75 s", faults.cut(WORKER, BROKER, seconds=75)),
    row("api-server away for 60 s", faults.api_server_away(60)),
    row("api-server away for 180 s", faults.api_server_away(180), seconds=90),
    row("api-server - database cut for 40 s", faults.cut(API_SERVER, DATABASE, seconds=40)),
    row("PostgreSQL restarted while all wait", faults.restart_database(signal.SIGINT, 8)),
    row("PostgreSQL crashes while all wait", faults.restart_database(signal.SIGQUIT, 20)),
    row(
        "PostgreSQL restarted while 50 wait and resume",
        faults.restart_database_twice,
        seconds=200,
        waits=DEFERRED,
        at_once=50,
    ),
    row("Redis emptied, twice", faults.empty_broker),
    row("scheduler failover, both ways", faults.fail_over_schedulers, seconds=45),
    row("scheduler - database cut for 40 s", faults.cut(SCHEDULER, DATABASE, seconds=40)),
    row("scheduler - broker cut for 40 s", faults.cut(SCHEDULER, BROKER, seconds=40), seconds=30),
    row(
        "triggerer - database cut for 60 s",
        faults.cut(TRIGGERER, DATABASE, seconds=60),
        waits=DEFERRED,
        roles=CLEARS,
    ),
    row(
        "triggerer - simulator cut for 60 s",
        faults.cut(TRIGGERER, SIMULATOR, seconds=60),
        waits=DEFERRED,
        roles=CLEARS,
    ),
    row(
        "triggerer cut off for 60 s",
        faults.cut(TRIGGERER, seconds=60),
        seconds=75,
        waits=DEFERRED,
        roles=CLEARS,
    ),
    row("a triggerer killed", faults.kill_triggerers(1, 30), waits=DEFERRED, roles=CLEARS),
    row("both triggerers away for 60 s", faults.kill_triggerers(2, 60), waits=DEFERRED, roles=CLEARS),
    row(
        "redelivery while it runs",
        faults.end_of_redelivery,
        seconds=100,
        waits=IN_WORKER,
        early_cluster_fault=faults.redeliver_after(60),
    ),
    row(
        "redelivery with an expired token",
        faults.end_of_redelivery,
        seconds=170,
        waits=IN_WORKER,
        early_cluster_fault=faults.redeliver_after(120),
    ),
    row(
        "XCom on object storage, a worker killed",
        faults.kill_worker_and_restore_xcom,
        early_cluster_fault=faults.xcom_on_object_storage,
    ),
    row(
        "ended by the trigger, XCom on object storage",
        faults.kill_worker_and_restore_xcom,
        waits=DEFERRED,
        early_cluster_fault=faults.xcom_on_object_storage,
        trial={"seconds": 40.0, "variant": "ended"},
    ),
    row(
        "upgrade while all wait",
        faults.upgrade,
        seconds=75,
        early_cluster_fault=faults.install_older_version,
    ),
    bulk("whole worker killed", faults.kill_worker(whole=True)),
    bulk("SIGTERM to all of a worker, 30 s", faults.shut_worker_down(signal.SIGTERM, 30, whole=True)),
    bulk("worker - api-server cut for 130 s", faults.cut(WORKER, API_SERVER, seconds=130), seconds=60),
    bulk("worker cut off for 70 s", faults.cut(WORKER, seconds=70), seconds=30),
    bulk("api-server away for 60 s", faults.api_server_away(60), seconds=30),
    bulk("PostgreSQL crashes", faults.restart_database(signal.SIGQUIT, 20)),
    bulk(
        "redelivery while it runs",
        faults.end_of_redelivery,
        seconds=45,
        early_cluster_fault=faults.redeliver_after(60),
    ),
    bulk(
        "both triggerers away for 60 s",
        faults.kill_triggerers(2, 60),
        seconds=bulk_rows.SECONDS_DEFERRED,
        waits=DEFERRED,
        prepare=bulk_rows.items(bulk_rows.ONE_WAVE),
    ),
]
