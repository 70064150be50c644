# SPDX-License-Identifier: Apache-2.0
"""
A conversation whose last call has no answer refuses every response.

Whoever gives a response up answers its calls with an error, once: the next create in the conversation works.
"""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import LostCreateError, ToolCallsFailedError
from airflow_provider_openai_runs.operators import SubmitToolOutputsOperator
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.scene import Make, Scene
from tests.support.weather import CALL, CALLS, fails, weather

QUICK = Scenario(queued=0.01, in_progress=0.02)
ITEMS = r"^/conversations/[^/]+/items$"


@pytest.fixture
def conversation(scene: Scene) -> str:
    return str(scene.post("/conversations")["id"])


def outputs_in(scene: Scene, conversation: str) -> list[dict[str, Any]]:
    items = scene.get(f"/conversations/{conversation}/items?limit=100")["data"]
    return [item for item in items if item["type"] == "function_call_output"]


@pytest.mark.parametrize("next_attempt", ["retry", "clear"])
def test_what_a_killed_attempt_has_refused_and_not_closed_the_next_one_closes_first(
    scene: Scene, respond: Make, conversation: str, next_attempt: str
) -> None:
    """As after SIGKILL between the two: the record says refused, and the calls are open."""
    scene.simulator.script(CALLS, QUICK)
    scene.simulator.fault(Fault(method="POST", path=ITEMS, status=400))
    given = {"conversation": conversation, "functions": [fails], "max_tool_errors": 1}
    with pytest.raises(ToolCallsFailedError, match=rf"{conversation} is left with calls") as caught:
        scene.run(respond(**given), scene.kept)
    assert caught.value.retryable
    assert scene.store.record["refused"]

    found = scene.run(respond(**given), getattr(scene, next_attempt)(scene.kept))
    assert found["status"] == "completed"
    assert len(outputs_in(scene, conversation)) == 1
    assert scene.creates() == 2


@pytest.mark.parametrize("methods", ["POST", "GET|POST"], ids=["cannot be added", "are no route"])
@pytest.mark.parametrize("next_attempt", ["retry", "clear"])
def test_where_items_of_a_conversation_cannot_be_written_the_next_create_brings_the_answers(
    scene: Scene, respond: Make, conversation: str, next_attempt: str, methods: str
) -> None:
    scene.simulator.script(CALLS, QUICK)
    for method in methods.split("|"):
        scene.simulator.fault(Fault(method=method, path=ITEMS, status=404, times=None))
    given = {"conversation": conversation, "functions": [fails], "max_tool_errors": 1}
    with pytest.raises(ToolCallsFailedError, match=rf"{conversation} is left with calls"):
        scene.run(respond(**given), scene.kept)
    if next_attempt == "retry":  # they go along with the create that is accepted
        scene.simulator.fault(Fault(method="POST", path="^/responses$", status=429))

    found = scene.run(respond(**given), getattr(scene, next_attempt)(scene.kept))
    assert found["status"] == "completed"
    sent = [request.body["input"] for request in scene.simulator.requests if request.path == "/responses"][-1]
    assert [item.get("type") for item in sent] == ["function_call_output", None]
    assert sent[-1] == {"role": "user", "content": "Why is the sky blue?"}


def test_answers_that_a_lost_create_has_brought_are_not_sent_with_the_next_one(
    scene: Scene, respond: Make, conversation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.RESUBMIT_PAUSE", 0.02)
    scene.simulator.script(CALLS, QUICK, QUICK)
    scene.simulator.fault(Fault(method="POST", path=ITEMS, status=404, times=None))
    given = {"conversation": conversation, "functions": [fails], "max_tool_errors": 1}
    with pytest.raises(ToolCallsFailedError):
        scene.run(respond(**given), scene.kept)
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost"))

    again = respond(**given, on_lost_create="resubmit")
    assert scene.run(again, scene.retry(scene.kept))["status"] == "completed"
    assert len(outputs_in(scene, conversation)) == 1


def test_calls_that_a_killed_attempt_has_closed_are_not_closed_again(
    scene: Scene, respond: Make, conversation: str
) -> None:
    """As after SIGKILL right after the close: nothing on record says that it was done."""
    scene.simulator.script(CALLS, QUICK)
    given = {"conversation": conversation, "functions": [fails], "max_tool_errors": 1}
    with pytest.raises(ToolCallsFailedError, match="which can be used again"):
        scene.run(respond(**given), scene.kept)
    del scene.store.values["openai_run"]["ended"]

    assert scene.run(respond(**given), scene.retry(scene.kept))["status"] == "completed"
    assert len(outputs_in(scene, conversation)) == 1


def test_a_clear_does_not_answer_again_what_another_task_has_answered(
    scene: Scene, respond: Make, conversation: str
) -> None:
    scene.simulator.script(CALLS, QUICK)
    given = {"conversation": conversation, "on_tool_calls": "return"}
    asked = scene.run(respond(**given), scene.kept)
    outputs = {call["id"]: "sunny" for call in asked["tool_calls"]}
    submit = SubmitToolOutputsOperator(
        task_id="submit",
        ref=asked["ref"],
        outputs=outputs,
        completion_window=30,
        poll_interval=0.05,
        deferrable=False,
    )
    scene.run(submit, scene.context_of(None, task_id="submit"))
    scene.run(respond(**given), scene.clear(scene.kept))

    assert [item["output"] for item in outputs_in(scene, conversation)] == ["sunny"]
    assert scene.simulator.count("POST", ITEMS) == 0


def test_a_clear_answers_the_calls_that_nobody_has_answered_after_their_task_returned_them(
    scene: Scene, respond: Make, conversation: str
) -> None:
    scene.simulator.script(CALLS, QUICK)
    given = {"conversation": conversation, "on_tool_calls": "return"}
    scene.run(respond(**given), scene.kept)

    assert scene.run(respond(**given), scene.clear(scene.kept))["output_text"]
    assert len(outputs_in(scene, conversation)) == 1


def test_a_clear_closes_the_calls_whose_answer_was_lost_on_its_way(
    scene: Scene, respond: Make, conversation: str
) -> None:
    scene.simulator.script(CALLS, QUICK)
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="reset", skip=1))
    given = {"conversation": conversation, "functions": [weather]}
    with pytest.raises(LostCreateError):
        scene.run(respond(**given), scene.kept)

    assert scene.run(respond(**given), scene.clear(scene.kept))["status"] == "completed"


def test_calls_that_came_before_the_cancel_of_an_earlier_attempt_are_answered_and_not_closed(
    scene: Scene, respond: Make, conversation: str
) -> None:
    """The attempt before has noted that it ends the run; it calls a function before the retry can do so."""
    scene.simulator.script(Scenario(queued=0.01, in_progress=2, function_calls=((CALL,),)))
    given = {"conversation": conversation, "functions": [weather]}
    with pytest.raises(TaskDeferred):
        respond(**given, deferrable=True).execute(scene.kept)
    scene.store.values["openai_run"]["ended_by_us"] = True
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=409, times=None))

    found = scene.run(respond(**given), scene.retry(scene.kept))
    assert found["status"] == "completed"
    assert [item["output"] for item in outputs_in(scene, conversation)] == ["Rain in Oslo"]
