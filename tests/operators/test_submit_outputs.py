# SPDX-License-Identifier: Apache-2.0
"""Calls that another task answers: ``on_tool_calls="return"``, then ``SubmitToolOutputsOperator``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import (
    LostCreateError,
    RunCancelledError,
    RunRequestError,
    ToolCallsPendingError,
)
from airflow_provider_openai_runs.operators import SubmitToolOutputsOperator
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene
from tests.support.scripted_server import ScriptedServer

ASKS = (FunctionCall(name="weather", arguments={"city": "Oslo"}),)


@pytest.fixture
def waiting(scene: Scene, create: Make) -> Callable[..., dict[str, Any]]:
    """Make a run that waits for the answers to its calls, by a task of its own."""

    def make(*rounds: Any, in_progress: float = 0.02) -> dict[str, Any]:
        scene.simulator.script(
            Scenario(
                function_calls=rounds or (ASKS,),
                queued=0.01,
                in_progress=in_progress,
                times=None,
                text="Blue.",
            )
        )
        found: dict[str, Any] = scene.run(
            create(on_tool_calls="return"), scene.context_of(None, task_id="ask")
        )
        return found

    return make


@pytest.fixture
def submit(scene: Scene) -> Callable[..., SubmitToolOutputsOperator]:
    def make(run: dict[str, Any], outputs: Any = None, **arguments: Any) -> SubmitToolOutputsOperator:
        answers = {call["id"]: "sunny" for call in run["tool_calls"]}
        given = {
            "task_id": "ask",
            "ref": run["ref"],
            "outputs": answers if outputs is None else outputs,
            "completion_window": 30,
            "poll_interval": 0.05,
            "deferrable": False,
        }
        return SubmitToolOutputsOperator(**{**given, **arguments})

    return make


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_another_task_answers_and_waits_for_the_end(
    scene: Scene, waiting: Callable[..., Any], submit: Callable[..., Any], *, deferrable: bool
) -> None:
    run = waiting()
    found = scene.run(submit(run, deferrable=deferrable))

    assert found["status"] == "completed"
    assert found["output_text"] == "Blue."
    assert (found["id"] == run["id"]) is (run["ref"]["kind"] == "thread_run")


def test_the_next_round_may_be_returned_again(
    scene: Scene, waiting: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    run = waiting(ASKS, (FunctionCall(name="rain"),))
    second = scene.run(submit(run, on_tool_calls="return"))
    third = scene.run(submit(second), scene.context_of(None, task_id="again"))

    assert [call["name"] for call in second["tool_calls"]] == ["rain"]
    assert third["status"] == "completed"


def test_functions_may_answer_the_rounds_that_follow(
    scene: Scene, waiting: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    def rain() -> str:
        """Say whether it rains."""
        return "no"

    run = waiting(ASKS, (FunctionCall(name="rain"),))
    found = scene.run(submit(run, functions=[rain]))

    assert found["status"] == "completed"


def test_a_retry_does_not_count_what_another_task_has_paid_for(
    scene: Scene, respond: Make, submit: Callable[..., Any]
) -> None:
    scene.simulator.script(Scenario(function_calls=(ASKS,), queued=0, in_progress=0, usage=(50, 5), times=2))
    run = scene.run(respond(on_tool_calls="return"), scene.context_of(None, task_id="ask"))
    scene.store.fail("set", KeyboardInterrupt(), skip=1)
    with pytest.raises(KeyboardInterrupt):  # the run is on record, its answer is not sent
        submit(run).execute(scene.kept)
    scene.store.recover()
    found = scene.run(submit(run), scene.retry(scene.kept))

    assert found["usage_total"] == found["usage"]
    assert found["usage_total"]["total_tokens"] == 55


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_what_another_task_has_paid_for_counts_once_in_its_own_result(
    scene: Scene, respond: Make, submit: Callable[..., Any], *, deferrable: bool
) -> None:
    def rain() -> str:
        """Say whether it rains."""
        return "no"

    scene.simulator.script(
        Scenario(function_calls=(ASKS, (FunctionCall(name="rain"),)), queued=0, in_progress=0, times=None)
    )
    run = scene.run(respond(on_tool_calls="return"), scene.context_of(None, task_id="ask"))
    found = scene.run(submit(run, functions=[rain], deferrable=deferrable))
    ids = [paid["id"] for paid in scene.simulator.runs()]
    read = [scene.get(f"/responses/{paid}")["usage"]["total_tokens"] for paid in ids]

    assert ids[0] == run["id"]
    assert run["usage"]["total_tokens"] == read[0]
    assert found["usage"]["total_tokens"] == sum(read[1:])
    assert len(read) == 3


@pytest.mark.parametrize("outputs", [{"call_other": "x"}, {"call_other": "x", "call_more": "y"}])
def test_outputs_for_other_calls_are_refused_and_the_run_goes_on_waiting(
    scene: Scene, waiting: Callable[..., Any], submit: Callable[..., Any], outputs: dict[str, str]
) -> None:
    run = waiting()
    with pytest.raises(RunRequestError, match=r"waits for \['call_"):
        scene.run(submit(run, outputs))
    found = scene.run(submit(run))

    assert found["status"] == "completed"
    assert scene.simulator.count("POST", "/cancel$") == 0


def test_a_run_that_waits_for_nothing_is_refused_with_its_status(
    scene: Scene, waiting: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    run = waiting()
    done = scene.run(submit(run))
    again = submit(run, {"call_x": "late"})
    if run["ref"]["kind"] == "response":
        again = submit({**run, "ref": done["ref"]}, {"call_x": "late"})
    with pytest.raises(Exception, match=r"waits for no answer: its status is completed"):
        scene.run(again, scene.context_of(None, task_id="late"))


def test_no_outputs_at_all_are_refused(waiting: Callable[..., Any], submit: Callable[..., Any]) -> None:
    run = waiting()
    with pytest.raises(RunRequestError, match="outputs"):
        submit(run, {}).execute({"ti": None})


def test_a_retry_after_the_answer_was_sent_does_not_send_it_again(
    scene: Scene, waiting: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    run = waiting()
    with pytest.raises(TaskDeferred):
        submit(run, deferrable=True).execute(scene.kept)
    found = scene.run(submit(run, deferrable=True), scene.retry(scene.kept))
    answers = scene.simulator.count("POST", "submit_tool_outputs$")

    assert found["status"] == "completed"
    assert answers + scene.simulator.count("POST", "^/responses$") == (
        1 if run["ref"]["kind"] == "thread_run" else 2
    )


def test_a_clear_answers_a_response_anew_and_tells_what_to_do_about_a_thread_run(
    scene: Scene, waiting: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    run = waiting(in_progress=3.2)
    with pytest.raises(TaskDeferred):
        submit(run, deferrable=True).execute(scene.kept)
    if run["ref"]["kind"] == "thread_run":
        with pytest.raises(RunCancelledError):
            scene.run(submit(run), scene.clear(scene.kept))
    else:
        assert scene.run(submit(run), scene.clear(scene.kept))["status"] == "completed"
    assert scene.simulator.active() == []


def test_a_lost_answer_to_the_next_response_follows_on_lost_create(
    scene: Scene, waiting: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    run = waiting()
    scene.simulator.fault(Fault(path="(^/responses|submit_tool_outputs)$", method="POST", kind="lost"))
    if run["ref"]["kind"] == "thread_run":
        assert scene.run(submit(run))["status"] == "completed"
        return
    with pytest.raises(LostCreateError):
        scene.run(submit(run))


def test_the_answer_may_be_one_to_an_mcp_tool_that_asks_for_approval(
    scene: Scene, respond: Make, submit: Callable[..., Any]
) -> None:
    scene.simulator.script(
        Scenario(mcp_approval=FunctionCall(name="roll"), queued=0.01, in_progress=0.02, times=None)
    )
    run = scene.run(respond(on_tool_calls="return"), scene.context_of(None))
    (call,) = run["tool_calls"]
    found = scene.run(submit(run, {call["id"]: True}), scene.context_of(None, task_id="answer"))
    sent = scene.simulator.requests[-1]
    items = next(
        r.body["input"]
        for r in reversed(scene.simulator.requests)
        if r.method == "POST" and isinstance((r.body or {}).get("input"), list)
    )

    assert sent is not None
    assert items == [{"type": "mcp_approval_response", "approval_request_id": call["id"], "approve": True}]
    assert found["status"] == "completed"


def test_without_an_answer_the_task_fails_and_says_which_call_waits(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(function_calls=(ASKS,), queued=0.01, in_progress=0.01))
    with pytest.raises(ToolCallsPendingError, match="weather"):
        scene.run(create())


def test_a_text_for_a_call_that_takes_none_is_refused_before_anything_is_on_record(
    scene: Scene, scripted: ScriptedServer, submit: Callable[..., Any]
) -> None:
    call = {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}}
    done = {"id": "resp_1", "status": "completed", "output": [call], "tools": [{"type": "shell"}]}
    scripted.play({"GET /responses/resp_1": (200, done)})
    run = {
        "ref": {"kind": "response", "id": "resp_1", "conn_id": "scripted"},
        "tool_calls": [{"id": "call_1"}],
    }
    with pytest.raises(RunRequestError, match=r"call_1.*takes no text.*'shell_call_output'"):
        scene.run(submit(run), scene.kept)
    assert scripted.bodies() == []
    assert scene.store.record["ref"]["id"] == "resp_1"


def test_a_clear_before_the_answer_was_sent_leaves_the_calls_to_the_answer(
    scene: Scene, respond: Make, submit: Callable[..., Any]
) -> None:
    class WorkerLost(BaseException):
        """The worker is gone."""

    conversation = scene.post("/conversations")["id"]
    scene.simulator.script(Scenario(function_calls=(ASKS,), queued=0, in_progress=0.01, times=None))
    asks = respond(conversation=conversation, on_tool_calls="return")
    run = scene.run(asks, scene.context_of(None, task_id="ask"))
    scene.store.fail("set", WorkerLost(), skip=1)
    with pytest.raises(WorkerLost):
        scene.run(submit(run), scene.kept)
    scene.store.recover()
    assert scene.store.record["ref"]["id"] == run["id"]
    assert scene.run(submit(run), scene.clear(scene.kept))["status"] == "completed"
    assert scene.simulator.count("POST", "/items$") == 0
