# SPDX-License-Identifier: Apache-2.0
"""Airflow's REST API, as much of it as watching and disturbing a Dag run needs."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FINISHED_RUN = frozenset({"success", "failed"})
ATTEMPTS = 5


class RestError(RuntimeError):
    """Airflow answered with an error; ``status`` is the HTTP code."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def fetch_json(
    url: str,
    *,
    method: str = "GET",
    body: Any = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Send one JSON request to a server on this machine and return the decoded answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - always http://127.0.0.1
    request.add_header("Accept", "application/json")
    request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _DIRECT.open(request, timeout=30) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as error:
        detail = error.read().decode(errors="replace")[:1000]
        raise RestError(f"{method} {url}: {error.code} {detail}", error.code) from None
    return json.loads(text) if text else None


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine


class Rest:
    """A logged-in client. Identifiers are Airflow's; states are the strings that Airflow uses."""

    def __init__(self, address: str, user: str, password: str) -> None:
        self.address = address
        self._credentials = {"username": user, "password": password}
        self._token: str | None = None

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Call ``/api/v2<path>``. Reads are repeated after a 5xx or a lost connection; writes never."""
        url = f"{self.address}/api/v2{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        for attempt in range(ATTEMPTS):
            try:
                return fetch_json(url, method=method, body=body, token=self.token())
            except (OSError, RestError) as error:
                lasting = isinstance(error, RestError) and error.status < 500  # noqa: PLR2004
                if method != "GET" or lasting or attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.5)
        raise AssertionError("unreachable")

    def token(self) -> str:
        """Return what Airflow knows the user by; it is also the cookie of its pages."""
        if self._token is None:
            answer = fetch_json(f"{self.address}/auth/token", method="POST", body=self._credentials)
            self._token = str(answer["access_token"])
        return self._token

    def health(self) -> dict[str, str | None]:
        """Return the state of each component, for example ``{"scheduler": "healthy", ...}``."""
        answer = fetch_json(f"{self.address}/api/v2/monitor/health")
        return {name: part["status"] for name, part in answer.items() if part}

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Wait until the Dag has been read from its file."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.call("GET", f"/dags/{dag_id}")
            except RestError as error:
                if error.status != 404:  # noqa: PLR2004
                    raise
            else:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"no Dag {dag_id} after {timeout:.0f} s: {self.import_errors()}")
            time.sleep(0.5)

    def import_errors(self) -> dict[str, str]:
        """Return what went wrong while Dag files were read: file name to traceback."""
        errors = self.call("GET", "/importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in errors}

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a Dag run now and return its ``run_id``."""
        body = {"logical_date": None, "conf": conf or {}}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Read a Dag run."""
        return dict(self.call("GET", _run(dag_id, run_id)))

    def mark_run(self, dag_id: str, run_id: str, *, new_state: str) -> None:
        """Set a Dag run to ``success`` or ``failed``, which ends its task instances."""
        self.call("PATCH", _run(dag_id, run_id), {"state": new_state})

    def task_instances(self, dag_id: str = "~", run_id: str = "~") -> list[dict[str, Any]]:
        """Read every task instance of a run, mapped ones included; ``~`` means all."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", f"{_run(dag_id, run_id)}/taskInstances", limit=100, offset=len(found))
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Read one task instance."""
        return dict(self.call("GET", _task(dag_id, run_id, task_id, map_index)))

    def changes(
        self, dag_id: str = "~", run_id: str = "~", *, interval: float = 0.5
    ) -> Iterator[dict[str, Any] | None]:
        """Yield each task instance whenever its state differs from the last read, and None between reads.

        A state shorter than the interval can be missed. The caller decides when to stop.
        """
        seen: dict[str, tuple[str | None, int]] = {}
        while True:
            for instance in self.task_instances(dag_id, run_id):
                state = (instance["state"], instance["try_number"])
                if state != seen.get(instance["id"], (None, 0)):
                    seen[instance["id"]] = state
                    yield instance
            yield None
            time.sleep(interval)

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """Wait until the Dag run has ended and return its state."""
        deadline = time.monotonic() + timeout
        while (state := self.dag_run(dag_id, run_id)["state"]) not in FINISHED_RUN:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dag_id} {run_id} is still {state} after {timeout:.0f} s")
            time.sleep(0.5)
        return str(state)

    def wait_for_state(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: set[str],
        *,
        map_index: int = -1,
        timeout: float = 60,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of the states and return it."""
        deadline = time.monotonic() + timeout
        while (found := self.task_instance(dag_id, run_id, task_id, map_index))["state"] not in states:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dag_id}.{task_id} is {found['state']}, not {states}")
            time.sleep(0.25)
        return found

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """Read what a task left behind; None if it left nothing."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        try:
            return self.call("GET", path, map_index=map_index)["value"]
        except RestError as error:
            if error.status != 404:  # noqa: PLR2004
                raise
            return None

    def clear(self, dag_id: str, run_id: str, *task_ids: str | tuple[str, int]) -> None:
        """Clear task instances in any state, so that they run again; ``(task_id, map_index)`` for one."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def mark(self, dag_id: str, run_id: str, task_id: str, *, new_state: str, map_index: int = -1) -> None:
        """Set a task instance to ``success``, ``failed`` or ``skipped``, as a user does in the browser."""
        self.call("PATCH", _task(dag_id, run_id, task_id, map_index), {"new_state": new_state})

    def question(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Read what a task asks a person."""
        return dict(self.call("GET", _question(dag_id, run_id, task_id, map_index)))

    def decide(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, *, option: str) -> None:
        """Answer a task that asks a person."""
        body = {"chosen_options": [option], "params_input": {}}
        self.call("PATCH", _question(dag_id, run_id, task_id, map_index), body)

    def logs(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Read the log of one attempt, one line an event."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}"
        content = self.call("GET", path, full_content=True, map_index=map_index)["content"]
        return "\n".join(line if isinstance(line, str) else str(line.get("event", line)) for line in content)


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='~')}"


def _task(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    suffix = "" if map_index < 0 else f"/{map_index}"
    return f"{_run(dag_id, run_id)}/taskInstances/{task_id}{suffix}"


def _question(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    return f"{_run(dag_id, run_id)}/taskInstances/{task_id}/{map_index}/hitlDetails"
