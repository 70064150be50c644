# SPDX-License-Identifier: Apache-2.0
"""The runs that an Airflow has on record, and what their servers say of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from airflow_provider_openai_runs.attempts.record_store import KEY as RECORD_KEY
from airflow_provider_openai_runs.cli.airflow_api import (
    LIVE_STATES,
    AirflowApi,
    AirflowApiError,
    TaskInstance,
)
from airflow_provider_openai_runs.cli.connections import Connections, conn_id_of
from airflow_provider_openai_runs.links import OpenAIRunLink
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, RunRef
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.text import message_text

T = TypeVar("T")
U = TypeVar("U")

#: Requests at a time.
_THREADS = 8
#: Operators that push the ``ref`` of a run which is not theirs: they wait for it, read it or end it.
_READERS = frozenset(
    {
        *("GetResponseOperator", "GetThreadRunOperator", "CancelRunOperator"),
        *("ResponseSensor", "ThreadRunSensor"),
    }
)
_NOT_VALID = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """
    A run that a task instance is responsible for.

    :param ref: None of a create whose answer was lost, or has not come yet.
    :param kind: as in the ref; of a lost create, as far as the task's arguments tell it.
    :param token: what the run has in its metadata under ``airflow_token``.
    :param since: Unix seconds: when it was created, or the create was sent; None if that is not known.
    :param raw_status: as its server calls it; None if nobody could be asked.
    :param active: whether it may work and bill; None if that is not known.
    :param note: why something is not known.
    """

    task: TaskInstance
    ref: RunRef | None
    kind: str
    conn_id: str
    token: str | None = None
    since: float | None = None
    raw_status: str | None = None
    active: bool | None = None
    page: str = ""
    note: str = ""
    record: Record | None = None

    @property
    def id(self) -> str:
        """What a person names it by: the run's id, or the token of a lost create."""
        return self.ref.id if self.ref else str(self.token)

    def to_json(self) -> dict[str, Any]:
        """Return the form for scripts."""
        task = self.task
        return {
            "id": self.ref.id if self.ref else None,
            "kind": self.kind,
            "conn_id": self.conn_id,
            "thread_id": self.ref.thread_id if self.ref else self.record and self.record.thread_id,
            "token": self.token,
            "dag_id": task.dag_id,
            "run_id": task.run_id,
            "task_id": task.task_id,
            "map_index": task.map_index,
            "state": task.state,
            "since": self.since,
            "status": self.raw_status,
            "active": self.active,
            "url": self.page or None,
            "note": self.note or None,
        }


class Finder:
    """
    Finds the runs of task instances, whatever the state of these: an orphan belongs to one that has ended.

    :param api: Airflow's.
    :param connections: to ask the servers.
    """

    def __init__(self, api: AirflowApi, connections: Connections) -> None:
        self._api = api
        self._connections = connections

    def find(self, *, days: float, dag_id: str | None = None) -> list[FoundRun]:
        """Return the runs of tasks that changed in the last days, or still go on."""
        return self.runs_of(self._tasks(days, dag_id))

    def runs_of(self, tasks: Iterable[TaskInstance]) -> list[FoundRun]:
        """Return the runs that these task instances are responsible for."""
        # Of two tasks with the same run, such as one that asks and one that answers, the one at work counts.
        ordered = sorted(tasks, key=lambda task: (task.is_live, task.started_at or 0.0))
        on_record = [run for run in _each(self._on_record, ordered) if run is not None]
        runs = {_identity(run): run for run in on_record}
        return sorted(_each(self._asked, list(runs.values())), key=lambda run: run.since or 0.0)

    def _tasks(self, days: float, dag_id: str | None) -> list[TaskInstance]:
        since = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        found = {task.key: task for task in self._api.task_instances(updated_at_gte=since)}
        found |= {task.key: task for task in self._live()}
        tasks = [task for task in found.values() if dag_id in {None, task.dag_id}]
        if dag_id is not None and not tasks:
            self._api.check_dag(dag_id)
        dags = sorted({task.dag_id for task in tasks})
        # What creates runs has this argument, whatever its class is called (the rendered ones are kept of the
        # newest task instances only). A task that its Dag does not have any more may have been one of ours.
        without = _each(lambda dag: self._api.tasks_without(dag, "completion_window"), dags)
        others = {(dag, task_id) for dag, ids in zip(dags, without, strict=True) for task_id in ids}
        return [task for task in tasks if (task.dag_id, task.task_id) not in others and task.started_at]

    def _live(self) -> list[TaskInstance]:
        try:
            return list(self._api.task_instances(state=LIVE_STATES))
        except AirflowApiError as error:
            if error.status != _NOT_VALID:
                raise
            return list(self._api.task_instances(state=LIVE_STATES[:-1]))

    def _on_record(self, task: TaskInstance) -> FoundRun | None:
        try:
            stored = self._api.stored(task, RECORD_KEY)
            record = Record.from_json(stored)
            if record is not None:
                return _of_record(task, record)
            pushed = None if task.operator in _READERS else self._api.pushed(task, "ref")
            return _of_ref(task, RunRef.from_json(pushed)) if pushed else None
        except (AirflowApiError, OpenAIRunError, ValueError, TypeError) as error:
            # One record that nobody can read must not hide the others.
            return replace(_of_intent(task), note=f"Its record cannot be read: {message_text(error)}")

    def _asked(self, run: FoundRun) -> FoundRun:
        """Add to a run what its server says."""
        ref = run.ref or self._search(run)
        if ref is None:
            return run
        answer = self._connections.poll(ref)
        page = self._connections.page(ref) or self._api.link(run.task, OpenAIRunLink.name)
        run = replace(run, ref=ref, page=page, note="")
        elsewhere = self._connections.elsewhere(ref.conn_id, run.record.account) if run.record else ""
        match answer:
            case PollResult():
                # A response that waits for answers has completed, and bills nothing.
                return replace(run, raw_status=answer.raw_status, active=answer.status.is_active)
            case RequestFailure() if answer.says_gone and not elsewhere:
                return replace(run, raw_status="gone", active=False, note=str(answer))
            case RequestFailure():
                return replace(run, note=f"Its server does not say: {_described(answer, elsewhere)}")
            case _:
                why = self._connections.unusable.get(ref.conn_id, "")
                return replace(run, note=f"Connection {ref.conn_id!r} is not usable here: {why}")

    def _search(self, run: FoundRun) -> RunRef | None:
        """Search for the run of a lost create."""
        if run.record is None:
            return None
        return self._connections.search(run.record, run.kind, run.conn_id)


def _described(answer: RequestFailure, elsewhere: str) -> str:
    return f"{elsewhere} ({answer})" if elsewhere and answer.says_gone else str(answer)


def _of_record(task: TaskInstance, record: Record) -> FoundRun:
    if record.run is not None:
        found = _of_ref(task, record.run.ref)
        return replace(
            found, token=record.token, since=record.run.created_at or record.intent_at, record=record
        )
    if record.unreadable:
        return replace(_of_intent(task), note=f"Its record cannot be read: {record.unreadable}")
    waits = "has not been answered yet" if task.is_live else "was never answered"
    return replace(
        _of_intent(task),
        token=record.token,
        since=record.intent_at,
        record=record,
        note=f"Its create {waits}: a run may be going on. Its metadata would have the token.",
    )


def _of_ref(task: TaskInstance, ref: RunRef) -> FoundRun:
    return FoundRun(task=task, ref=ref, kind=ref.kind, conn_id=ref.conn_id, since=task.started_at)


def _of_intent(task: TaskInstance) -> FoundRun:
    answers = task.rendered.get("ref")
    of_thread = "assistant_id" in task.rendered or (
        isinstance(answers, dict) and answers.get("kind") == RunKind.THREAD_RUN
    )
    return FoundRun(
        task=task,
        ref=None,
        kind=RunKind.THREAD_RUN if of_thread else RunKind.RESPONSE,
        conn_id=conn_id_of(task.rendered),
        since=task.started_at,
    )


def _identity(run: FoundRun) -> object:
    """Return what two entries have in common that are one run, such as that of a task and of its copy."""
    return (run.ref.kind, run.ref.id, run.ref.conn_id) if run.ref else run.task.key


def _each(function: Callable[[T], U], values: Sequence[T]) -> list[U]:
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(function, values))


def age_of(run: FoundRun, *, now: float | None = None) -> str:
    """Return how old a run is, as people read it."""
    if run.since is None:
        return ""
    seconds = max(0, int((time.time() if now is None else now) - run.since))
    if seconds < 120:  # noqa: PLR2004 # until then seconds say more
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004
