# SPDX-License-Identifier: Apache-2.0
"""What an attempt says of its run before Airflow's SIGKILL: in time, however slow everything is, and true."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.attempts import end_run, kill
from airflow_provider_openai_runs.exceptions import OpenAIRunError
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.scene import FakeTaskInstance, Make, Scene
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("kill_seconds")

LONG = Scenario(queued=0.02, in_progress=500)
QUICK = Scenario(queued=0.01, in_progress=0.06)
#: The run itself, and what is read of it besides.
READS = r"^/(responses|threads)/"


@pytest.fixture
def start() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor() as pool:
        yield pool.submit


# -- a wait that is over -------------------------------------------------------------------------------------


def test_a_kill_during_the_last_read_says_how_the_run_has_ended(
    scene: Scene, create: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(QUICK)
    operator = create(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    event = scene.fire(deferred.value.trigger)
    scene.simulator.fault(Fault(method="GET", path=READS, status=500, times=2))
    lines = scene.log_of(operator)
    read = scene.simulator.count("GET", ".")
    working = start(operator.execute_complete, scene.kept, event)
    until(lambda: scene.simulator.count("GET", ".") > read)
    operator.on_kill()
    until(lambda: [line for line in lines if "The task was killed" in line])
    working.result(timeout=110)

    (said,) = [line for line in lines if "The task was killed" in line]
    assert scene.simulator.runs()[0]["id"] in said
    assert "The run had ended as completed" in said


def test_a_kill_between_the_end_of_the_run_and_its_result_says_how_the_run_has_ended(
    scene: Scene, run_on: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(QUICK)
    scene.simulator.fault(Fault(method="GET", path="/messages$", status=500, times=2))
    operator = run_on()
    working = start(operator.execute, scene.kept)
    until(lambda: scene.simulator.count("GET", "/messages$"))
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match=r"The task was killed.*The run had ended as completed"):
        working.result(timeout=110)


def test_an_error_after_the_end_of_the_run_says_how_it_has_ended(scene: Scene, create: Make) -> None:
    class Broken(FakeTaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            if key == "status":
                raise RuntimeError("XCom backend is away")
            super().xcom_push(key, value)

    scene.simulator.script(QUICK)
    operator = create()
    lines = scene.log_of(operator)
    with pytest.raises(RuntimeError):
        operator.execute({**scene.kept, "ti": Broken()})

    (said,) = [line for line in lines if "The attempt failed" in line]
    assert "The run had ended as completed" in said


# -- everything is slow --------------------------------------------------------------------------------------


class Silent(FakeTaskInstance):
    """A task instance whose Airflow never answers."""

    let_go: threading.Event

    def get_task_states(self, **wanted: Any) -> dict[str, Any]:
        self.let_go.wait(120)
        return super().get_task_states(**wanted)


@pytest.mark.parametrize("try_number", [1, 3], ids=["a retry left", "the last try"])
def test_the_fate_is_said_before_sigkill_though_nobody_answers(
    scene: Scene, create: Make, start: Callable[..., Future[Any]], try_number: int
) -> None:
    for name, seconds in {
        "KILL_SECONDS": 1.5,
        "KILL_SAY_SECONDS": 0.1,
        "KILL_ASK_SECONDS": 1.0,
        "KILL_ASK_ON_LAST_TRY": 0.6,
        "KILL_RECORD_SECONDS": 0.3,
        "LEAST_REPLY_TIMEOUT": 0.2,
    }.items():
        scene.monkeypatch.setattr(end_run, name, seconds)
    scene.monkeypatch.setattr(kill, "KILL_SECONDS", 1.5)
    # A request that is under way then is not given up before its own time is over.
    scene.monkeypatch.setattr(end_run, "KILL_POLL_SECONDS", 0.3)
    scene.monkeypatch.setattr("airflow_provider_openai_runs.wire.flows.LEAST_REPLY_TIMEOUT", 60.0)
    scene.simulator.script(LONG)
    operator = create(poll_interval=25)
    lines = scene.log_of(operator)
    ti = Silent(try_number=try_number)
    ti.let_go = threading.Event()
    working = start(operator.execute, {**scene.kept, "ti": ti})
    until(lambda: (scene.store.record or {}).get("ref"))
    until(lambda: scene.simulator.count("GET", "."))
    threading.Event().wait(0.3)  # it has its answer, and sleeps
    scene.simulator.fault(Fault(path=r"/(runs|responses)/", kind="slow", delay=3000, times=None))
    scene.monkeypatch.setattr(scene.store, "get", lambda *_: ti.let_go.wait(120) or None)
    began = time.monotonic()
    operator.on_kill()
    with pytest.raises(OpenAIRunError) as raised:
        working.result(timeout=110)
    took = time.monotonic() - began
    ti.let_go.set()

    assert took < 20, "each request had its own time, one after the other"
    (said,) = [line for line in lines if "The task was killed" in line]
    assert "running and billing" in said
    assert said == str(raised.value)
    assert scene.simulator.count("POST", "/cancel$") == (1 if try_number == 3 else 0)
    scene.simulator.advance(6000)
