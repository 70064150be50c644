# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_openai_runs.attempts import end_run, kill
from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator
from tests.support.scene import Scene

#: How long a kill asks, polls and waits (``runs/budgets.py``).
_KILL_SECONDS = [
    *("KILL_SECONDS", "KILL_ASK_SECONDS", "KILL_ASK_ON_LAST_TRY", "KILL_POLL_SECONDS", "KILL_RECORD_SECONDS"),
]


@pytest.fixture
def kill_seconds() -> None:
    """Keep the seconds that a kill has, for tests about them."""


@pytest.fixture(autouse=True)
def _kills_take_their_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a killed attempt the time that its end takes on a busy machine, but in tests of that time."""
    if "kill_seconds" in request.fixturenames:
        return
    for module in (end_run, kill):
        for name in (name for name in _KILL_SECONDS if hasattr(module, name)):
            monkeypatch.setattr(module, name, 10 * getattr(module, name))


@pytest.fixture
def respond(scene: Scene) -> Callable[..., CreateResponseOperator]:
    """Make an operator for a response; it polls often, so that tests are quick."""

    def make(**arguments: Any) -> CreateResponseOperator:
        given = {
            "task_id": "ask",
            "model": "gpt-4o-mini",
            "input": "Why is the sky blue?",
            "completion_window": 30,
            "poll_interval": 0.03,
            "deferrable": False,
        }
        return CreateResponseOperator(**{**given, **arguments})

    return make


@pytest.fixture
def run_on(scene: Scene, assistant_id: str, thread_id: str) -> Callable[..., CreateRunOperator]:
    """Make an operator for a run on the thread ``thread_id``, or on ``thread`` if that is given."""

    def make(**arguments: Any) -> CreateRunOperator:
        given = {
            "task_id": "ask",
            "assistant_id": assistant_id,
            "completion_window": 30,
            "poll_interval": 0.03,
            "deferrable": False,
            **({} if "thread" in arguments else {"thread_id": thread_id}),
        }
        return CreateRunOperator(**{**given, **arguments})

    return make


@pytest.fixture(params=["response", "thread run"])
def create(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make an operator of either kind, from arguments that both have."""
    name = "respond" if request.param == "response" else "run_on"
    found: Callable[..., Any] = request.getfixturevalue(name)
    return found


class Pages:
    """
    What Airflow keeps: to write the page of a task instance again wipes the answer.

    :param refreshes: whether the new page is then shown (Airflow 3.4), or still the first one.
    """

    def __init__(self, *, refreshes: bool = False) -> None:
        self.refreshes = refreshes
        self.page: Any = None
        self.answer: dict[str, Any] | None = None
        self.written = 0

    def send(self, msg: Any) -> Any:
        if msg.type != "CreateHITLDetailPayload":
            return None
        self.written += 1
        if self.page is None or self.refreshes:
            self.page = msg
        self.answer = None
        return self.page

    def answered(self, option: str = "Approve", **entered: Any) -> dict[str, Any]:
        """Answer as a person does in a browser, which sends every field; return the event."""
        untouched = {name: field["value"] for name, field in self.page.params.items()}
        self.answer = {
            "chosen_options": [option],
            "params_input": json.loads(json.dumps(untouched | entered)),
            "responded_at": datetime.now(UTC),
            "responded_by_user": {"id": "ann", "name": "Ann"},
            "timedout": False,
        }
        return self.answer

    def timed_out(self) -> dict[str, Any]:
        """Answer as the scheduler does at the end of the time."""
        return {**self.answered(*self.page.defaults), "responded_by_user": None, "timedout": True}


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    """The pages of Airflow 3.3."""
    return _pages_of(monkeypatch, "1.3.2", refreshes=False)


@pytest.fixture
def refreshed_pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    """The pages of Airflow 3.4."""
    return _pages_of(monkeypatch, "1.4.0b2", refreshes=True)


def _pages_of(monkeypatch: pytest.MonkeyPatch, sdk: str, *, refreshes: bool) -> Pages:
    found = Pages(refreshes=refreshes)
    monkeypatch.setattr("airflow.sdk.__version__", sdk)
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", found, raising=False)
    return found
