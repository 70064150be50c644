# SPDX-License-Identifier: Apache-2.0
"""Another run is active on the thread, or another response is at work in the conversation."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import RunRequestError, ThreadBusyError
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator
from airflow_provider_openai_runs.triggers import RunCompletionTrigger
from tests.support.scene import Make, Scene


@pytest.fixture
def busy_for(scene: Scene, thread_id: str, assistant_id: str) -> Callable[[float], str]:
    """Let somebody else's run be active on the thread for some seconds; ours is quick."""

    def start(seconds: float) -> str:
        scene.simulator.script(Scenario(queued=0, in_progress=seconds), Scenario(queued=0, in_progress=0.1))
        return str(scene.post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)["id"])

    return start


@pytest.fixture
def end_once_asked(scene: Scene) -> Iterator[Callable[..., None]]:
    """Move the clock to where every run has ended, once the simulator was asked something several times."""
    with ThreadPoolExecutor() as pool:
        watches: list[Future[None]] = []

        def watch(method: str, path: str, enough: int) -> None:
            ends = time.monotonic() + 60
            while scene.simulator.count(method, path) < enough and time.monotonic() < ends:
                time.sleep(0.005)
            scene.simulator.advance(100)

        def start(method: str, path: str, times: int) -> None:
            enough = scene.simulator.count(method, path) + times
            watches.append(pool.submit(watch, method, path, enough))

        yield start
        for one in watches:
            one.result()


def statuses(simulator: Simulator) -> dict[str, str]:
    return {run["id"]: run["status"] for run in simulator.runs()}


def test_a_busy_thread_fails_the_task_and_leaves_the_other_run_alone(
    scene: Scene, run_on: Make, busy_for: Callable[[float], str]
) -> None:
    other = busy_for(60)
    with pytest.raises(ThreadBusyError, match=other) as caught:
        run_on().execute(scene.context)

    assert caught.value.retryable
    assert statuses(scene.simulator) == {other: "in_progress"}


def test_waiting_in_the_worker_creates_the_run_when_the_other_one_has_ended(
    scene: Scene, run_on: Make, busy_for: Callable[[float], str], end_once_asked: Callable[..., None]
) -> None:
    other = busy_for(60)
    end_once_asked("GET", f"/runs/{other}$", 2)
    found = run_on(on_active_run="wait").execute(scene.context)

    assert found["status"] == "completed"
    assert statuses(scene.simulator) == {other: "completed", found["id"]: "completed"}
    assert scene.simulator.count("POST", "/cancel$") == 0


def test_a_busy_run_that_is_not_visible_yet_is_polled_again_before_the_next_create(
    scene: Scene, run_on: Make, busy_for: Callable[[float], str], end_once_asked: Callable[..., None]
) -> None:
    other = busy_for(60)
    scene.simulator.fault(Fault(method="GET", path=f"/runs/{other}$", status=404, times=2))
    end_once_asked("GET", f"/runs/{other}$", 3)
    before = scene.simulator.count("POST", "/runs$")
    assert run_on(on_active_run="wait").execute(scene.context)["status"] == "completed"
    assert scene.simulator.count("POST", "/runs$") - before == 2


def test_a_busy_run_that_nobody_can_see_does_not_make_creates_follow_at_once(
    scene: Scene, run_on: Make, busy_for: Callable[[float], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.NOT_FOUND_GRACE", -1.0)
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.busy_thread.BUSY_PAUSE", 0.5)
    other = busy_for(60)
    scene.simulator.fault(Fault(method="GET", status=404, times=None))
    before = scene.simulator.count("POST", "/runs$")
    with pytest.raises(ThreadBusyError, match=other):
        run_on(on_active_run="wait", completion_window=1.2).execute(scene.context)

    assert 2 <= scene.simulator.count("POST", "/runs$") - before <= 4


def test_a_deferrable_task_waits_for_the_thread_without_a_worker(
    scene: Scene, run_on: Make, busy_for: Callable[[float], str]
) -> None:
    other = busy_for(60)
    operator = run_on(on_active_run="wait", deferrable=True)
    with pytest.raises(TaskDeferred) as busy:
        copy.copy(operator).execute(scene.context)
    assert isinstance(busy.value.trigger, RunCompletionTrigger)
    assert busy.value.trigger.tracked.ref.id == other
    assert not busy.value.trigger.cancel_on_kill
    assert not busy.value.trigger.cancel_on_timeout

    scene.simulator.advance(60)
    kwargs = {**(busy.value.kwargs or {}), "event": scene.fire(busy.value.trigger)}
    with pytest.raises(TaskDeferred) as free:
        copy.copy(operator).resume_execution(busy.value.method_name, kwargs, scene.context)
    event = scene.fire(free.value.trigger)
    found = copy.copy(operator).resume_execution(free.value.method_name, {"event": event}, scene.context)

    assert found["status"] == "completed"
    assert statuses(scene.simulator) == {other: "completed", found["id"]: "completed"}


def test_the_wait_for_a_busy_thread_counts_from_the_start_of_the_task(
    scene: Scene, run_on: Make, busy_for: Callable[[float], str]
) -> None:
    other = busy_for(60)
    operator = run_on(on_active_run="wait", deferrable=True, completion_window=20)
    with pytest.raises(ThreadBusyError, match=other):
        operator.execute_after_active_run(scene.context, event=None, waiting_since=time.time() - 21)

    assert statuses(scene.simulator) == {other: "in_progress"}


def test_the_other_run_is_cancelled_first_where_that_is_wanted(
    scene: Scene, run_on: Make, busy_for: Callable[[float], str]
) -> None:
    other = busy_for(60)
    found = run_on(on_active_run="cancel").execute(scene.context)

    assert statuses(scene.simulator) == {other: "cancelled", found["id"]: "completed"}


def test_a_locked_conversation_is_waited_for(
    scene: Scene, respond: Make, monkeypatch: pytest.MonkeyPatch, end_once_asked: Callable[..., None]
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.busy_thread.BUSY_PAUSE", 0.05)
    scene.simulator.script(Scenario(queued=0, in_progress=60), Scenario(queued=0, in_progress=0.1))
    conversation = scene.post("/conversations")["id"]
    scene.post("/responses", model="m", input="first", background=True, conversation=conversation)
    end_once_asked("POST", "^/responses$", 2)
    found = respond(conversation=conversation, on_active_run="wait").execute(scene.context)

    assert found["status"] == "completed"
    assert set(statuses(scene.simulator).values()) == {"completed"}


def test_a_deferrable_task_asks_again_for_a_locked_conversation(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=60))
    conversation = scene.post("/conversations")["id"]
    scene.post("/responses", model="m", input="first", background=True, conversation=conversation)
    with pytest.raises(TaskDeferred) as deferred:
        respond(conversation=conversation, on_active_run="wait", deferrable=True).execute(scene.context)

    assert deferred.value.method_name == "execute_after_active_run"
    assert type(deferred.value.trigger).__name__ == "TimeDeltaTrigger"
    assert len(scene.simulator.runs()) == 1


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_a_locked_conversation_fails_the_task_otherwise_since_nobody_knows_what_to_cancel(
    scene: Scene, respond: Make, how: str
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=60))
    conversation = scene.post("/conversations")["id"]
    scene.post("/responses", model="m", input="first", background=True, conversation=conversation)
    with pytest.raises(ThreadBusyError, match="another response"):
        respond(conversation=conversation, on_active_run=how).execute(scene.context)

    assert [run["status"] for run in scene.simulator.runs()] == ["in_progress"]


def test_an_unknown_policy_is_refused_by_name(scene: Scene, run_on: Make) -> None:
    sent = len(scene.simulator.requests)
    with pytest.raises(RunRequestError, match=r"on_active_run='steal'.*'fail', 'wait', 'cancel'"):
        run_on(on_active_run="steal").execute(scene.context)

    assert len(scene.simulator.requests) == sent
