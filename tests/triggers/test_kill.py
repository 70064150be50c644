# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import importlib
import itertools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import airflow.sdk
import pytest

from airflow_provider_openai_runs.attempts import task_state
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from airflow_provider_openai_runs.triggers import RunCompletionTrigger, completion
from tests.support.scene import Scene

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


@pytest.fixture
def killed(scene: Scene, mocker: MockerFixture) -> Callable[..., list[str]]:
    """Kill a trigger whose task instance is, according to Airflow, in this state."""

    def kill(
        states: Any,
        *,
        map_index: int = -1,
        asked: str | None = None,
        thread_id: str | None = None,
        ask_seconds: float = 60.0,
        tells_moves: bool = False,
        fires_first: bool = False,
        **arguments: Any,
    ) -> list[str]:
        if asked is None:
            scene.simulator.script(Scenario(queued=0, in_progress=500))
            asked = scene.post("/responses", model="m", input="Why?", background=True)["id"]
        ref = {"kind": "response", "id": asked, "conn_id": "openai_default"}
        ref |= {"thread_id": thread_id} if thread_id else {}
        trigger = RunCompletionTrigger(ref=ref, **arguments)
        trigger.task_instance = SimpleNamespace(  # type: ignore[assignment]
            dag_id="a_dag", run_id="a_run", task_id="ask", map_index=map_index
        )
        answers = [
            state if isinstance(state, Exception) else SimpleNamespace(task_states={"a_run": state})
            for state in (states if isinstance(states, list) else [states])
        ]
        # The last answer comes again and again.
        asend = mocker.AsyncMock(side_effect=itertools.chain(answers, itertools.repeat(answers[-1])))
        mocker.patch.object(task_state, "TRIGGER_ASK_PAUSE", 0.02)
        mocker.patch.object(completion, "TRIGGER_ASK_SECONDS", ask_seconds)
        mocker.patch(
            "airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS",
            # Airflow below 3.3 masks secrets through it, too.
            SimpleNamespace(asend=asend, send=mocker.Mock()),
            create=True,
        )
        runner = SimpleNamespace(**({"_REASSIGNED_CANCEL_MSG": "moved"} if tells_moves else {}))
        mocker.patch.dict(sys.modules, {"airflow.jobs.triggerer_job_runner": runner})
        lines = scene.log_of(trigger)

        async def wait_and_kill() -> None:
            if fires_first:
                await anext(trigger.run())
            await trigger.on_kill()

        asyncio.run(wait_and_kill())
        return lines

    return kill


@pytest.mark.parametrize(
    "states",
    [
        *({"ask": state} for state in ("success", "failed", "skipped", "removed", "upstream_failed")),
        {"ask": None},
        {},
    ],
    ids=str,
)
def test_a_run_whose_task_was_ended_cleared_or_deleted_is_cancelled(
    scene: Scene, killed: Callable[..., list[str]], states: Any
) -> None:
    killed(states)

    assert [run["status"] for run in scene.simulator.runs()] == ["cancelled"]


@pytest.mark.parametrize(
    "states",
    [
        *({"ask": s} for s in ("deferred", "running", "scheduled", "queued", "up_for_retry", "restarting")),
        {"ask": "a_state_of_a_later_airflow"},
    ],
    ids=str,
)
def test_a_run_whose_task_goes_on_or_may_go_on_is_left_alone(
    scene: Scene, killed: Callable[..., list[str]], states: Any
) -> None:
    killed(states)

    assert len(scene.simulator.active()) == 1


@pytest.mark.parametrize(
    "states",
    [*({"ask": s} for s in ("deferred", "running", "queued")), OSError("Airflow is away")],
    ids=str,
)
def test_where_airflow_kills_no_trigger_that_moves_a_task_that_goes_on_was_cleared(
    scene: Scene, killed: Callable[..., list[str]], states: Any
) -> None:
    lines = killed(states, tells_moves=True, ask_seconds=0.1)

    assert [run["status"] for run in scene.simulator.runs()] == ["cancelled"]
    assert any("cancelled because its task is cleared" in line for line in lines)


def test_a_trigger_that_has_woken_its_task_leaves_the_run_to_it_all_the_same(
    scene: Scene, killed: Callable[..., list[str]]
) -> None:
    killed({"ask": "running"}, tells_moves=True, fires_first=True, target_statuses=["in_progress"])

    assert len(scene.simulator.active()) == 1


@pytest.mark.skipif(not hasattr(airflow.sdk, "ChainRetryPolicy"), reason="Airflow has it from 3.4 on")
def test_airflow_still_has_that_by_which_a_move_is_known() -> None:
    runner = importlib.import_module("airflow.jobs.triggerer_job_runner")
    assert runner._REASSIGNED_CANCEL_MSG


def test_a_mapped_task_instance_is_known_by_its_index(scene: Scene, killed: Callable[..., list[str]]) -> None:
    killed({"ask_3": "failed", "ask_4": "deferred"}, map_index=4)
    assert len(scene.simulator.active()) == 1

    killed({"ask_3": "deferred", "ask_4": "failed"}, map_index=4)
    assert len(scene.simulator.active()) == 1


def test_cancel_on_kill_false_leaves_the_run(scene: Scene, killed: Callable[..., list[str]]) -> None:
    killed({"ask": "failed"}, cancel_on_kill=False)

    assert len(scene.simulator.active()) == 1


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_fails_is_asked_again(scene: Scene, killed: Callable[..., list[str]]) -> None:
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=503))
    killed({"ask": "failed"})

    assert scene.simulator.active() == []


def test_a_run_that_has_ended_meanwhile_is_fine(
    scene: Scene, killed: Callable[..., list[str]], mocker: MockerFixture
) -> None:
    killed({"ask": "failed"})
    ended = scene.simulator.runs()[0]
    trigger = RunCompletionTrigger(ref={"kind": "response", "id": ended["id"], "conn_id": "openai_default"})
    trigger.task_instance = SimpleNamespace(  # type: ignore[assignment]
        dag_id="a_dag", run_id="a_run", task_id="ask", map_index=-1
    )
    asyncio.run(trigger.on_kill())


def test_without_a_task_instance_nothing_is_cancelled(scene: Scene) -> None:
    scene.simulator.script(Scenario(in_progress=500))
    created = scene.post("/responses", model="m", input="Why?", background=True)
    ref = {"kind": "response", "id": created["id"], "conn_id": "openai_default"}
    asyncio.run(RunCompletionTrigger(ref=ref).on_kill())

    assert len(scene.simulator.active()) == 1


def test_calls_with_which_a_response_ended_before_the_cancel_are_answered_in_their_conversation(
    scene: Scene, killed: Callable[..., list[str]]
) -> None:
    conversation = scene.post("/conversations")["id"]
    call = FunctionCall(name="rows")
    scene.simulator.script(
        Scenario(queued=0, in_progress=0, function_calls=[[call]]), Scenario(in_progress=500)
    )
    asked = scene.post("/responses", model="m", input="?", background=True, conversation=conversation)
    killed({"ask": "failed"}, asked=asked["id"], thread_id=conversation)
    again = scene.post("/responses", model="m", input="?", background=True, conversation=conversation)
    assert again["id"]


def test_airflow_is_asked_again_until_it_can_say(scene: Scene, killed: Callable[..., list[str]]) -> None:
    killed([RuntimeError("the API restarts"), RuntimeError("the API restarts"), {"ask": "failed"}])

    assert scene.simulator.active() == []


def test_a_run_of_whose_task_airflow_says_nothing_is_left_and_named(
    scene: Scene, killed: Callable[..., list[str]]
) -> None:
    lines = killed(RuntimeError("Airflow does not answer"), ask_seconds=0.1)

    (run,) = scene.simulator.active()
    assert any(run["id"] in line and "left running and billing" in line for line in lines)


def test_an_airflow_that_never_answers_does_not_hold_the_trigger(
    scene: Scene, killed: Callable[..., list[str]], mocker: MockerFixture
) -> None:
    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    mocker.patch.object(task_state, "_asked", never)
    lines = killed({"ask": "failed"}, ask_seconds=0.1)

    assert len(scene.simulator.active()) == 1
    assert "did not say" in lines[-1]
