# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator


@pytest.fixture
def respond(openai_runs_simulator: Any) -> Callable[..., CreateResponseOperator]:
    """Make an operator for a response; it looks often, so that tests are quick."""

    def make(**arguments: Any) -> CreateResponseOperator:
        given = {
            "task_id": "ask",
            "model": "gpt-4o-mini",
            "input": "Why is the sky blue?",
            "completion_window": 30,
            "poll_interval": 0.05,
            "deferrable": False,
        }
        return CreateResponseOperator(**{**given, **arguments})

    return make


@pytest.fixture
def run_on(openai_runs_simulator: Any, assistant_id: str, thread_id: str) -> Callable[..., CreateRunOperator]:
    """Make an operator for a run on the thread ``thread_id``, or on ``thread`` if that is given."""

    def make(**arguments: Any) -> CreateRunOperator:
        given = {
            "task_id": "ask",
            "assistant_id": assistant_id,
            "completion_window": 30,
            "poll_interval": 0.05,
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


#: What a create of either kind is called on the wire.
CREATES = r"^/(responses|threads/[^/]+/runs)$"


@pytest.fixture
def creates(openai_runs_simulator: Any) -> Callable[[], int]:
    """Count the creates of runs of either kind that were sent."""
    return lambda: int(openai_runs_simulator.count("POST", CREATES))
