# SPDX-License-Identifier: Apache-2.0
"""Where two rules about the same run meet: what one attempt has noted, and what the next makes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import LostCreateError, OpenAIRunError, ToolCallsFailedError
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.operators.test_unforeseen_ends import (
    LONG,
    StopError,
    timeout_in_the_create,
    with_broken_push,
)
from tests.support.airflow_versions import needs_store
from tests.support.scene import CREATES, Make, Scene
from tests.support.waiting import until
from tests.support.weather import CALLS, fails, weather

QUICK = Scenario(queued=0.01, in_progress=0.06)


@pytest.fixture
def start() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor() as pool:
        yield lambda operator, context: pool.submit(operator.execute, context)


# -- a cancel that came too late -----------------------------------------------------------------------------


def test_a_success_that_an_attempt_had_wanted_to_end_is_not_paid_for_again(
    scene: Scene, create: Make
) -> None:
    """The cancel was noted and came too late; the worker that finished from the run is lost as well."""
    scene.simulator.script(QUICK, QUICK)
    first = scene.run(create(), scene.kept)
    noted = {key: value for key, value in scene.store.record.items() if key != "ended"}
    scene.store.set("openai_run", {**noted, "ended_by_us": True})
    second = scene.retry(scene.kept)
    assert scene.run(create(), second)["id"] == first["id"]

    assert scene.run(create(), scene.retry(second))["id"] == first["id"]
    assert scene.creates() == 1


@needs_store
@pytest.mark.parametrize("is_late", [False, True], ids=["cancelled", "the cancel came too late"])
def test_a_run_without_a_wait_that_was_ended_by_its_own_task_is_no_result(
    scene: Scene, create: Make, *, is_late: bool
) -> None:
    scene.simulator.script(QUICK if is_late else LONG, LONG)
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="slow", delay=0.4))
    operator = create(completion_window=None)
    with timeout_in_the_create(scene):
        operator.execute(scene.kept)
    found = create(completion_window=None).execute(scene.retry(scene.kept))

    assert found["status"] != "cancelled"
    assert scene.creates() == (1 if is_late else 2)


# -- a create that is answered while the attempt ends --------------------------------------------------------


@needs_store
def test_a_run_that_is_left_on_purpose_is_on_record_when_its_create_is_answered_too_late(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(Scenario(queued=0.02, in_progress=4))
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="slow", delay=0.4))
    with timeout_in_the_create(scene):
        create(cancel_on_timeout=False).execute(scene.kept)

    assert scene.store.record["ref"]["id"] == scene.simulator.runs()[0]["id"]
    assert scene.run(create(), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 1


def test_a_run_that_nobody_else_can_know_of_is_ended_by_the_worker_that_was_replaced(
    scene: Scene, respond: Make
) -> None:
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="slow", delay=0.4))
    scene.store.fail("set", scene.gone, skip=1)  # the intent is written, then a later attempt takes over
    with timeout_in_the_create(scene):
        respond().execute(scene.context_of(scene.store, state="queued"))

    assert scene.simulator.active() == []


def test_a_run_that_is_not_visible_yet_is_cancelled_all_the_same(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500, hidden_for=0.4))
    operator = create()
    lines = scene.log_of(operator)
    with pytest.raises(RuntimeError):
        operator.execute(with_broken_push(scene.kept, try_number=3))

    assert not [line for line in lines if "knows no such run" in line], lines
    assert scene.simulator.active() == []


# -- a model's calls -----------------------------------------------------------------------------------------


def test_a_clear_answers_the_calls_that_an_attempt_could_not(scene: Scene, respond: Make) -> None:
    conversation = scene.post("/conversations")["id"]
    scene.simulator.script(CALLS, QUICK)
    scene.simulator.fault(Fault(method="POST", path=r"/conversations/[^/]+/items", status=404))
    given = {"conversation": conversation, "functions": [fails], "max_tool_errors": 1}
    with pytest.raises(ToolCallsFailedError, match=r"is left with calls"):
        scene.run(respond(**given), scene.kept)

    assert scene.run(respond(**given), scene.clear(scene.kept))["status"] == "completed"


def test_an_answer_that_was_lost_counts_although_the_next_one_was_refused(
    scene: Scene, respond: Make
) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.RESUBMIT_PAUSE", 0.01)
    scene.simulator.script(CALLS)
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost", skip=1))
    scene.simulator.fault(Fault(method="POST", path="^/responses$", status=400, skip=1))
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost", skip=1, times=None))
    operator = respond(functions=[weather], on_lost_create="resubmit", max_resubmits=1)
    with pytest.raises(OpenAIRunError):
        scene.run(operator, scene.kept)
    assert len(scene.store.record["lost"]) == 1
    with pytest.raises(LostCreateError, match="p to 2 runs"):
        scene.run(operator, scene.retry(scene.kept))

    assert len(scene.simulator.runs()) == 1 + 2


def test_a_kill_while_a_run_is_read_that_nobody_answers_says_what_became_of_it(
    scene: Scene, run_on: Make, start: Callable[..., Future[Any]]
) -> None:
    scene.simulator.script(CALLS)
    operator = run_on()
    working = start(operator, scene.context_of(scene.store, state="failed"))
    until(lambda: [run for run in scene.simulator.runs() if run["status"] == "requires_action"])
    scene.simulator.fault(Fault(method="GET", path="/runs/[^/]+$", status=500, skip=1, times=3))
    threading.Event().wait(0.2)
    operator.on_kill()
    with pytest.raises(OpenAIRunError) as raised:
        working.result(timeout=60)

    assert "Nothing had been created" not in str(raised.value)
    assert scene.simulator.active() == []


def test_a_task_that_was_ended_before_it_could_wait_for_a_person_ends_its_run(
    scene: Scene, run_on: Make, pages: Any
) -> None:
    import uuid  # noqa: PLC0415

    del pages
    scene.simulator.script(CALLS)
    context = scene.context_of(scene.store, state="failed")
    context["ti"].id = uuid.uuid4()
    with pytest.raises(OpenAIRunError, match="The task was killed"):
        run_on(functions=[weather], approve=True).execute(context)

    assert scene.simulator.active() == []


def test_what_ends_an_attempt_names_every_create_that_may_have_been_taken(
    scene: Scene, respond: Make
) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.RESUBMIT_PAUSE", 0.01)
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="lost", times=2))
    operator = respond(on_lost_create="resubmit", max_resubmits=1)
    lines = scene.log_of(operator)
    # intent, lost intent, second intent, and then the write after the second lost create
    scene.store.fail("set", StopError(), skip=3)
    with pytest.raises(StopError):
        operator.execute(scene.context_of(scene.store, state="failed"))

    tokens = [run["metadata"]["airflow_token"] for run in scene.simulator.runs()]
    (last,) = [line for line in lines if "The attempt failed" in line]
    assert len(tokens) == 2
    assert all(token in last for token in tokens), last


# -- the run of an earlier attempt ---------------------------------------------------------------------------


def test_a_mark_while_a_retry_asks_for_the_run_of_the_attempt_before_ends_that_run(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(LONG)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)
    scene.simulator.fault(Fault(method="GET", status=500, times=2))
    asked = scene.simulator.count("GET", ".")
    operator = create(deferrable=True)
    context = scene.retry(scene.kept, state="failed")

    def kill() -> None:
        until(lambda: scene.simulator.count("GET", ".") > asked)
        operator.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(OpenAIRunError, match="The run was cancelled"):
        operator.execute(context)
    killer.join()

    assert scene.simulator.active() == []
    assert scene.creates() == 1


def test_an_error_that_tells_the_fate_of_the_run_before_is_no_reason_for_another_line(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(Scenario(in_progress=0, ends="failed"))
    with pytest.raises(OpenAIRunError):
        scene.run(create(), scene.kept)
    record = {key: value for key, value in scene.store.record.items() if key != "ended"}
    scene.store.set("openai_run", record)
    scene.simulator.fault(Fault(method="POST", path=CREATES, status=400))
    operator = create()
    lines = scene.log_of(operator)
    with pytest.raises(OpenAIRunError, match="400"):
        scene.run(operator, scene.retry(scene.kept))

    assert not [line for line in lines if "left as it is" in line]
