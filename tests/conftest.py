# SPDX-License-Identifier: Apache-2.0
"""
A throwaway Airflow, a fake edge of it for direct calls of ``execute``, and things on the simulator.

Airflow reads its environment when it is imported, so this file sets it first and imports Airflow only inside
of fixtures.
"""

# ruff: noqa: PLC0415 - Airflow and the HTTP client are imported by those who need them

from __future__ import annotations

import asyncio
import atexit
import copy
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import pytest

from tests.support import processes

if TYPE_CHECKING:
    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator

#: A worker of pytest-xdist has its own within that of the first process, which removes them all.
_HOME = tempfile.mkdtemp(
    prefix="airflow-openai-runs-",
    dir=os.environ["AIRFLOW_HOME"] if "PYTEST_XDIST_WORKER" in os.environ else None,
)
_EXAMPLES = Path(__file__).parents[1] / "example_dags"


def _use_a_throwaway_airflow() -> None:
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": _HOME,
        "AIRFLOW__CORE__DAGS_FOLDER": str(_EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    atexit.register(shutil.rmtree, _HOME, ignore_errors=True)


def _trust_a_single_authority() -> None:
    """To load all of them takes each client 20 ms, and nothing here speaks TLS."""
    end = "-----END CERTIFICATE-----"
    first, _, _ = certifi.contents().partition(end)
    bundle = Path(_HOME, "authority.pem")
    bundle.write_text(first[first.index("-----BEGIN") :] + end, encoding="ascii")
    os.environ["SSL_CERT_FILE"] = str(bundle)


_trust_a_single_authority()
_use_a_throwaway_airflow()


def _is_worker(config: pytest.Config) -> bool:
    """Say whether this is one of several processes of pytest-xdist, each with an Airflow of its own."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config):
        processes.mark()


def pytest_keyboard_interrupt() -> None:
    """Do not wait for workers that are in the middle of a test."""
    processes.end_all()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not _is_worker(config):
        for command in processes.end_all():
            print(f"Ended a process that was left behind: {command}")  # noqa: T201 - pytest's own has ended


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker run all tests that need Airflow's database, which takes seconds to make."""
    for item in items:
        if "airflow_db" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("airflow"))


_kept_to_the_end: list[object] = []


@pytest.fixture(scope="session")
def airflow_db() -> Iterator[None]:
    """Let Airflow run Dags, which takes seconds: only for tests that need it."""
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - nobody else's input
    with warnings.catch_warnings():
        # Airflow's own API server, on which dag.test() runs, warns of much when it is imported.
        warnings.simplefilter("ignore")
        from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI

        api = InProcessExecutionAPI()
        assert api.app
    # Its event loop is never closed, which pytest would hear of if it were collected before the end.
    _kept_to_the_end.append(api)
    with pytest.MonkeyPatch.context() as patch:
        # Below 3.3 it is built anew for each task, which takes 2 s.
        patch.setattr("airflow.sdk.execution_time.supervisor.in_process_api_server", lambda: api)
        yield


# -- the edge of Airflow -------------------------------------------------------------------------------------


@dataclass
class FakeTaskInstance:
    """What a worker's task instance offers to an operator; XComs go into a dict."""

    dag_id: str = "a_dag"
    run_id: str = "manual__2026-11-21"
    task_id: str = "ask"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 2
    xcoms: dict[str, Any] = field(default_factory=dict)
    #: The state that Airflow would give; an exception is raised.
    state: Any = "running"
    rescheduled_at: Any = None

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, *, task_ids: Any = None, key: str = "return_value", **_: Any) -> Any:
        assert task_ids in (None, self.task_id)
        return self.xcoms.get(key)

    def get_task_states(self, *, dag_id: str, run_ids: list[str], **_: Any) -> dict[str, Any]:
        assert dag_id == self.dag_id
        if isinstance(self.state, Exception):
            raise self.state
        name = self.task_id if self.map_index < 0 else f"{self.task_id}_{self.map_index}"
        return {run_ids[0]: {name: self.state}}

    def get_first_reschedule_date(self, _context: Any) -> Any:
        return self.rescheduled_at


@dataclass
class FakeStore:
    """Airflow's task state store (3.3+) in memory."""

    values: dict[str, Any] = field(default_factory=dict)
    writes: list[Any] = field(default_factory=list)
    _failures: dict[str, tuple[int, Exception]] = field(default_factory=dict)

    def fail(self, method: str, error: Exception, *, skip: int = 0) -> None:
        """Let every call of a method fail after the first ``skip``."""
        self._failures[method] = (skip, error)

    def heal(self) -> None:
        self._failures.clear()

    @property
    def record(self) -> Any:
        return self.values.get("openai_run")

    def get(self, key: str, default: Any = None) -> Any:
        self._perhaps_fail("get")
        return self.values.get(key, default)

    def set(self, key: str, value: Any, **_: Any) -> None:
        self._perhaps_fail("set")
        self.values[key] = json.loads(json.dumps(value))
        self.writes.append(self.values[key])

    def delete(self, key: str) -> None:
        self._perhaps_fail("delete")
        self.values.pop(key, None)

    def _perhaps_fail(self, method: str) -> None:
        if method not in self._failures:
            return
        skip, error = self._failures[method]
        self._failures[method] = (skip - 1, error)
        if skip <= 0:
            raise error


def _has_store() -> bool:
    import airflow.sdk

    return hasattr(airflow.sdk, "NEVER_EXPIRE")


@pytest.fixture
def store() -> FakeStore:
    if not _has_store():
        pytest.skip("Airflow has a task state store from 3.3 on")
    return FakeStore()


@pytest.fixture
def gone() -> Exception:
    """What Airflow raises for a write of an attempt that is not the current one any more."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    detail = {"status_code": 404, "message": "Not found"}
    return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))


@pytest.fixture
def context_of() -> Callable[..., dict[str, Any]]:
    """Make the context of a first attempt: of a store (None: below Airflow 3.3) and a task instance."""

    def make(store: FakeStore | None = None, **of_ti: Any) -> dict[str, Any]:
        return {
            "ti": FakeTaskInstance(**of_ti),
            "dag_run": None,
            **({} if store is None else {"task_state_store": store}),
        }

    return make


@pytest.fixture
def context(context_of: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Give the context of a first attempt, with a store where this Airflow has one."""
    return context_of(FakeStore() if _has_store() else None)


@pytest.fixture
def kept(context_of: Callable[..., dict[str, Any]], store: FakeStore) -> dict[str, Any]:
    """Give the context of a first attempt with the store ``store``."""
    return context_of(store)


def _again(context: dict[str, Any], **of_ti: Any) -> dict[str, Any]:
    ti = context["ti"]
    return {**context, "ti": replace(ti, xcoms={}, try_number=ti.try_number + 1, **of_ti)}


@pytest.fixture
def retry() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Make the context of the next attempt: XComs are gone, the store is the same."""
    return _again


@pytest.fixture
def clear() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Make the context after a user's clear, which raises ``max_tries``."""

    def make(context: dict[str, Any]) -> dict[str, Any]:
        ti = context["ti"]
        return _again(context, max_tries=ti.try_number + ti.max_tries)

    return make


@pytest.fixture
def capture_log(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[str]]:
    """Collect what an operator or a trigger logs; Airflow's own loggers are not pytest's."""

    def capture(owner: Any) -> list[str]:
        lines: list[str] = []

        def write(_level: int, text: str, arguments: tuple[Any, ...], **_: Any) -> None:
            lines.append(text % arguments if arguments else text)

        logger = logging.getLogger(f"captured.{id(owner)}")
        logger.setLevel(logging.INFO)
        monkeypatch.setattr(logger, "_log", write)
        monkeypatch.setattr(owner, "_cached_logger", logger, raising=False)
        monkeypatch.setattr(owner, "_log", logger, raising=False)
        return lines

    return capture


@pytest.fixture
def fire() -> Callable[[Any], Any]:
    """Run a trigger as a triggerer does, from its serialized form; return the payload of its one event."""
    from airflow.providers.common.compat.module_loading import import_string

    def run(trigger: Any) -> Any:
        path, kwargs = trigger.serialize()
        stored = json.loads(json.dumps(kwargs))

        async def events() -> list[Any]:
            return [event.payload async for event in import_string(path)(**stored).run()]

        fired = asyncio.run(events())
        assert len(fired) == 1
        return json.loads(json.dumps(fired[0]))

    return run


@pytest.fixture
def run_task(fire: Callable[[Any], Any]) -> Callable[..., Any]:
    """Run an attempt to its end, through the deferrals if there are any; return what goes to XCom."""
    from airflow.providers.common.compat.sdk import TaskDeferred

    def run(operator: Any, context: dict[str, Any]) -> Any:
        step: Callable[[], Any] = partial(copy.copy(operator).execute, context)
        while True:
            try:
                return step()
            except TaskDeferred as deferred:
                # The worker that resumes has parsed the Dag anew.
                kwargs = {**(deferred.kwargs or {}), "event": fire(deferred.trigger)}
                resume = copy.copy(operator).resume_execution
                step = partial(resume, deferred.method_name, kwargs, context)

    return run


# -- on the simulator ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _oracle() -> Any:
    from conformance.oracle import DESCRIPTION, Oracle

    return Oracle() if DESCRIPTION.is_file() else None


@pytest.fixture
def openai_runs_simulator(openai_runs_simulator: Simulator, _oracle: Any) -> Iterator[Simulator]:
    """Give the simulator; whatever the package asked it in a test must be documented."""
    yield openai_runs_simulator
    if _oracle is not None:
        _oracle.check(openai_runs_simulator.requests)


@pytest.fixture(scope="session")
def _http() -> Iterator[httpx2.Client]:
    import httpx2

    # Without the certificates, which take 70 ms to load: nothing here speaks TLS.
    with httpx2.Client(transport=httpx2.HTTPTransport(verify=False), timeout=5) as client:
        yield client


@pytest.fixture
def post(openai_runs_simulator: Simulator, _http: httpx2.Client) -> Callable[..., dict[str, Any]]:
    """Send a request to the simulator's API, past the package."""

    def send(path: str, **body: Any) -> dict[str, Any]:
        url = f"{openai_runs_simulator.base_url}{path}"
        headers = {"Authorization": "Bearer another-key", "OpenAI-Beta": "assistants=v2"}
        answer = _http.post(url, json=body, headers=headers)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    return send


@pytest.fixture
def assistant_id(post: Callable[..., dict[str, Any]]) -> str:
    return str(post("/assistants", model="gpt-4o-mini")["id"])


@pytest.fixture
def thread_id(post: Callable[..., dict[str, Any]]) -> str:
    return str(post("/threads", messages=[{"role": "user", "content": "Why is the sky blue?"}])["id"])
