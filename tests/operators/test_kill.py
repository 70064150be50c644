# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_openai_runs.exceptions import OpenAIRunError
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.scene import CREATES, GONE, Make, Scene
from tests.support.waiting import until

LONG = Scenario(queued=0.02, in_progress=500)


@pytest.fixture
def start() -> Iterator[Callable[..., Future[Any]]]:
    """Let an operator work in a thread, so that it can be killed."""
    with ThreadPoolExecutor() as pool:
        yield lambda operator, context: pool.submit(operator.execute, context)


def test_a_kill_while_waiting_cancels_the_run_within_the_five_seconds_that_airflow_leaves(
    scene: Scene, create: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(LONG)
    operator = create(poll_interval=25)
    working = start(operator, scene.context_of(None, state="failed"))
    until(scene.simulator.active)
    time.sleep(0.1)
    began = time.monotonic()
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match=r"The task was killed.*The run was cancelled"):
        working.result(timeout=60)

    # Airflow leaves 5 s, a busy machine takes some; whoever waits for the next poll takes 25.
    assert time.monotonic() - began < 15
    assert scene.simulator.active() == []


def test_a_kill_while_the_create_is_in_flight_cancels_the_run_when_it_has_come_back(
    scene: Scene, create: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="slow", delay=0.8))
    operator = create()
    working = start(operator, scene.context_of(None, state="failed"))
    until(scene.creates)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match=r"The task was killed.*The run was cancelled"):
        working.result(timeout=60)

    assert scene.simulator.active() == []
    assert scene.creates() == 1


def test_a_kill_before_the_create_is_sent_again_creates_nothing(
    scene: Scene, create: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.fault(Fault(method="POST", path=CREATES, status=429, retry_after=30))
    operator = create()
    working = start(operator, scene.context_of(None, state="failed"))
    until(scene.creates)
    time.sleep(0.1)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="Nothing had been created"):
        working.result(timeout=60)

    assert scene.simulator.runs() == []


@pytest.mark.parametrize(
    ("of_ti", "kept_alive"),
    [
        ({"state": "running"}, True),
        ({"state": "running", "map_index": 3}, True),
        ({"state": "up_for_retry"}, True),
        ({"state": "queued"}, True),
        ({"state": "deferred"}, True),
        ({"state": "awaiting_input"}, True),
        ({"state": "a_state_of_a_later_airflow"}, True),
        ({"state": "running", "try_number": 3}, False),
        ({"state": "failed"}, False),
        ({"state": "restarting"}, False),
        ({"state": None}, True),
        ({"state": None, "try_number": 3}, True),
        ({"state": GONE}, False),
    ],
    ids=[
        "evicted",
        "evicted, mapped",
        "silent for too long",
        "replaced by one in the queue",
        "replaced by one that has deferred",
        "replaced by one that waits for a person",
        "in a state that is not known here",
        "evicted without a retry",
        "marked",
        "cleared",
        "reset by a scheduler that took another one for dead",
        "reset in its last try, after which there is one more",
        "deleted with its Dag run",
    ],
)
def test_a_worker_that_goes_away_leaves_the_run_to_the_retry_and_only_that(
    scene: Scene, run_on: Make, start: Callable[..., Future[Any]], of_ti: dict[str, Any], *, kept_alive: bool
) -> None:
    scene.simulator.script(LONG)
    operator = run_on()
    working = start(operator, scene.context_of(None, **of_ti))
    until(scene.simulator.active)
    time.sleep(0.1)
    operator.on_kill()
    fate = "left to the retry" if kept_alive else "The run was cancelled"
    with pytest.raises(OpenAIRunError, match=fate):
        working.result(timeout=60)

    assert bool(scene.simulator.active()) is kept_alive


def test_a_response_that_no_retry_could_find_again_is_not_left_to_it(
    scene: Scene, respond: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(LONG)
    operator = respond()
    working = start(operator, scene.context_of(None, state="running"))
    until(scene.simulator.active)
    time.sleep(0.1)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="The run was cancelled"):
        working.result(timeout=60)


def test_a_response_on_record_is_left_to_the_retry(
    scene: Scene, respond: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(LONG)
    operator = respond()
    working = start(operator, scene.kept)
    until(scene.simulator.active)
    time.sleep(0.1)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="left to the retry"):
        working.result(timeout=60)

    assert len(scene.simulator.active()) == 1


def test_cancel_on_kill_false_leaves_the_run(
    scene: Scene, respond: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(LONG)
    operator = respond(cancel_on_kill=False)
    working = start(operator, scene.context_of(None, state="failed"))
    until(scene.simulator.active)
    time.sleep(0.1)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match=r"left running and billing.*cancel_on_kill=False"):
        working.result(timeout=60)

    assert len(scene.simulator.active()) == 1


@pytest.mark.usefixtures("kill_seconds")
def test_a_server_that_does_not_answer_does_not_hold_the_kill_up(
    scene: Scene, respond: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(method="POST", path="/cancel$", kind="slow", delay=30))
    operator = respond()
    working = start(operator, scene.context_of(None, state="failed"))
    until(scene.simulator.active)
    time.sleep(0.1)
    began = time.monotonic()
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="The task was killed"):
        working.result(timeout=60)
    # Half of what the server takes, on however busy a machine.
    assert time.monotonic() - began < 15
    scene.simulator.advance(60)


def test_a_kill_before_anything_was_done_does_no_harm(respond: Callable[..., Any]) -> None:
    respond().on_kill()


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread"
)
def test_execution_timeout_in_the_worker_cancels_the_run_although_a_retry_is_left(
    scene: Scene, create: Make
) -> None:
    def time_is_over(*_: object) -> None:
        raise AirflowTaskTimeout("Timeout")

    scene.simulator.script(LONG)
    operator = create(poll_interval=25)
    before = signal.signal(signal.SIGALRM, time_is_over)
    signal.setitimer(signal.ITIMER_REAL, 0.6)
    try:
        with pytest.raises(AirflowTaskTimeout):
            operator.execute(scene.context_of(None, state="running"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    operator.on_kill()

    assert scene.simulator.runs()
    assert scene.simulator.active() == []


def test_a_task_that_was_ended_before_it_could_defer_cancels_its_run(scene: Scene, run_on: Make) -> None:
    scene.simulator.script(LONG)
    with pytest.raises(OpenAIRunError, match="The run was cancelled"):
        run_on(deferrable=True).execute(scene.context_of(None, state="skipped"))

    assert scene.simulator.active() == []


def test_a_worker_that_goes_away_in_the_pause_after_a_refused_create_leaves_no_lost_create(
    scene: Scene, create: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(Scenario(queued=0.02, in_progress=0.05))
    scene.simulator.fault(Fault(method="POST", path=CREATES, status=429, retry_after=60))
    operator = create()
    working = start(operator, scene.kept)
    until(scene.creates)
    until(lambda: not scene.kept["task_state_store"].record)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="Nothing had been created"):
        working.result(timeout=60)

    assert scene.run(create(), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 2


def test_execution_timeout_right_after_the_create_was_answered_cancels_the_run(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(LONG)
    operator = create()
    # The second write of the record, with the run's ref, is where the time is over.
    scene.kept["task_state_store"].fail("set", AirflowTaskTimeout("over"), skip=1)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute(scene.kept)
    operator.on_kill()

    assert scene.simulator.active() == []


def test_a_kill_that_comes_before_anything_else_keeps_the_create_from_being_sent(
    scene: Scene, create: Make
) -> None:
    """Airflow takes signals from before it renders the templates on."""
    operator = create()
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="was killed"):
        operator.execute(scene.kept)
    assert scene.creates() == 0


def test_a_kill_between_the_intent_and_its_create_takes_the_intent_back(scene: Scene, create: Make) -> None:
    """Else a retry would take it for a create that may have been accepted."""
    operator, store = create(), scene.store
    keep = store.set

    def keep_and_kill(key: str, value: Any, **more: Any) -> None:
        keep(key, value, **more)
        operator.on_kill()

    scene.monkeypatch.setattr(store, "set", keep_and_kill)
    with pytest.raises(OpenAIRunError, match="was killed"):
        operator.execute(scene.kept)

    assert scene.creates() == 0
    assert store.writes
    assert store.record is None
