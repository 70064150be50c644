# SPDX-License-Identifier: Apache-2.0
"""What a task makes of refusals, empty answers, and calls that the server has made itself."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import RunEndedError, RunOutputError, ToolCallsPendingError
from airflow_provider_openai_runs.operators import CreateResponseOperator
from tests.support.scene import Scene
from tests.support.scripted_server import Answer, Asked, Script, ScriptedServer

CALLED: list[str] = []
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
REFUSAL = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot help."}]}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "912"}]}
OWN_SEARCH = {"type": "custom_tool_call", "call_id": "c", "name": "x_search", "input": "a"}


def rows() -> int:
    """Count the rows."""
    CALLED.append("rows")
    return 912


def ask(**more: Any) -> CreateResponseOperator:
    given = {"task_id": "ask", "conn_id": "scripted", "model": "m", "input": "?", "completion_window": 20}
    return CreateResponseOperator(**{**given, "poll_interval": 0.02, **more})


def ends_with(*outputs: list[Any], **more: Any) -> Script:
    """Queue a response, and answer each read of it with the next output, the last one again and again."""
    left = list(outputs)

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return 200, {"id": "resp_1"}
        output = left.pop(0) if len(left) > 1 else left[0]
        return 200, {"id": "resp_1", "status": "completed", "output": output, **more}

    return answer


def test_a_typed_answer_that_was_refused_fails_with_the_models_words(
    scene: Scene, scripted: ScriptedServer
) -> None:
    scripted.play(ends_with([REFUSAL]))
    with pytest.raises(RunOutputError, match="the model refused: I cannot help") as caught:
        ask(output_type=SCHEMA, deferrable=False).execute(scene.context)
    assert isinstance(caught.value, AirflowFailException)


def test_a_refusal_is_in_the_result(scene: Scene, scripted: ScriptedServer) -> None:
    scripted.play(ends_with([REFUSAL]))
    found = scene.run(ask())
    assert (found["refusal"], found["output_text"]) == ("I cannot help.", None)


def test_an_answer_that_is_shown_late_is_waited_for(scene: Scene, scripted: ScriptedServer) -> None:
    scripted.play(ends_with([], [], [MESSAGE]))
    assert scene.run(ask(deferrable=False))["output_text"] == "912"


def test_a_run_that_answered_nothing_fails_and_a_retry_asks_anew(
    scene: Scene, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.read_run.NOT_SHOWN_YET", 0.01)
    scripted.play(ends_with([]))
    with pytest.raises(RunEndedError, match="without any answer") as caught:
        ask(deferrable=False).execute(scene.kept)
    assert not isinstance(caught.value, AirflowFailException)

    with pytest.raises(RunEndedError):
        ask(deferrable=False).execute(scene.retry(scene.kept))
    assert scripted.count("POST /responses") == 2


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_no_function_runs_beside_a_call_of_the_servers_own(
    scene: Scene, scripted: ScriptedServer, *, deferrable: bool
) -> None:
    """A poll does not know the request, and takes the call for pending; the worker knows better."""
    CALLED.clear()
    picture = {"type": "image_generation_call", "result": "aGk="}
    scripted.play(ends_with([picture, OWN_SEARCH]))
    found = scene.run(ask(functions=[rows], deferrable=deferrable))
    assert (found["status"], found["tool_calls"], CALLED) == ("completed", [], [])
    assert scripted.count("POST /responses") == 1


def test_a_typed_answer_before_a_closing_remark_is_not_paid_for_again(
    scene: Scene, scripted: ScriptedServer
) -> None:
    said = {"type": "message", "content": [{"type": "output_text", "text": '{"a": 912}'}]}
    closing = {"type": "message", "content": [{"type": "output_text", "text": "I counted them."}]}
    scripted.play(ends_with([said, closing]))
    assert scene.run(ask(output_type=SCHEMA))["output"] == {"a": 912}
    assert scripted.count("POST /responses") == 1


CALL = {"type": "function_call", "call_id": "call_1", "name": "rows", "arguments": "{}"}


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_call_that_only_the_whole_run_shows_is_answered(
    scene: Scene, scripted: ScriptedServer, *, deferrable: bool
) -> None:
    """The server does not say what was offered, and the model goes on after its call."""
    CALLED.clear()
    polled = ends_with([CALL, MESSAGE])

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return 200, {"id": "resp_2" if isinstance(asked.body["input"], list) else "resp_1"}
        if asked.path.endswith("resp_2"):
            return 200, {"id": "resp_2", "status": "completed", "output": [MESSAGE]}
        return polled(asked) if callable(polled) else (404, {})

    scripted.play(answer)
    found = scene.run(ask(functions=[rows], deferrable=deferrable))
    assert (found["id"], found["output_text"], CALLED) == ("resp_2", "912", ["rows"])
    sent = scripted.bodies()[-1]["input"]
    assert sent == [{"type": "function_call_output", "call_id": "call_1", "output": "912"}]


def test_a_server_that_shows_a_call_now_and_then_comes_to_an_end(
    scene: Scene, scripted: ScriptedServer
) -> None:
    CALLED.clear()
    scripted.play(ends_with([MESSAGE], [CALL, MESSAGE], [MESSAGE], [CALL, MESSAGE]))
    with pytest.raises(ToolCallsPendingError):
        scene.run(ask(functions=[rows], deferrable=False))
    assert CALLED == []


@pytest.mark.parametrize("max_tries", [2, 0], ids=["a retry left", "the last attempt"])
def test_a_run_whose_server_takes_its_end_back_is_not_left_going_in_silence(
    scene: Scene, scripted: ScriptedServer, max_tries: int
) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.attempts.finish.CANCEL_WAIT", 0.2)
    polls = iter(["completed"])

    def answer(asked: Asked) -> Any:
        status = "queued" if asked.method == "POST" else next(polls, "in_progress")
        return 200, {"id": "resp_1", "object": "response", "status": status, "output": []}

    scripted.play(answer)
    operator = CreateResponseOperator(
        task_id="ask", conn_id="scripted", model="m", input="?", completion_window=20, poll_interval=0.05
    )
    left = "left running" if max_tries else "was asked to cancel"
    with pytest.raises(RunEndedError, match=left):
        scene.run(operator, scene.context_of(None, max_tries=max_tries))
    assert ("POST /responses/resp_1/cancel" in map(str, scripted.asked)) is (max_tries == 0)


@pytest.mark.parametrize(
    "done",
    [
        [CALL, {"type": "function_call_result", "call_id": "call_1", "output": "7"}],
        [CALL | {"output": "7"}],
    ],
)
def test_a_function_that_the_server_has_run_is_not_run_again(
    scene: Scene, scripted: ScriptedServer, done: list[Any]
) -> None:
    CALLED.clear()
    tools = [{"type": "function", "name": "rows"}]
    scripted.play(ends_with([*done, MESSAGE], tools=tools))
    assert scene.run(ask(functions=[rows]))["output_text"] == "912"
    assert (CALLED, scripted.count("POST /responses")) == ([], 1)
