# SPDX-License-Identifier: Apache-2.0
"""
Puts deferred task instances into Airflow's database, as if workers had handed them over, and reads them.

    python -m dev.benchmarks.deferred put '{"contender": "ours", "ends": [0.5, 3], "interval": 10, …}'
    python -m dev.benchmarks.deferred read '{"until": 1795305600}'

Runs in the environment of a live Airflow. A thousand tasks through workers would take a quarter of an hour on
two cores. The triggerer sees no difference: it reads rows of triggers, and of mapped task instances.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.models.connection import Connection
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.providers.openai.triggers.agent import OpenAIAgentSessionTrigger
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select

from airflow_provider_openai_runs.triggers import RunCompletionTrigger
from dev.benchmarks.contenders import FAR, Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.triggers.base import BaseTrigger

_DAG, _CONNECTION = "ended_by_worker", "openai_default"
_RUN_AGE = 600.0


def put(*, contender: str, ends: list[float], interval: float, base_url: str) -> float:
    """
    Defer one mapped task instance for each run, all in one transaction, and return when it was committed.

    :param ends: for each run, in seconds from the start of the ends, which the server hears later.
    """
    run = trigger_dag(_DAG, triggered_by=DagRunTriggeredByType.TEST)
    if run is None:
        raise RuntimeError(f"{_DAG} was not started")
    now = datetime.now(UTC)
    with create_session() as session:
        # In the database, where most deployments have it: each lookup goes through the supervisor.
        session.add(Connection(_CONNECTION, conn_type="openai", password="sk-bench", host=base_url))  # noqa: S106 - the bench's own server
        session.merge(run).state = DagRunState.RUNNING
        for instance in session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id)):
            number = instance.map_index
            plan = Plan(number=number, age=_RUN_AGE, ends_at=ends[number], interval=interval)
            instance.trigger = Trigger.from_object(_trigger(contender, plan))
            instance.state = TaskInstanceState.DEFERRED
            instance.start_date = instance.queued_dttm = now - timedelta(seconds=_RUN_AGE)
            instance.try_number = 1
            instance.next_method = "execute_complete"
            instance.next_kwargs = {}
    return time.time()


def _trigger(contender: str, plan: Plan) -> BaseTrigger:
    now = time.time()
    if contender == "session":
        return OpenAIAgentSessionTrigger(
            conn_id=_CONNECTION,
            session_id=plan.id("session"),
            poll_interval=plan.interval or 10.0,
            end_time=now + FAR,
        )
    return RunCompletionTrigger(
        ref={"kind": "response", "id": plan.id("resp"), "conn_id": _CONNECTION},
        created_at=now - plan.age,
        deadline=now + FAR,
        poll_interval=plan.interval,
    )


def read(*, until: float) -> list[dict[str, Any]]:
    """
    Wait until no task instance is deferred any more, and return what Airflow wrote for each.

    :param until: Unix seconds; who is deferred then has had no event.
    """
    query = select(TaskInstance).where(TaskInstance.dag_id == _DAG)
    deferred = query.where(TaskInstance.state == TaskInstanceState.DEFERRED).limit(1)
    with create_session() as session:
        while session.scalars(deferred).first() is not None and time.time() < until:
            session.rollback()
            time.sleep(2)
        return [
            {
                "number": found.map_index,
                "event_at": found.scheduled_dttm.timestamp() if found.scheduled_dttm else None,
                "event": found.next_kwargs,
            }
            for found in session.scalars(query)
        ]


def main() -> None:
    """Do the one or the other, and print JSON as the last line."""
    commands: dict[str, Callable[..., Any]] = {"put": put, "read": read}
    do = commands[sys.argv[1]]
    print(json.dumps(do(**json.loads(sys.argv[2]))), flush=True)


if __name__ == "__main__":
    main()
