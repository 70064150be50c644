# SPDX-License-Identifier: Apache-2.0
"""
The scene of a test: the simulator, and as much of Airflow as a direct call of ``execute`` sees.

Airflow reads its environment when it is imported, so it is imported only where it is used.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator

#: Makes an operator or a sensor from its arguments.
Make = Callable[..., Any]
#: What a create of either kind is called on the wire.
CREATES = r"^/(responses|threads/[^/]+/runs)$"


_numbers = count()
#: The state of a task instance that was deleted with its Dag run.
GONE = "gone"


def host(simulator: Simulator) -> str:
    """Return the address of a simulator without its path, as a record keeps it."""
    return simulator.base_url.removesuffix("/v1")


@dataclass
class FakeTaskInstance:
    """What a worker's task instance offers to an operator; XComs go into a dict."""

    dag_id: str = "a_dag"
    run_id: str = "manual__2026-11-21"
    task_id: str = "ask"
    map_index: int = -1
    #: Another one in each attempt; a later one is greater.
    id: str = field(default_factory=lambda: f"ti-{next(_numbers):06d}")
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
        if self.state == GONE:
            return {}
        name = self.task_id if self.map_index < 0 else f"{self.task_id}_{self.map_index}"
        return {run_ids[0]: {name: self.state}}

    def get_first_reschedule_date(self, _context: Any) -> Any:
        return self.rescheduled_at


@dataclass
class FakeStore:
    """Airflow's task state store (3.3+) in memory."""

    values: dict[str, Any] = field(default_factory=dict)
    writes: list[Any] = field(default_factory=list)
    #: How many calls have failed.
    failed: int = 0
    _failures: dict[str, tuple[int, BaseException]] = field(default_factory=dict)

    def fail(self, method: str, error: BaseException, *, skip: int = 0) -> None:
        """Let every call of a method fail after the first ``skip``."""
        self._failures[method] = (skip, error)

    def recover(self) -> None:
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
            self.failed += 1
            raise error


def _has_store() -> bool:
    from tests.support.airflow_versions import HAS_STORE

    return HAS_STORE


@dataclass(kw_only=True)
class Scene:
    """
    What a test of an operator, a sensor or a trigger stands on.

    Contexts are ``Any``: they are a part of Airflow's.

    :param simulator: the server that the connection ``openai_default`` leads to.
    :param http: a client for requests past the package.
    """

    simulator: Simulator
    http: httpx2.Client
    monkeypatch: pytest.MonkeyPatch

    # -- the edge of Airflow

    @cached_property
    def context(self) -> Any:
        """The context of a first attempt, with a store where this Airflow has one."""
        return self.context_of(FakeStore() if _has_store() else None)

    @cached_property
    def kept(self) -> Any:
        """The context of a first attempt with the store ``store``."""
        return self.context_of(self.store)

    @cached_property
    def store(self) -> FakeStore:
        """A task state store; without one in this Airflow, the test is skipped."""
        if not _has_store():
            pytest.skip("Airflow has a task state store from 3.3 on")
        return FakeStore()

    def context_of(self, store: FakeStore | None = None, **of_ti: Any) -> Any:
        """Make the context of a first attempt: of a store (None: below Airflow 3.3) and a task instance."""
        return {
            "ti": FakeTaskInstance(**of_ti),
            "dag_run": None,
            **({} if store is None else {"task_state_store": store}),
        }

    def retry(self, context: Any, **of_ti: Any) -> Any:
        """Make the context of the next attempt: XComs are gone, the store is the same."""
        ti = context["ti"]
        changes = {"xcoms": {}, "id": FakeTaskInstance().id, "try_number": ti.try_number + 1, **of_ti}
        return {**context, "ti": replace(ti, **changes)}

    def clear(self, context: Any) -> Any:
        """Make the context after a user's clear, which raises ``max_tries``."""
        ti = context["ti"]
        return self.retry(context, max_tries=ti.try_number + ti.max_tries)

    @cached_property
    def gone(self) -> Exception:
        """What Airflow raises for a write of an attempt that is not the current one any more."""
        from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse

        detail = {"status_code": 404, "message": "Not found"}
        return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))

    def log_of(self, owner: Any) -> list[str]:
        """Collect what an operator or a trigger logs; Airflow's own loggers are not pytest's."""
        lines: list[str] = []

        def write(_level: int, text: str, arguments: tuple[Any, ...], **_: Any) -> None:
            lines.append(text % arguments if arguments else text)

        # A set-up of logging may have disabled what getLogger returns.
        logger = logging.Logger("captured")  # noqa: LOG001 - for the line above
        logger.setLevel(logging.INFO)
        self.monkeypatch.setattr(logger, "_log", write)
        self.monkeypatch.setattr(owner, "_cached_logger", logger, raising=False)
        self.monkeypatch.setattr(owner, "_log", logger, raising=False)
        return lines

    # -- what Airflow does

    def fire(self, trigger: Any) -> Any:
        """Run a trigger as a triggerer does, serialized; return the payload of its one event."""
        from airflow.providers.common.compat.module_loading import import_string

        path, kwargs = trigger.serialize()
        stored = json.loads(json.dumps(kwargs))

        async def events() -> list[Any]:
            return [event.payload async for event in import_string(path)(**stored).run()]

        fired = asyncio.run(events())
        assert len(fired) == 1
        return json.loads(json.dumps(fired[0]))

    def run(self, operator: Any, context: Any = None) -> Any:
        """
        Run an attempt to its end, through the deferrals if there are any; return what goes to XCom.

        :param context: ``self.context`` if it is None.
        """
        from airflow.providers.common.compat.sdk import TaskDeferred

        context = self.context if context is None else context
        step: Callable[[], Any] = partial(copy.copy(operator).execute, context)
        while True:
            try:
                return step()
            except TaskDeferred as deferred:
                # The worker that resumes has parsed the Dag anew.
                kwargs = {**(deferred.kwargs or {}), "event": self.fire(deferred.trigger)}
                resume = copy.copy(operator).resume_execution
                step = partial(resume, deferred.method_name, kwargs, context)

    # -- the simulator, past the package

    @contextmanager
    def time_stands_still(self) -> Iterator[None]:
        """Keep the simulator's runs as they are, however slow a worker is; only ``advance`` moves them."""
        clock = self.simulator._store.clock
        now = clock.now() - clock._skipped
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clock, "now", lambda: now + clock._skipped)
            yield

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Send a request to the simulator's API as somebody else."""
        return self._asked("POST", path, json=body)

    def get(self, path: str) -> dict[str, Any]:
        """Read something of the simulator's as somebody else."""
        return self._asked("GET", path)

    def _asked(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        headers = {"Authorization": "Bearer another-key", "OpenAI-Beta": "assistants=v2"}
        answer = self.http.request(method, f"{self.simulator.base_url}{path}", headers=headers, **request)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    @cached_property
    def assistant_id(self) -> str:
        return str(self.post("/assistants", model="gpt-4o-mini")["id"])

    @cached_property
    def thread_id(self) -> str:
        messages = [{"role": "user", "content": "Why is the sky blue?"}]
        return str(self.post("/threads", messages=messages)["id"])

    def creates(self) -> int:
        """Count the creates of runs of either kind that were sent."""
        return self.simulator.count("POST", CREATES)
