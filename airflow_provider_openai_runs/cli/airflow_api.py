# SPDX-License-Identifier: Apache-2.0
"""Airflow's REST API, as much of it as finding and ending runs needs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_openai_runs.runs.text import message_text

if TYPE_CHECKING:
    import httpx2

_PAGE = 100
_TRIES = 3
_NOT_FOUND = 404
_NOT_ALLOWED = frozenset({401, 403})
_SERVER_ERROR = 500
#: States of a task that still does, or will do, something. Those that only Airflow 3.3 knows come last.
LIVE_STATES = (
    *("scheduled", "queued", "running", "deferred", "restarting", "up_for_retry", "up_for_reschedule"),
    "awaiting_input",
)


class AirflowApiError(Exception):
    """
    Airflow cannot be asked, or refuses.

    :ivar status: the HTTP status; None if there was no answer.
    """

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInstance:
    """A task instance as Airflow shows it; ``started_at`` is Unix seconds."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    operator: str
    started_at: float | None
    rendered: Mapping[str, Any]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskInstance:
        """Read Airflow's form."""
        began = value.get("start_date")
        return cls(
            dag_id=value["dag_id"],
            run_id=value["dag_run_id"],
            task_id=value["task_id"],
            map_index=value["map_index"],
            state=value["state"],
            operator=value.get("operator") or "",
            started_at=datetime.fromisoformat(began).timestamp() if began else None,
            rendered=value.get("rendered_fields") or {},
        )

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What identifies it."""
        return self.dag_id, self.run_id, self.task_id, self.map_index

    @property
    def is_live(self) -> bool:
        """Whether the task still does something, or is going to."""
        return self.state in LIVE_STATES

    @property
    def path(self) -> str:
        """Where Airflow has it, without the map index."""
        run_id, task_id = quote(self.run_id, safe=""), quote(self.task_id, safe="")
        return f"/dags/{quote(self.dag_id, safe='')}/dagRuns/{run_id}/taskInstances/{task_id}"

    def __str__(self) -> str:
        index = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id}.{self.task_id}{index}"


class AirflowApi:
    """
    A client of ``/api/v2``; threads may share it. Reads are tried again, writes never.

    :param url: of the API server, as in ``[api] base_url``.
    :param token: as ``POST /auth/token`` returns it; without one, ``user`` and ``password`` get one.
    :raises AirflowApiError: from every method.
    """

    def __init__(
        self, url: str, *, token: str | None = None, user: str | None = None, password: str | None = None
    ) -> None:
        import httpx2  # noqa: PLC0415 # takes long to import

        self.url = url.rstrip("/")
        self._client: httpx2.Client = httpx2.Client(timeout=30, follow_redirects=True)
        self._token = token
        self._login = {"username": user, "password": password} if user else None

    def version(self) -> str:
        """Return Airflow's version."""
        return str(self._get("/version")["version"])

    def health(self) -> dict[str, str | None]:
        """Return the state of each component."""
        parts = self._get("/monitor/health")
        return {name: part.get("status") for name, part in parts.items() if isinstance(part, dict)}

    def has_state_store(self) -> bool:
        """Tell whether it has a task state store whose table is there (3.3)."""
        try:
            self._get("/dags/-/dagRuns/-/taskInstances/-/state-store", limit=1)
        except AirflowApiError as error:
            if error.status == _NOT_FOUND:
                return False
            raise
        return True

    def task_instances(self, **query: Any) -> Iterator[TaskInstance]:
        """Yield the task instances of all Dags that the filters leave; ``limit`` ends it after one page."""
        offset = 0
        while True:
            asked = {"limit": _PAGE, "offset": offset, "order_by": "id", **query}
            page = self._get("/dags/~/dagRuns/~/taskInstances", **asked)["task_instances"]
            yield from map(TaskInstance.from_json, page)
            offset += len(page)
            if len(page) < _PAGE or "limit" in query:
                return

    def task_instance(self, task: TaskInstance) -> TaskInstance:
        """Read a task instance again."""
        return TaskInstance.from_json(self._get(f"{task.path}{_index(task)}"))

    def check_dag(self, dag_id: str) -> None:
        """
        Make sure that there is such a Dag.

        :raises AirflowApiError: if Airflow does not know it.
        """
        try:
            self._get(f"/dags/{quote(dag_id, safe='')}")
        except AirflowApiError as error:
            if error.status != _NOT_FOUND:
                raise
            text = f"Airflow at {self.url} knows no Dag {dag_id!r}, and none of its tasks of late."
            raise AirflowApiError(text, status=_NOT_FOUND) from None

    def tasks_without(self, dag_id: str, argument: str) -> set[str]:
        """Return the ids of a Dag's tasks that have no templated argument of this name."""
        try:
            tasks = self._get(f"/dags/{quote(dag_id, safe='')}/tasks")["tasks"]
        except AirflowApiError as error:
            if error.status == _NOT_FOUND:  # the Dag is gone, its task instances are not
                return set()
            raise
        return {task["task_id"] for task in tasks if argument not in (task.get("template_fields") or ())}

    def stored(self, task: TaskInstance, key: str) -> Any:
        """Return what a task keeps in its state store; None if nothing, or if there is no store."""
        return self._value(f"{task.path}/state-store/{key}", task)

    def pushed(self, task: TaskInstance, key: str) -> Any:
        """Return an XCom of a task; None if there is none."""
        return self._value(f"{task.path}/xcomEntries/{key}", task)

    def link(self, task: TaskInstance, name: str) -> str:
        """Return one of a task's links as Airflow shows it, or nothing."""
        try:
            return str(self._get(f"{task.path}/links", map_index=task.map_index).get(name) or "")
        except AirflowApiError:
            return ""

    def mark_failed(self, task: TaskInstance) -> None:
        """Set a task instance to failed, as a user does in the browser."""
        self._call("PATCH", f"{task.path}{_index(task)}", json={"new_state": "failed"})

    def _value(self, path: str, task: TaskInstance) -> Any:
        try:
            return self._get(path, map_index=task.map_index)["value"]
        except AirflowApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    def _get(self, path: str, **query: Any) -> Any:
        tries = 0
        while True:
            tries += 1
            try:
                return self._call("GET", path, params=query)
            except AirflowApiError as error:
                lasting = error.status is not None and error.status < _SERVER_ERROR
                if lasting or tries == _TRIES:
                    raise
                time.sleep(0.2 * tries)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        public = path in {"/version", "/monitor/health"}
        headers = {} if public else {"Authorization": f"Bearer {self._authorize()}"}
        return self._send(method, f"{self.url}/api/v2{path}", headers=headers, **options)

    def _authorize(self) -> str:
        if self._token is None:
            # Without a login it is asked all the same: an Airflow for trying out gives a token to everybody.
            method, options = ("POST", {"json": self._login}) if self._login else ("GET", {})
            try:
                answer = self._send(method, f"{self.url}/auth/token", **options)
                self._token = str(answer["access_token"])
            except (AirflowApiError, KeyError, TypeError) as error:
                if isinstance(error, AirflowApiError) and error.status is None:
                    raise
                given = "These user and password get no token" if self._login else "It asks for a token"
                raise AirflowApiError(
                    f"{given} at {self.url}. Give --token (or AIRFLOW_CLI_TOKEN), or --user with "
                    "AIRFLOW_CLI_PASSWORD.",
                    status=401,
                ) from None
        return self._token

    def _send(self, method: str, url: str, **options: Any) -> Any:
        import httpx2  # noqa: PLC0415

        try:
            response = self._client.request(method, url, **options)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            why = message_text(error) or type(error).__name__
            raise AirflowApiError(f"Airflow cannot be reached at {self.url}: {why}") from None
        if response.is_success:
            try:
                return response.json() if response.content else None
            except ValueError:
                raise AirflowApiError(
                    f"What answers at {url} is no Airflow API.", status=_NOT_FOUND
                ) from None
        status = response.status_code
        text = f"{method} {url} was answered with {status}: {message_text(response.text, limit=200)}"
        if status in _NOT_ALLOWED:
            text += " The token's user may not do this."
        raise AirflowApiError(text, status=status)


def _index(task: TaskInstance) -> str:
    return f"/{task.map_index}" if task.map_index >= 0 else ""
