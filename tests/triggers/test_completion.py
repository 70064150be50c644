# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.module_loading import import_string

from airflow_provider_openai_runs.simulator import Fault, Scenario
from airflow_provider_openai_runs.triggers import RunCompletionTrigger, completion
from tests.support.scene import Scene
from tests.support.waiting import until

QUICK = Scenario(queued=0.02, in_progress=0.1)
LONG = Scenario(queued=0.02, in_progress=500)

#: What the first version stores; it must load in every later one.
FIRST_PAYLOAD: tuple[str, dict[str, Any]] = (
    "airflow_provider_openai_runs.triggers.RunCompletionTrigger",
    {
        "ref": {
            "kind": "thread_run",
            "id": "run_1",
            "conn_id": "openai_default",
            "thread_id": "thread_1",
        },
        "created_at": 1795297000.25,
        "deadline": 1795297600.25,
        "attempt_deadline": None,
        "poll_interval": None,
        "cancel_on_kill": True,
        "cancel_on_timeout": True,
        "deferred_at": 1795297000.5,
        "target_statuses": [],
    },
)


@pytest.fixture
def trigger(scene: Scene) -> Callable[..., RunCompletionTrigger]:
    """Start a response and make a trigger that waits for it."""

    def make(**arguments: Any) -> RunCompletionTrigger:
        created = scene.post("/responses", model="m", input="A secret recipe", background=True)
        ref = {"kind": "response", "id": created["id"], "conn_id": "openai_default"}
        given = {"created_at": time.time(), "deadline": time.time() + 30, "poll_interval": 0.05}
        return RunCompletionTrigger(ref=ref, **{**given, **arguments})

    return make


def test_a_trigger_is_the_same_after_its_way_through_the_database() -> None:
    path, kwargs = FIRST_PAYLOAD
    trigger = import_string(path)(**json.loads(json.dumps(kwargs)))

    assert isinstance(trigger, RunCompletionTrigger)
    assert trigger.serialize() == FIRST_PAYLOAD


def test_arguments_of_a_later_version_are_ignored_and_missing_ones_have_defaults() -> None:
    path, kwargs = FIRST_PAYLOAD
    later = import_string(path)(**kwargs, of_a_later_version=1)
    minimal = import_string(path)(ref=kwargs["ref"])

    assert later.serialize() == FIRST_PAYLOAD
    assert minimal.serialize()[1]["ref"] == kwargs["ref"]
    assert minimal.cancel_on_kill
    assert minimal.tracked.deadline is None


def test_one_event_says_how_the_wait_ended_and_carries_no_output(
    scene: Scene, trigger: Callable[..., Any]
) -> None:
    scene.simulator.script(Scenario(in_progress=0.1, text="Rayleigh"))
    waits = trigger()
    event = scene.fire(waits)

    assert event == {
        "ref": waits.tracked.ref.to_json(),
        "outcome": "ended",
        "fate": "ended",
        "status": "completed",
        "trouble": None,
        "created_at": waits.tracked.created_at,
        "deadline": waits.tracked.deadline,
        "attempt_deadline": None,
    }
    assert "Rayleigh" not in json.dumps(event)


def test_the_run_is_cancelled_at_the_deadline_before_the_event_is_fired(
    scene: Scene, trigger: Callable[..., Any]
) -> None:
    scene.simulator.script(LONG)
    event = scene.fire(trigger(deadline=time.time() + 0.3))

    assert (event["outcome"], event["fate"], event["status"]) == ("window_over", "cancelled", "cancelled")
    assert scene.simulator.active() == []


def test_a_cancel_that_was_accepted_counts_though_nobody_can_poll_after_it(
    scene: Scene, trigger: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "CANCEL_WAIT", 0.5)
    scene.simulator.script(Scenario(queued=0, in_progress=500, cancelling=60))
    # The first poll sees that its time is over; the server fails after the cancel.
    scene.simulator.fault(Fault(method="GET", status=401, skip=1, times=None))
    event = scene.fire(trigger(deadline=time.time() - 1))

    assert (event["outcome"], event["fate"]) == ("window_over", "cancelling")
    assert scene.simulator.count("POST", "/cancel$") == 1


def test_cancel_on_timeout_false_leaves_the_run_at_the_deadline(
    scene: Scene, trigger: Callable[..., Any]
) -> None:
    scene.simulator.script(LONG)
    event = scene.fire(trigger(deadline=time.time() + 0.2, cancel_on_timeout=False))

    assert (event["outcome"], event["fate"]) == ("window_over", "left_running")
    assert len(scene.simulator.active()) == 1


def test_a_trigger_that_starts_after_its_deadline_polls_first(
    scene: Scene, trigger: Callable[..., Any]
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0))
    event = scene.fire(trigger(deadline=time.time() - 100))

    assert (event["outcome"], event["status"]) == ("ended", "completed")


def test_a_restart_of_the_triggerer_cancels_nothing(scene: Scene, trigger: Callable[..., Any]) -> None:
    scene.simulator.script(LONG)
    waits = trigger()

    async def start_and_stop() -> None:
        task = asyncio.create_task(anext(waits.run()))
        while not scene.simulator.count("GET", "^/responses/"):  # noqa: ASYNC110 - the simulator has no event
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await waits.cleanup()

    asyncio.run(start_and_stop())
    assert len(scene.simulator.active()) == 1
    assert scene.simulator.count("POST", "/cancel$") == 0


@pytest.mark.parametrize(
    ("place", "earliest"), [("no executor", 60.0), ("an executor", 0.5), ("a move", 60.0)]
)
def test_the_event_of_a_quick_run_is_held_back_for_the_executor_and_only_for_it(
    scene: Scene,
    trigger: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    earliest: float,
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.triggers.completion.EARLIEST_EVENT", earliest)
    scene.simulator.script(Scenario(queued=0, in_progress=0))
    # A trigger that moves to another triggerer starts again, long after the executor has had its say.
    waits = trigger(deferred_at=time.time() - (100 if place == "a move" else 0))
    waits.task_instance = None if place == "no executor" else SimpleNamespace(task_id="ask")
    began = time.monotonic()
    asyncio.run(anext_of(waits))

    if place == "an executor":
        assert time.monotonic() - began > 0.4
    else:
        assert time.monotonic() - began < 30


async def anext_of(trigger: RunCompletionTrigger) -> Any:
    return [event async for event in trigger.run()]


def test_a_404_right_after_the_create_is_waited_out(scene: Scene, trigger: Callable[..., Any]) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, hidden_for=0.3))

    assert scene.fire(trigger())["status"] == "completed"


@pytest.mark.parametrize("kind", ["reset", "cut", "status"])
def test_a_failure_does_not_end_the_wait(scene: Scene, trigger: Callable[..., Any], kind: str) -> None:
    scene.simulator.script(QUICK)
    scene.simulator.fault(Fault(method="GET", kind=kind, status=502))

    assert scene.fire(trigger())["status"] == "completed"


def test_a_target_status_is_reached_before_the_end(scene: Scene, trigger: Callable[..., Any]) -> None:
    scene.simulator.script(LONG)
    event = scene.fire(trigger(target_statuses=["in_progress"], cancel_on_timeout=False))

    assert (event["outcome"], event["fate"], event["status"]) == ("reached", "left_running", "in_progress")


def test_a_connection_that_is_gone_ends_the_wait_after_a_while_and_leaves_the_run(
    scene: Scene, trigger: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.PERMANENT_FAILURE_BUDGET", 0.5)
    scene.simulator.script(LONG)
    waits = trigger()
    monkeypatch.delenv("AIRFLOW_CONN_OPENAI_DEFAULT")
    event = scene.fire(waits)

    assert (event["outcome"], event["fate"]) == ("unreachable", "left_running")
    assert "openai_default" in event["trouble"]


def test_a_log_has_a_line_for_each_change_and_none_for_each_poll(
    scene: Scene, trigger: Callable[..., Any]
) -> None:
    scene.simulator.script(Scenario(queued=2000, in_progress=2000))
    waits = trigger(deadline=time.time() + 5000)
    lines = scene.log_of(waits)

    def go_on_after(polls: int) -> None:
        until(lambda: scene.simulator.count("GET", "^/responses/") >= polls)
        scene.simulator.advance(600)

    def go_on() -> None:
        go_on_after(3)
        go_on_after(6)

    clock = threading.Thread(target=go_on)
    clock.start()
    asyncio.run(anext_of(waits))
    clock.join()

    assert scene.simulator.count("GET", "^/responses/") > 6
    assert [line.rpartition("-> ")[2] for line in lines] == ["queued", "in_progress", "completed"]
