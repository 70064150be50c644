# SPDX-License-Identifier: Apache-2.0
"""Function calls of servers with manners of their own, bad ones among them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import (
    RunCallError,
    RunConnectionError,
    ToolCallsFailedError,
    ToolCallsPendingError,
)
from airflow_provider_openai_runs.operators import (
    CreateResponseOperator,
    CreateRunOperator,
    SubmitToolOutputsOperator,
)
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Scene
from tests.support.scripted_server import Answer, Asked, ScriptedServer

CALLED: list[str] = []
WAITING: dict[str, Any] = {
    "task_id": "ask",
    "conn_id": "scripted",
    "completion_window": 20,
    "poll_interval": 0.05,
}
MIB = 1024 * 1024


def weather(city: str = "Oslo") -> str:
    """Forecast the weather of a city."""
    CALLED.append(city)
    return f"blue in {city[:20]}"


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    CALLED.clear()


class Responses:
    """Answers the create at once, with calls round by round, and keeps what it has answered if it is to."""

    def __init__(self, *rounds: list[dict[str, Any]], keeps: bool = True) -> None:
        self.rounds, self.keeps = list(rounds), keeps
        self.kept: dict[str, Any] = {}

    def __call__(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            found = self.kept.get(asked.path.rsplit("/", 1)[-1]) if self.keeps else None
            return (200, found) if found else (404, {"error": {"message": "Not found"}})
        say = {"type": "message", "content": [{"type": "output_text", "text": "Done."}]}
        made: dict[str, Any] = {
            "id": f"resp_{len(self.kept)}",
            "status": "completed",
            "model": "m",
            "output": self.rounds.pop(0) if self.rounds else [say],
            "usage": {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11},
        }
        self.kept[made["id"]] = made
        return 200, made


class ThreadRuns:
    """One run that waits for its calls, round by round."""

    def __init__(self, *rounds: list[dict[str, Any]], submit: Answer | None = None) -> None:
        self.rounds, self.submit, self.cancelled = list(rounds), submit, False

    def __call__(self, asked: Asked) -> Answer:
        path = asked.path
        if path.endswith("/cancel"):
            self.cancelled = True
        elif path.endswith("/submit_tool_outputs"):
            if self.submit is not None:
                return self.submit
            self.rounds.pop(0)
        elif path.endswith(("/messages", "/steps")):
            return 200, {"data": []}
        status = "cancelled" if self.cancelled else "requires_action" if self.rounds else "completed"
        run: dict[str, Any] = {"id": "run_1", "thread_id": "thread_1", "status": status}
        if status == "requires_action":
            calls = [
                {"id": item["call_id"], "type": item.get("kind", "function"), "function": item}
                for item in self.rounds[0]
            ]
            action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
            run["required_action"] = action
        return 200, run


def call(city: str = "Oslo", call_id: str = "call_1", **more: Any) -> dict[str, Any]:
    arguments = json.dumps({"city": city})
    return {"type": "function_call", "call_id": call_id, "name": "weather", "arguments": arguments, **more}


def respond(**more: Any) -> CreateResponseOperator:
    return CreateResponseOperator(**{**WAITING, "model": "m", "input": "?", "functions": [weather], **more})


def run_on(**more: Any) -> CreateRunOperator:
    given = {"thread_id": "thread_1", "assistant_id": "asst_1", "functions": [weather]}
    return CreateRunOperator(**{**WAITING, **given, **more})


@pytest.fixture(params=["response", "thread run"])
def speak(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Give a server and the operator for it."""
    return (Responses, respond) if request.param == "response" else (ThreadRuns, run_on)


def outputs(server: ScriptedServer) -> list[str]:
    """Return what the model read."""
    found = []
    for body in server.bodies():
        items = body.get("tool_outputs") or body.get("input") or []
        found += [item["output"] for item in items if isinstance(item, dict) and "output" in item]
    return found


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_call_id_may_come_again_in_the_next_round(
    scene: Scene, speak: tuple[Any, Any], scripted: ScriptedServer, *, deferrable: bool
) -> None:
    server, operator = speak
    scripted.play(server([call("Oslo")], [call("Rome")], [call("Lima")]))
    found = scene.run(operator(deferrable=deferrable))

    assert found["status"] == "completed"
    assert CALLED == ["Oslo", "Rome", "Lima"]
    assert outputs(scripted) == [f"blue in {city}" for city in CALLED]


def test_given_outputs_are_for_the_first_round_though_its_call_ids_come_again(
    scene: Scene, speak: tuple[Any, Any], scripted: ScriptedServer
) -> None:
    server, operator = speak
    scripted.play(server([call("Oslo")], [call("Rome")]))
    asked = scene.run(operator(functions=[], on_tool_calls="return"), scene.context_of(None))
    submit = SubmitToolOutputsOperator(
        **{**WAITING, "conn_id": None}, ref=asked["ref"], outputs={"call_1": "mine"}, functions=[weather]
    )
    found = scene.run(submit, scene.context_of(None))

    assert found["status"] == "completed"
    assert outputs(scripted) == ["mine", "blue in Rome"]


@pytest.mark.parametrize(
    "ids", [("call_1", "call_1"), ("",), ("call_1", "")], ids=["twice the same", "none", "one has none"]
)
def test_calls_that_no_answer_can_name_call_no_function_and_end_the_run(
    scene: Scene, speak: tuple[Any, Any], scripted: ScriptedServer, ids: tuple[str, ...]
) -> None:
    server, operator = speak
    playing = server([call(f"City {number}", call_id=one) for number, one in enumerate(ids)])
    scripted.play(playing)
    with pytest.raises(ToolCallsFailedError, match=r"not each call has an id of its own.*No function"):
        scene.run(operator())

    assert CALLED == []
    assert getattr(playing, "cancelled", True)


def test_a_call_that_a_server_writes_twice_is_made_once(
    scene: Scene, speak: tuple[Any, Any], scripted: ScriptedServer
) -> None:
    server, operator = speak
    scripted.play(server([call("Oslo"), call("Oslo")]))
    assert scene.run(operator())["status"] == "completed"
    assert CALLED == ["Oslo"]
    assert outputs(scripted) == ["blue in Oslo"]


def test_thousands_of_calls_of_a_round_are_answered_in_one_request_and_named_in_a_line(
    scene: Scene, speak: tuple[Any, Any], scripted: ScriptedServer
) -> None:
    server, operator = speak
    scripted.play(server([call(call_id=f"call_{number}") for number in range(2_000)]))
    task = operator(completion_window=300)
    lines = scene.log_of(task)
    found = scene.run(task)

    assert found["status"] == "completed"
    assert len(CALLED) == len(outputs(scripted)) == 2_000
    (line,) = [line for line in lines if line.startswith("Answered")]
    assert "and 1995 more" in line
    assert len(line) < 1000


def test_an_error_about_thousands_of_calls_is_one_that_people_can_read(
    scene: Scene, speak: tuple[Any, Any], scripted: ScriptedServer
) -> None:
    server, operator = speak
    scripted.play(server([call("x" * 500, call_id=f"call_{number}") for number in range(2_000)]))
    with pytest.raises(ToolCallsPendingError, match="and 1995 more") as caught:
        operator(functions=[]).execute(scene.context)

    assert len(str(caught.value)) < 2000


def test_arguments_of_five_megabytes_reach_the_function_and_their_errors_are_short(
    scene: Scene, speak: tuple[Any, Any], scripted: ScriptedServer
) -> None:
    server, operator = speak
    scripted.play(server([call("x" * 5 * MIB), call(arguments="{" * 5 * MIB, call_id="call_2")]))
    found = scene.run(operator())

    assert found["status"] == "completed"
    assert [len(city) for city in CALLED] == [5 * MIB]
    assert all(len(text) < 1000 for text in outputs(scripted))


def test_a_call_that_nobody_can_answer_beside_a_function_calls_nothing(
    scene: Scene, scripted: ScriptedServer
) -> None:
    scripted.play(Responses([call(), {"type": "computer_call", "call_id": "call_2", "id": "cu_1"}]))
    with pytest.raises(ToolCallsPendingError, match="computer_call"):
        respond().execute(scene.context)

    assert CALLED == []


def test_a_server_that_keeps_nothing_is_answered_from_what_it_has_said(
    scene: Scene, scripted: ScriptedServer
) -> None:
    scripted.play(Responses([call("Oslo")], [call("Rome")], keeps=False))
    found = scene.run(respond())

    assert found["status"] == "completed"
    assert CALLED == ["Oslo", "Rome"]
    assert [body["previous_response_id"] for body in scripted.bodies() if "previous_response_id" in body] == [
        "resp_0",
        "resp_1",
    ]


@pytest.mark.parametrize("status", [400, 404, 422])
def test_outputs_that_are_refused_end_the_run_that_waits_for_them(
    scene: Scene, scripted: ScriptedServer, status: int
) -> None:
    playing = ThreadRuns([call()], submit=(status, {"error": {"message": "No such run."}}))
    scripted.play(playing)
    with pytest.raises(RunCallError, match=r"No such run.*The run was cancelled"):
        run_on().execute(scene.context)

    assert playing.cancelled


def test_outputs_that_are_refused_for_a_key_leave_the_run_to_a_fixed_one(
    scene: Scene, scripted: ScriptedServer
) -> None:
    playing = ThreadRuns([call()], submit=(401, {"error": {"message": "Bad key."}}))
    scripted.play(playing)
    with pytest.raises(RunConnectionError, match=r"Bad key.*A retry of the task sends the answers") as caught:
        run_on().execute(scene.context)

    assert not isinstance(caught.value, AirflowFailException)
    assert not playing.cancelled


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize(
    "refusal",
    [
        (401, {"error": {"message": "Bad key."}}),
        (403, {"detail": "blocked"}),
        (404, {"message": "no Route matched with those values"}),
        (404, {"error": {"message": "No run found with id 'run_1'."}}),
    ],
)
def test_calls_whose_read_is_refused_once_are_answered_all_the_same(
    scene: Scene, scripted: ScriptedServer, refusal: Any
) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.attempts.read_run.READ_PAUSES", (0.05, 0.05))
    playing = ThreadRuns([call()])
    reads = iter([False, True])

    def answer(asked: Asked) -> Any:
        is_read = asked.method == "GET" and asked.path.endswith("/run_1")
        return refusal if is_read and next(reads, False) else playing(asked)

    scripted.play(answer)
    assert scene.run(run_on())["status"] == "completed"
    assert not playing.cancelled


def test_a_model_that_had_to_call_a_function_is_free_in_the_next_round(
    scene: Scene, scripted: ScriptedServer
) -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "weather"}],
    }
    for choice, then in (("required", "auto"), (allowed, {**allowed, "mode": "auto"}), ("none", "none")):
        scripted.play(Responses([call()]))
        scene.run(respond(extra_body={"tool_choice": choice}), scene.context_of(None))

        assert [body["tool_choice"] for body in scripted.bodies()] == [choice, then]


# -- conversations -------------------------------------------------------------------------------------------


def test_a_conversation_is_gone_on_with_also_while_it_is_locked(scene: Scene) -> None:
    scene.simulator.script(
        Scenario(
            function_calls=[(FunctionCall(name="weather", arguments={"city": "Oslo"}),)],
            queued=0.01,
            in_progress=0.06,
            times=None,
        )
    )
    locked: dict[str, Any] = {
        "status": 409,
        "code": "conversation_locked",
        "message": "Another response is in progress.",
    }
    scene.simulator.fault(Fault(method="POST", path="^/responses$", skip=1, times=2, **locked))
    conversation = scene.post("/conversations")["id"]
    arguments = {"conversation": conversation, "conn_id": "openai_default"}
    found = scene.run(respond(**arguments))
    bodies = [r.body for r in scene.simulator.requests if r.method == "POST" and r.path == "/responses"]

    assert found["status"] == "completed"
    assert found["thread_id"] == conversation
    assert CALLED == ["Oslo"]
    assert {body["conversation"] for body in bodies} == {conversation}
    assert not any("previous_response_id" in body for body in bodies)


def test_a_response_that_goes_on_from_another_one_is_answered_by_its_own_id(scene: Scene) -> None:
    quick: dict[str, Any] = {"queued": 0.01, "in_progress": 0.02}
    calling = [(FunctionCall(name="weather", arguments={"city": "Oslo"}),)]
    scene.simulator.script(Scenario(**quick), Scenario(**quick, function_calls=calling))
    first = scene.run(respond(conn_id="openai_default", functions=[]))
    scene.context["ti"].task_id = "next"
    found = scene.run(
        respond(conn_id="openai_default", task_id="next", previous_response_id=first["id"]),
        {**scene.context, "task_state_store": None},
    )
    bodies = [r.body for r in scene.simulator.requests if r.method == "POST"]

    assert found["status"] == "completed"
    assert [body.get("previous_response_id") for body in bodies] == [
        None,
        first["id"],
        found["raw"]["response_ids"][0],
    ]


def test_calls_that_a_server_shows_again_right_after_their_answer_are_not_made_twice(
    scene: Scene, scripted: ScriptedServer
) -> None:
    class Stale(ThreadRuns):
        """Goes on showing the calls for three polls after it has taken their answer."""

        polls = 0

        def __call__(self, asked: Asked) -> Answer:
            if asked.path.endswith("/submit_tool_outputs"):
                self.polls = 3
                return super().__call__(asked)
            if self.polls and asked.method == "GET" and asked.path.endswith("/run_1"):
                self.polls -= 1
                fresh = self.rounds
                self.rounds = [[call("Oslo")]]
                shown = super().__call__(asked)
                self.rounds = fresh
                return shown
            return super().__call__(asked)

    scripted.play(Stale([call("Oslo")]))
    found = scene.run(run_on())

    assert found["status"] == "completed"
    assert CALLED == ["Oslo"]
    assert sum("tool_outputs" in body for body in scripted.bodies()) == 1
