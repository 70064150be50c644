# SPDX-License-Identifier: Apache-2.0
"""Real signals on the main thread, and Airflow's own channel to its supervisor, whose lock they may meet."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_openai_runs.attempts import end_run
from airflow_provider_openai_runs.exceptions import OpenAIRunError
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import FakeTaskInstance, Make, Scene
from tests.support.supervisor import Supervisor, channel

LONG = Scenario(queued=0.02, in_progress=500)

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread"
)


@dataclass
class AskingTaskInstance(FakeTaskInstance):
    """A task instance that asks through Airflow's channel for the state of the task."""

    def get_task_states(self, **wanted: Any) -> dict[str, Any]:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415

        return RuntimeTaskInstance.get_task_states(**wanted)


@pytest.fixture
def supervisor(scene: Scene) -> Iterator[Supervisor]:
    assert scene.store is not None  # skipped below Airflow 3.3
    supervisor = Supervisor()
    with channel(supervisor, scene.monkeypatch):
        yield supervisor


@pytest.fixture
def context(supervisor: Supervisor) -> Any:
    """The context of an attempt that asks and stores through the channel."""
    from airflow.sdk.execution_time.context import TaskStateStoreAccessor  # noqa: PLC0415 # 3.3+

    nowhere_else: Any = None
    store = TaskStateStoreAccessor(uuid.uuid4(), nowhere_else)
    return {"ti": AskingTaskInstance(), "dag_run": None, "task_state_store": store}


@contextmanager
def handled(number: int, handler: Callable[..., None]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(number, before)


def sigterm_when(supervisor: Supervisor, question: str, times: int = 1) -> None:
    """Send SIGTERM to this process as soon as a question of the task has arrived, before it is answered."""

    def send() -> None:
        supervisor.wait_for(question, times)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize(("state", "fate"), [("running", "left to the retry"), ("failed", "was cancelled")])
def test_a_kill_in_the_middle_of_a_question_to_the_supervisor_still_asks_for_the_state(
    scene: Scene, create: Make, supervisor: Supervisor, context: Any, state: str, fate: str
) -> None:
    scene.simulator.script(LONG)
    operator = create()
    supervisor.state = state
    # The second write, with the ref of the run, is under way when the signal arrives.
    supervisor.delays = {"SetTaskStateStore": 0.15}
    took: list[float] = []

    def on_term(*_: object) -> None:
        began = time.monotonic()
        operator.on_kill()
        took.append(time.monotonic() - began)

    with handled(signal.SIGTERM, on_term):
        sigterm_when(supervisor, "SetTaskStateStore", times=2)
        with pytest.raises(OpenAIRunError, match=fate):
            operator.execute(context)

    assert len(took) == 1
    # A handler that asked would wait for the answer that it has interrupted, for seconds.
    assert took[0] < 2
    assert "GetTaskStates" in supervisor.asked
    assert bool(scene.simulator.active()) is (state == "running")


def test_a_kill_while_the_intent_is_written_sends_nothing_and_takes_it_back(
    scene: Scene, create: Make, supervisor: Supervisor, context: Any
) -> None:
    operator = create()
    supervisor.delays = {"SetTaskStateStore": 0.1}
    with handled(signal.SIGTERM, lambda *_: operator.on_kill()):
        sigterm_when(supervisor, "SetTaskStateStore")
        with pytest.raises(OpenAIRunError, match="Nothing had been created"):
            operator.execute(context)

    assert scene.creates() == 0
    assert supervisor.stored == {}


def test_a_supervisor_without_an_api_server_leaves_the_run_to_the_retry_and_names_it(
    scene: Scene, create: Make, supervisor: Supervisor, context: Any
) -> None:
    scene.simulator.script(LONG)
    scene.monkeypatch.setattr(end_run, "KILL_ASK_SECONDS", 0.3)
    operator = create()
    lines = scene.log_of(operator)
    supervisor.state = None
    with handled(signal.SIGTERM, lambda *_: operator.on_kill()):
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        with pytest.raises(OpenAIRunError, match="left to the retry"):
            operator.execute(context)

    (run,) = scene.simulator.active()
    assert any(run["id"] in line and "did not say whether the task goes on" in line for line in lines)


def time_is_over(*_: object) -> None:
    raise AirflowTaskTimeout("Timeout")


def test_execution_timeout_in_the_middle_of_a_question_leaves_no_answer_for_the_next_one(
    scene: Scene, create: Make, supervisor: Supervisor, context: Any
) -> None:
    scene.simulator.script(LONG)
    operator = create()
    # The answer to the interrupted write is read by the question for the state, which is asked again.
    supervisor.delays = {"SetTaskStateStore": 0.1}
    supervisor.state = "queued"

    def interrupt() -> None:
        supervisor.wait_for("SetTaskStateStore", 2)
        os.kill(os.getpid(), signal.SIGALRM)

    with handled(signal.SIGALRM, time_is_over):
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(AirflowTaskTimeout):
            operator.execute(context)
    operator.on_kill()

    assert len(scene.simulator.active()) == 1  # another attempt, which is queued, goes on with it
