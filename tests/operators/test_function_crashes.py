# SPDX-License-Identifier: Apache-2.0
"""Function calls of a run while workers die, are killed, freeze and are replaced."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunCallError, RunTimeoutError
from airflow_provider_openai_runs.operators import SubmitToolOutputsOperator
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene
from tests.support.waiting import until

CALLED: list[str] = []


def weather(city: str) -> str:
    """Forecast the weather of a city."""
    CALLED.append(city)
    return "blue"


class Gate:
    """A function that does not return before its event is set."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    @property
    def function(self) -> Callable[..., str]:
        def wait(city: str) -> str:
            """Forecast the weather of a city, some time."""
            CALLED.append(city)
            self.entered.set()
            assert self.opened.wait(60)
            return "blue"

        return wait


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    CALLED.clear()


@pytest.fixture
def start() -> Iterator[Callable[..., Future[Any]]]:
    """Let an operator work in a thread, so that it can be killed."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


@pytest.fixture
def until_called(scene: Scene) -> Callable[..., Any]:
    """Begin a deferred task, and return the event with which its worker is to answer the calls."""

    def begin(operator: Any, context: dict[str, Any]) -> Any:
        with scene.time_stands_still(), pytest.raises(TaskDeferred) as deferred:
            operator.execute(context)
        return scene.fire(deferred.value.trigger)

    return begin


def calls(*names: str, function: str = "weather", **more: Any) -> Scenario:
    rounds = [(FunctionCall(name=function, arguments={"city": name}),) for name in names]
    return Scenario(function_calls=rounds, **{"queued": 0.01, "in_progress": 0.02, "times": None} | more)


# -- killed, evicted, timed out ------------------------------------------------------------------------------


def test_a_task_that_is_marked_failed_while_a_function_runs_ends_its_run(
    scene: Scene, create: Make, start: Callable[..., Future[Any]], gate: Gate
) -> None:
    scene.simulator.script(calls("Oslo", function="wait"))
    operator = create(functions=[gate.function])
    working = start(operator.execute, scene.context_of(None, state="failed"))
    assert gate.entered.wait(60)
    began = time.monotonic()
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="The task was killed"):
        working.result(timeout=60)

    # On however busy a machine; the function goes on for a minute.
    assert time.monotonic() - began < 30
    assert scene.simulator.active() == []
    assert scene.simulator.count("POST", "submit_tool_outputs$") == 0


def test_a_worker_that_is_evicted_while_a_function_runs_leaves_the_run_to_the_retry(
    scene: Scene, create: Make, start: Callable[..., Future[Any]], gate: Gate
) -> None:
    scene.simulator.script(calls("Oslo", function="wait"))
    operator = create(functions=[gate.function])
    working = start(operator.execute, scene.kept)
    assert gate.entered.wait(60)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="left to the retry"):
        working.result(timeout=60)
    gate.opened.set()
    found = scene.run(create(functions=[gate.function]), scene.retry(scene.kept))

    assert found["status"] == "completed"
    assert CALLED == ["Oslo", "Oslo"]
    assert scene.creates() == (1 if found["ref"]["kind"] == "thread_run" else 2)


def test_a_kill_while_the_next_response_is_created_ends_that_one_too(
    scene: Scene, respond: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(calls("Oslo", in_progress=8))
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="slow", delay=0.8, skip=1))
    operator = respond(functions=[weather])
    working = start(operator.execute, scene.context_of(None, state="failed"))
    until(lambda: scene.creates() == 2)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match=r"The task was killed\. response .*The run was cancelled"):
        working.result(timeout=60)

    assert sorted(run["status"] for run in scene.simulator.runs()) == ["cancelled", "completed"]


def test_a_kill_before_a_refused_answer_is_sent_again_closes_the_calls_in_their_conversation(
    scene: Scene, respond: Make, start: Callable[..., Future[Any]]
) -> None:
    conversation = str(scene.post("/conversations")["id"])
    scene.simulator.script(calls("Oslo"))
    scene.simulator.fault(Fault(method="POST", path="^/responses$", status=429, retry_after=10, skip=1))
    operator = respond(functions=[weather], conversation=conversation)
    working = start(operator.execute, scene.context_of(None, state="failed"))
    until(lambda: scene.creates() == 2)
    time.sleep(0.1)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match=r"The task was killed\..* Its calls were answered"):
        working.result(timeout=60)

    assert scene.creates() == 2


def test_a_kill_before_the_answer_is_sent_sends_none(
    scene: Scene, create: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(calls("Oslo", function="kills"))

    def kills(city: str) -> str:
        """Return while the task is being killed."""
        operator.on_kill()
        return city

    operator = create(functions=[kills])
    working = start(operator.execute, scene.context_of(None, state="failed"))
    with pytest.raises(OpenAIRunError, match="The task was killed"):
        working.result(timeout=60)

    assert len(scene.simulator.runs()) == 1
    assert scene.simulator.count("POST", "submit_tool_outputs$") == 0
    assert scene.simulator.active() == []


def test_execution_timeout_while_a_function_runs_ends_the_run(scene: Scene, create: Make, gate: Gate) -> None:
    def time_is_over(*_: object) -> None:
        raise AirflowTaskTimeout("Timeout")

    scene.simulator.script(calls("Oslo", function="wait"))
    operator = create(functions=[gate.function])
    before = signal.signal(signal.SIGALRM, time_is_over)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    try:
        with pytest.raises(AirflowTaskTimeout):
            operator.execute(scene.context_of(None, state="running"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    operator.on_kill()

    assert gate.entered.is_set()
    assert scene.simulator.active() == []


def test_the_deadline_of_the_first_round_is_that_of_all(scene: Scene, create: Make) -> None:
    scene.simulator.script(calls("Oslo", "Rome", "Lima"))
    operator = create(functions=[weather], deferrable=True, completion_window=77)
    deadlines = []
    with scene.time_stands_still(), pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.context)
    for _ in range(3):
        trigger = deferred.value.trigger
        deadlines.append(trigger.serialize()[1]["deadline"])
        event = scene.fire(trigger)
        with scene.time_stands_still(), pytest.raises(TaskDeferred) as deferred:
            operator.execute_complete(scene.context, event)
    trigger = deferred.value.trigger
    deadlines.append(trigger.serialize()[1]["deadline"])
    found = operator.execute_complete(scene.context, scene.fire(trigger))

    assert len(set(deadlines)) == 1
    assert found["status"] == "completed"


def test_a_window_that_is_over_leaves_the_calls_to_a_retry_with_cancel_on_timeout_false(
    scene: Scene, create: Make, gate: Gate
) -> None:
    scene.simulator.script(calls("Oslo", function="wait"))
    options = {"functions": [gate.function], "cancel_on_timeout": False, "completion_window": 3}
    with pytest.raises(RunTimeoutError, match=r"completion_window=3.*cancel_on_timeout=False"):
        scene.run(create(**options), scene.kept)
    gate.opened.set()
    time.sleep(1.1)  # an answer has to be ready a second before the end
    found = scene.run(create(**{**options, "completion_window": 30}), scene.retry(scene.kept))

    assert found["status"] == "completed"
    assert scene.creates() == (1 if found["ref"]["kind"] == "thread_run" else 2)


# -- crashes in between --------------------------------------------------------------------------------------


def test_a_crash_between_submit_and_record_answers_no_call_twice(
    scene: Scene, run_on: Make, until_called: Callable[..., Any]
) -> None:
    class WorkerLost(BaseException):
        pass

    scene.simulator.script(calls("Oslo", "Rome"))
    event = until_called(run_on(functions=[weather], deferrable=True), scene.kept)
    scene.kept["task_state_store"].fail("set", WorkerLost())
    with pytest.raises(WorkerLost):
        run_on(functions=[weather], deferrable=True).execute_complete(scene.kept, event)
    scene.kept["task_state_store"].recover()
    found = scene.run(run_on(functions=[weather], deferrable=True), scene.retry(scene.kept))

    assert found["status"] == "completed"
    assert CALLED == ["Oslo", "Rome"]
    assert scene.simulator.count("POST", "submit_tool_outputs$") == 2


def test_a_crash_between_intent_and_create_of_the_next_response_is_a_lost_create(
    scene: Scene, respond: Make, until_called: Callable[..., Any]
) -> None:
    class WorkerLost(BaseException):
        pass

    scene.simulator.script(calls("Oslo"))
    event = until_called(respond(functions=[weather], deferrable=True), scene.kept)
    scene.kept["task_state_store"].fail("set", WorkerLost(), skip=1)
    with pytest.raises(WorkerLost):
        respond(functions=[weather], deferrable=True).execute_complete(scene.kept, event)
    scene.kept["task_state_store"].recover()
    with pytest.raises(OpenAIRunError, match="may be running and billing"):
        respond(functions=[weather]).execute(scene.retry(scene.kept))

    assert len(scene.simulator.runs()) == 2


def test_all_rounds_of_a_worker_run_their_functions_in_one_thread(scene: Scene, create: Make) -> None:
    threads = []

    def weather(city: str) -> str:
        """Look out of the window."""
        threads.append(threading.current_thread())
        return city

    scene.simulator.script(calls("Oslo", "Rome", "Lima", function="weather"))
    scene.run(create(functions=[weather]))

    assert len(threads) == 3
    assert len(set(threads)) == 1


# -- replaced ------------------------------------------------------------------------------------------------


def test_a_worker_that_was_replaced_while_a_function_ran_creates_no_second_response(
    scene: Scene, respond: Make, until_called: Callable[..., Any]
) -> None:
    scene.simulator.script(calls("Oslo"))
    event = until_called(respond(functions=[weather], deferrable=True), scene.kept)
    scene.kept["task_state_store"].fail("set", scene.gone)
    with pytest.raises(RunCallError, match="a later one has taken over"):
        respond(functions=[weather], deferrable=True).execute_complete(scene.kept, event)

    assert len(scene.simulator.runs()) == 1


def test_a_worker_that_was_replaced_does_not_end_the_run_when_its_functions_fail(
    scene: Scene, run_on: Make, until_called: Callable[..., Any]
) -> None:
    scene.simulator.script(calls("Oslo", function="broken"))

    def broken(city: str) -> str:
        """Fail."""
        raise LookupError(city)

    operator = run_on(functions=[broken], deferrable=True, max_tool_errors=1)
    event = until_called(operator, scene.kept)
    scene.kept["task_state_store"].fail("set", scene.gone)
    with pytest.raises(OpenAIRunError, match="left to the attempt that has taken over"):
        operator.execute_complete(scene.kept, event)

    assert [run["status"] for run in scene.simulator.active()] == ["requires_action"]


def test_a_worker_that_was_replaced_and_answered_first_does_the_later_one_no_harm(
    scene: Scene,
    run_on: Make,
    until_called: Callable[..., Any],
    start: Callable[..., Future[Any]],
    gate: Gate,
) -> None:
    scene.simulator.script(calls("Oslo", function="wait"))
    event = until_called(run_on(functions=[gate.function], deferrable=True), scene.kept)
    later = start(scene.run, run_on(functions=[gate.function]), scene.retry(scene.kept))
    assert gate.entered.wait(60)
    another = Gate()
    another.opened.set()
    with pytest.raises(TaskDeferred):
        run_on(functions=[another.function], deferrable=True).execute_complete(scene.kept, event)
    gate.opened.set()

    assert later.result(timeout=60)["status"] == "completed"
    assert [run["status"] for run in scene.simulator.runs()] == ["completed"]


def test_a_run_that_somebody_else_answers_meanwhile_goes_on(scene: Scene, run_on: Make) -> None:
    def slow_hand(city: str, call_id: str) -> str:
        """Be answered for by somebody else."""
        (run,) = scene.simulator.active()
        path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
        scene.post(path, tool_outputs=[{"tool_call_id": call_id, "output": "theirs"}])
        return city

    scene.simulator.script(calls("Oslo", function="slow_hand"))
    found = scene.run(run_on(functions=[slow_hand]))

    assert found["status"] == "completed"
    assert scene.simulator.count("POST", "/cancel$") == 0


# -- below Airflow 3.3 ---------------------------------------------------------------------------------------


def test_without_a_store_a_retry_waits_for_the_run_that_the_attempt_before_has_answered(
    scene: Scene, run_on: Make
) -> None:
    scene.simulator.script(calls("Oslo", in_progress=2))
    waiting = scene.run(run_on(on_tool_calls="return"), scene.context_of(None))
    submit = SubmitToolOutputsOperator(
        task_id="answer",
        ref=waiting["ref"],
        outputs={call["id"]: "blue" for call in waiting["tool_calls"]},
        completion_window=30,
        poll_interval=0.05,
        deferrable=True,
    )
    first = scene.context_of(None, task_id="answer")
    with pytest.raises(TaskDeferred):
        submit.execute(first)
    found = scene.run(submit, scene.retry(first))

    assert found["status"] == "completed"
    assert scene.simulator.count("POST", "submit_tool_outputs$") == 1


def test_without_a_store_a_retry_answers_a_thread_run_and_starts_a_response_anew(
    scene: Scene, create: Make, until_called: Callable[..., Any]
) -> None:
    scene.simulator.script(calls("Oslo", "Rome"))
    first = scene.context_of(None)
    until_called(create(functions=[weather], deferrable=True), first)
    found = scene.run(create(functions=[weather], deferrable=True), scene.retry(first))

    assert found["status"] == "completed"
    assert CALLED == ["Oslo", "Rome"]
    assert len(scene.simulator.runs()) == (1 if found["ref"]["kind"] == "thread_run" else 4)
    assert scene.simulator.active() == []
