# SPDX-License-Identifier: Apache-2.0
"""Whatever ends an attempt after its create was sent: the run is ended, left to a retry, or named."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_provider_openai_runs.attempts import end_run
from airflow_provider_openai_runs.exceptions import OpenAIRunError
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.airflow_versions import needs_store
from tests.support.scene import CREATES, FakeTaskInstance, Make, Scene
from tests.support.waiting import until

LONG = Scenario(queued=0.02, in_progress=500)


class StopError(BaseException):
    """Something that ends an attempt."""


class BrokenPush(FakeTaskInstance):
    """A task instance whose XComs cannot be pushed."""

    error: BaseException = RuntimeError("XCom backend is away")

    def xcom_push(self, key: str, value: Any) -> None:  # noqa: ARG002
        raise self.error


def with_broken_push(context: Any, error: BaseException | None = None, **of_ti: Any) -> Any:
    ti = BrokenPush(**of_ti)
    ti.error = error or ti.error
    return {**context, "ti": ti}


@pytest.fixture
def start() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor() as pool:
        yield lambda operator, context: pool.submit(operator.execute, context)


@contextmanager
def execution_timeout(once: Callable[[], object], *, after: float = 0) -> Iterator[None]:
    """Raise as Airflow does, with a signal of its own on the main thread, when something is the case."""

    def over(*_: object) -> None:
        raise AirflowTaskTimeout("Timeout")

    def interrupt() -> None:
        until(once)
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, over)
    clock = threading.Thread(target=interrupt)
    clock.start()
    try:
        with pytest.raises(AirflowTaskTimeout):
            yield
    finally:
        clock.join()
        signal.signal(signal.SIGALRM, before)


def timeout_in_the_create(scene: Scene) -> AbstractContextManager[None]:
    """Let execution_timeout be over while the first create is under way."""
    return execution_timeout(scene.creates)


def timeout_in_the_wait(scene: Scene) -> AbstractContextManager[None]:
    """Let execution_timeout be over after the run has been recorded."""
    # In a callback of a weak reference Python drops what a handler raises, so not before the task sleeps.
    return execution_timeout(lambda: "ref" in (scene.store.record or {}), after=0.3)


# -- exceptions that nobody has foreseen -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_ti", "error", "kept_alive"),
    [
        ({}, None, True),
        ({"try_number": 3}, None, False),
        ({}, AirflowFailException("no retry"), False),
        ({}, AirflowSkipException("no retry either"), False),
        ({}, SystemExit(3), True),
        ({"try_number": 3}, SystemExit(3), False),
        ({"try_number": 3}, KeyboardInterrupt(), False),
        ({"try_number": 3, "state": "queued"}, None, True),
    ],
    ids=[
        "a retry left",
        "the last try",
        "an error after which Airflow does not retry",
        "a skip",
        "sys.exit(), a retry left",
        "sys.exit() on the last try",
        "Ctrl-C on the last try",
        "replaced",
    ],
)
def test_a_push_that_fails_leaves_the_run_to_the_retry_or_cancels_it_and_says_which(
    scene: Scene, create: Make, of_ti: dict[str, Any], error: BaseException | None, *, kept_alive: bool
) -> None:
    scene.simulator.script(LONG)
    operator = create()
    lines = scene.log_of(operator)
    context = with_broken_push(scene.kept, error, **of_ti)
    with pytest.raises(type(error or BrokenPush.error)):
        operator.execute(context)

    assert bool(scene.simulator.active()) is kept_alive
    fate = "left to the retry" if kept_alive else "The run was cancelled"
    assert any("The attempt failed" in line and fate in line for line in lines), lines


def test_sys_exit_in_a_function_on_the_last_try_cancels_the_run(scene: Scene, run_on: Make) -> None:
    def leave(city: str) -> str:
        """Leave."""
        sys.exit(len(city))

    rounds = [(FunctionCall(name="leave", arguments={"city": "Oslo"}),)]
    scene.simulator.script(Scenario(function_calls=rounds, queued=0.01, in_progress=0.02, times=None))
    with pytest.raises(SystemExit):
        run_on(functions=[leave]).execute(scene.context_of(scene.store, try_number=3))

    assert scene.simulator.active() == []


def test_a_retry_goes_on_with_the_run_that_was_left_to_it(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0.02, in_progress=1.2))
    with pytest.raises(RuntimeError):
        create().execute(with_broken_push(scene.kept))

    assert scene.run(create(), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 1


def test_a_task_that_defers_is_not_guarded_against(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG)
    operator = create(deferrable=True)
    lines = scene.log_of(operator)
    with pytest.raises(TaskDeferred):
        operator.execute(scene.context_of(scene.store, try_number=3))

    assert len(scene.simulator.active()) == 1
    assert not any("attempt failed" in line for line in lines)


def test_a_run_without_a_wait_belongs_to_its_task_until_its_ref_is_known(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG)
    with pytest.raises(RuntimeError):
        create(completion_window=None).execute(with_broken_push(scene.kept, try_number=3))

    assert scene.simulator.active() == []


# -- what Airflow says about the task ----------------------------------------------------------------------


@pytest.fixture
def quick(scene: Scene) -> None:
    """Ask Airflow for a moment only."""
    scene.monkeypatch.setattr(end_run, "KILL_ASK_SECONDS", 0.3)
    scene.monkeypatch.setattr(end_run, "KILL_ASK_ON_LAST_TRY", 0.2)
    scene.monkeypatch.setattr(end_run, "KILL_ASK_PAUSE", 0.05)


def killed(scene: Scene, operator: Any, working: Future[Any]) -> str:
    """Kill a task that waits for its run; return the error."""
    until(scene.simulator.active)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="The task was killed") as raised:
        working.result(timeout=60)
    return str(raised.value)


@pytest.mark.usefixtures("quick")
def test_without_an_answer_the_run_is_left_to_the_retry_and_named(
    scene: Scene, create: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(LONG)
    operator = create()
    lines = scene.log_of(operator)
    context = scene.context_of(scene.store, state=RuntimeError("Airflow does not answer"))
    assert "left running and billing" in killed(scene, operator, start(operator, context))

    (run,) = scene.simulator.active()
    assert any(run["id"] in line and "did not say" in line for line in lines)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("answers", [True, False], ids=["the store answers", "nobody answers"])
def test_without_an_answer_the_last_try_cancels_what_the_record_still_calls_its_own(
    scene: Scene, create: Make, start: Callable[..., Future[Any]], *, answers: bool
) -> None:
    scene.simulator.script(LONG)
    operator = create()
    context = scene.context_of(scene.store, try_number=3, state=RuntimeError("Airflow does not answer"))
    working = start(operator, context)
    until(lambda: (scene.store.record or {}).get("ref"))
    if not answers:
        scene.store.fail("get", RuntimeError("the API server is away"))
    assert "The run was cancelled" in killed(scene, operator, working)

    assert scene.simulator.active() == []


@pytest.mark.parametrize("state", ["running", RuntimeError("Airflow does not answer")], ids=str)
@pytest.mark.usefixtures("quick")
def test_the_last_try_leaves_a_run_that_the_record_does_not_call_its_own_any_more(
    scene: Scene, create: Make, start: Callable[..., Future[Any]], state: Any
) -> None:
    scene.simulator.script(LONG)
    operator = create()
    working = start(operator, scene.context_of(scene.store, try_number=3, state=state))
    until(lambda: (scene.store.record or {}).get("ref"))
    scene.store.fail("set", scene.gone)
    assert "a later attempt has taken over" in killed(scene, operator, working)

    assert len(scene.simulator.active()) == 1


class Restarts(FakeTaskInstance):
    """A task instance whose Airflow answers the third question only."""

    asked: int = 0

    def get_task_states(self, **wanted: Any) -> dict[str, Any]:
        self.asked += 1
        if self.asked < 3:
            raise RuntimeError("the API server restarts")
        return super().get_task_states(**wanted)


def test_airflow_is_asked_again_until_it_can_say(
    scene: Scene, create: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.monkeypatch.setattr(end_run, "KILL_ASK_PAUSE", 0.02)
    scene.simulator.script(LONG)
    operator = create()
    context = {**scene.kept, "ti": Restarts(state="failed")}
    assert "The run was cancelled" in killed(scene, operator, start(operator, context))


# -- execution_timeout -------------------------------------------------------------------------------------


@needs_store
@pytest.mark.parametrize("state", ["up_for_retry", "queued", "deferred"])
def test_execution_timeout_of_a_replaced_worker_leaves_its_successors_run(
    scene: Scene, create: Make, state: str
) -> None:
    scene.simulator.script(LONG)
    operator = create(poll_interval=25)
    with timeout_in_the_wait(scene):
        operator.execute(scene.context_of(scene.store, state=state))
    operator.on_kill()

    assert len(scene.simulator.active()) == 1


def test_execution_timeout_of_a_worker_whose_successor_runs_leaves_the_run(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(LONG)
    operator = create(poll_interval=25)
    scene.store.fail("set", scene.gone, skip=2)  # the two writes of the create
    with timeout_in_the_wait(scene):
        operator.execute(scene.kept)
    operator.on_kill()

    assert len(scene.simulator.active()) == 1


@needs_store
def test_execution_timeout_goes_by_cancel_on_timeout(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG)
    operator = create(poll_interval=25, cancel_on_timeout=False)
    lines = scene.log_of(operator)
    with timeout_in_the_wait(scene):
        operator.execute(scene.kept)
    operator.on_kill()

    assert len(scene.simulator.active()) == 1
    assert any("left running and billing" in line and "cancel_on_timeout=False" in line for line in lines)


@needs_store
def test_a_retry_after_execution_timeout_creates_a_run_of_its_own(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG)
    operator = create(poll_interval=25)
    with timeout_in_the_wait(scene):
        operator.execute(scene.kept)
    scene.simulator.script(Scenario(queued=0.01, in_progress=0.02))

    assert scene.run(create(), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 2
    assert scene.simulator.active() == []


# -- a create under way ------------------------------------------------------------------------------------


@needs_store
def test_execution_timeout_in_the_middle_of_a_create_ends_the_run_when_its_answer_comes(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="slow", delay=0.6))
    operator = create()
    with timeout_in_the_create(scene):
        operator.execute(scene.kept)

    assert scene.creates() == 1
    assert scene.simulator.active() == []
    assert scene.store.record["ended_by_us"]
    scene.simulator.script(Scenario(queued=0.01, in_progress=0.02))
    assert scene.run(create(), scene.retry(scene.kept))["status"] == "completed"


@needs_store
@pytest.mark.usefixtures("quick")
def test_a_create_that_is_not_answered_is_named_by_its_token(scene: Scene, respond: Make) -> None:
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="slow", delay=2))
    operator = respond()
    lines = scene.log_of(operator)
    with timeout_in_the_create(scene):
        operator.execute(scene.kept)

    token = scene.store.record["token"]
    assert any(token in line and "may be running and billing" in line for line in lines)


@pytest.mark.usefixtures("quick")
def test_a_thread_run_whose_create_is_not_answered_in_time_is_searched_once_and_ended(
    scene: Scene, run_on: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="slow", delay=30))
    operator = run_on()
    working = start(operator, scene.context_of(scene.store, state="failed"))
    until(scene.simulator.active)
    operator.on_kill()
    until(lambda: not scene.simulator.active())
    scene.simulator.advance(60)
    with pytest.raises(OpenAIRunError, match="The run was cancelled"):
        working.result(timeout=60)

    assert scene.creates() == 1


def test_what_ends_an_attempt_after_a_lost_create_names_it(scene: Scene, respond: Make) -> None:
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="lost"))
    operator = respond(on_lost_create="resubmit")
    context = scene.context_of(scene.store, state="failed")
    lines = scene.log_of(operator)
    # The next write is the one after the lost create.
    scene.store.fail("set", StopError(), skip=1)
    with pytest.raises(StopError):
        operator.execute(context)

    token = scene.store.record["token"]
    assert any(token in line and "may be running and billing" in line for line in lines)


# -- an open conversation ----------------------------------------------------------------------------------


def test_a_mark_while_a_function_runs_closes_the_conversation(
    scene: Scene, respond: Make, start: Callable[..., Future[Any]]
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait(city: str) -> str:
        """Wait."""
        entered.set()
        leave.wait(60)
        return city

    rounds = [(FunctionCall(name="wait", arguments={"city": "Oslo"}),)]
    scene.simulator.script(Scenario(function_calls=rounds, queued=0.01, in_progress=0.02))
    conversation = scene.post("/conversations")["id"]
    operator = respond(functions=[wait], conversation=conversation)
    working = start(operator, scene.context_of(scene.store, state="failed"))
    assert entered.wait(60)
    operator.on_kill()
    with pytest.raises(OpenAIRunError, match="conversation can be used again"):
        working.result(timeout=60)
    leave.set()

    assert scene.simulator.count("POST", f"^/conversations/{conversation}/items$") == 1
    scene.simulator.script(Scenario(queued=0.01, in_progress=0.02))
    again = respond(conversation=conversation)
    assert scene.run(again, scene.clear(scene.kept))["status"] == "completed"
