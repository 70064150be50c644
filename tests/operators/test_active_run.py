# SPDX-License-Identifier: Apache-2.0
"""Another run is active on the thread, or another response is at work in the conversation."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.attempts.busy_thread import BusyThreadError, BusyWait
from airflow_provider_openai_runs.exceptions import RunRequestError, ThreadBusyError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator
from airflow_provider_openai_runs.triggers import RunCompletionTrigger


@pytest.fixture
def busy_for(
    post: Callable[..., Any], openai_runs_simulator: Simulator, thread_id: str, assistant_id: str
) -> Callable[[float], str]:
    """Let somebody else's run be active on the thread for some seconds; ours is quick."""

    def start(seconds: float) -> str:
        openai_runs_simulator.script(
            Scenario(queued=0, in_progress=seconds), Scenario(queued=0, in_progress=0.1)
        )
        return str(post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)["id"])

    return start


def statuses(simulator: Simulator) -> dict[str, str]:
    return {run["id"]: run["status"] for run in simulator.runs()}


def test_a_busy_thread_fails_the_task_and_leaves_the_other_run_alone(
    run_on: Callable[..., Any], busy_for: Callable[[float], str], context: Any, openai_runs_simulator: Any
) -> None:
    other = busy_for(60)
    with pytest.raises(ThreadBusyError, match=other) as caught:
        run_on().execute(context)

    assert caught.value.retryable
    assert statuses(openai_runs_simulator) == {other: "in_progress"}


def test_waiting_in_the_worker_creates_the_run_when_the_other_one_has_ended(
    run_on: Callable[..., Any], busy_for: Callable[[float], str], context: Any, openai_runs_simulator: Any
) -> None:
    other = busy_for(1)
    found = run_on(on_active_run="wait").execute(context)

    assert found["status"] == "completed"
    assert statuses(openai_runs_simulator) == {other: "completed", found["id"]: "completed"}
    assert openai_runs_simulator.count("POST", "/cancel$") == 0


def test_a_busy_run_that_is_not_visible_yet_is_looked_at_again_before_the_next_create(
    run_on: Callable[..., Any], busy_for: Callable[[float], str], context: Any, openai_runs_simulator: Any
) -> None:
    other = busy_for(1)
    openai_runs_simulator.fault(Fault(method="GET", path=f"/runs/{other}$", status=404, times=2))
    before = openai_runs_simulator.count("POST", "/runs$")
    assert run_on(on_active_run="wait").execute(context)["status"] == "completed"
    assert openai_runs_simulator.count("POST", "/runs$") - before == 2


def test_a_busy_run_that_nobody_can_see_does_not_make_creates_follow_at_once(
    busy_for: Callable[[float], str],
    thread_id: str,
    openai_runs_simulator: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.NOT_FOUND_GRACE", -1.0)
    other = busy_for(60)
    openai_runs_simulator.fault(Fault(method="GET", status=404, times=None))
    ref = RunRef(kind=RunKind.THREAD_RUN, id=other, thread_id=thread_id, conn_id="openai_default")
    pauses: list[float] = []
    wait = BusyWait(
        busy=BusyThreadError(ThreadBusyError("busy"), ref),
        until=time.time() + 600,
        poll_interval=None,
        log=logging.getLogger(__name__),  # type: ignore[arg-type]
    )
    wait.in_worker(OpenAIRunsHook(sleep=pauses.append))
    assert pauses == [15.0]


def test_a_deferrable_task_waits_for_the_thread_without_a_worker(
    run_on: Callable[..., Any],
    busy_for: Callable[[float], str],
    context: Any,
    fire: Callable[[Any], Any],
    openai_runs_simulator: Any,
) -> None:
    other = busy_for(1)
    operator = run_on(on_active_run="wait", deferrable=True)
    with pytest.raises(TaskDeferred) as busy:
        copy.copy(operator).execute(context)
    assert isinstance(busy.value.trigger, RunCompletionTrigger)
    assert busy.value.trigger.ref.id == other
    assert not busy.value.trigger.cancel_on_kill
    assert not busy.value.trigger.cancel_on_timeout

    kwargs = {**busy.value.kwargs, "event": fire(busy.value.trigger)}
    with pytest.raises(TaskDeferred) as free:
        copy.copy(operator).resume_execution(busy.value.method_name, kwargs, context)
    event = fire(free.value.trigger)
    found = copy.copy(operator).resume_execution(free.value.method_name, {"event": event}, context)

    assert found["status"] == "completed"
    assert statuses(openai_runs_simulator) == {other: "completed", found["id"]: "completed"}


def test_the_wait_for_a_busy_thread_counts_from_the_start_of_the_task(
    run_on: Callable[..., Any], busy_for: Callable[[float], str], context: Any, openai_runs_simulator: Any
) -> None:
    other = busy_for(60)
    operator = run_on(on_active_run="wait", deferrable=True, completion_window=20)
    with pytest.raises(ThreadBusyError, match=other):
        operator.execute_after_active_run(context, event=None, waiting_since=time.time() - 21)

    assert statuses(openai_runs_simulator) == {other: "in_progress"}


def test_the_other_run_is_cancelled_first_where_that_is_wanted(
    run_on: Callable[..., Any], busy_for: Callable[[float], str], context: Any, openai_runs_simulator: Any
) -> None:
    other = busy_for(60)
    found = run_on(on_active_run="cancel").execute(context)

    assert statuses(openai_runs_simulator) == {other: "cancelled", found["id"]: "completed"}


def test_a_locked_conversation_is_waited_for(
    respond: Callable[..., Any],
    post: Callable[..., Any],
    context: Any,
    openai_runs_simulator: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.busy_thread._ASK_AGAIN_SECONDS", 0.3)
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0.6), Scenario(queued=0, in_progress=0.1))
    conversation = post("/conversations")["id"]
    post("/responses", model="m", input="first", background=True, conversation=conversation)
    found = respond(conversation=conversation, on_active_run="wait").execute(context)

    assert found["status"] == "completed"
    assert set(statuses(openai_runs_simulator).values()) == {"completed"}


def test_a_deferrable_task_asks_again_for_a_locked_conversation(
    respond: Callable[..., Any], post: Callable[..., Any], context: Any, openai_runs_simulator: Any
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=60))
    conversation = post("/conversations")["id"]
    post("/responses", model="m", input="first", background=True, conversation=conversation)
    with pytest.raises(TaskDeferred) as deferred:
        respond(conversation=conversation, on_active_run="wait", deferrable=True).execute(context)

    assert deferred.value.method_name == "execute_after_active_run"
    assert type(deferred.value.trigger).__name__ == "TimeDeltaTrigger"
    assert len(openai_runs_simulator.runs()) == 1


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_a_locked_conversation_fails_the_task_otherwise_since_nobody_knows_what_to_cancel(
    respond: Callable[..., Any], post: Callable[..., Any], context: Any, openai_runs_simulator: Any, how: str
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=60))
    conversation = post("/conversations")["id"]
    post("/responses", model="m", input="first", background=True, conversation=conversation)
    with pytest.raises(ThreadBusyError, match="another response"):
        respond(conversation=conversation, on_active_run=how).execute(context)

    assert [run["status"] for run in openai_runs_simulator.runs()] == ["in_progress"]


def test_an_unknown_policy_is_refused_by_name(
    run_on: Callable[..., Any], context: Any, openai_runs_simulator: Any
) -> None:
    sent = len(openai_runs_simulator.requests)
    with pytest.raises(RunRequestError, match=r"on_active_run='steal'.*'fail', 'wait', 'cancel'"):
        run_on(on_active_run="steal").execute(context)

    assert len(openai_runs_simulator.requests) == sent
