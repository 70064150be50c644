# SPDX-License-Identifier: Apache-2.0
"""Conversations with the API, served back over HTTP: the package sees what was said there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from airflow_provider_openai_runs.exceptions import (
    RunIncompleteError,
    ToolCallsFailedError,
    ToolCallsPendingError,
)
from airflow_provider_openai_runs.operators import (
    CreateResponseOperator,
    CreateRunOperator,
    SubmitToolOutputsOperator,
)
from tests.support import exchanges
from tests.support.exchanges import conversations
from tests.support.scene import Scene
from tests.support.scripted_server import Asked, ScriptedServer

WAITING: dict[str, Any] = {
    "task_id": "ask",
    "conn_id": "scripted",
    "completion_window": 60,
    "poll_interval": 0.04,
}
THREAD_RUNS = (
    "our thread run",
    "our steps on two pages",
    "AssistantsTests/BasicRunOperationsWork",
    "AssistantsTests/BasicRunStepFunctionalityWorks",
    "AssistantsTests/Pagination_CanRehydrateRunStepPageCollectionFromBytes",
)
RESPONSES = (
    "our response",
    "ResponsesTests/MessageHistoryWorks",
    "ResponseStoreTests/GetInputItemsCollectionPage",
    "ResponseStoreTests/GetInputItemsWithOrderFiltering",
)


class Recording:
    """
    Answers as recorded: each request moves time on to its own entry, and none goes back behind it.

    The last answer to a request is given for ever; what was never asked is not known (404), but a response
    that was answered in full to its create can be read.

    :param stands_for: a request that was not recorded, to the one whose answer it gets.
    """

    def __init__(self, name: str, stands_for: dict[tuple[str, str], tuple[str, str]] | None = None) -> None:
        self.name = name
        self.entries = exchanges.read(name)
        self.asked: list[str] = []
        self.sent: list[Any] = []
        self._stands_for = stands_for or {}
        self._now = -1

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [one.answer for one in self.entries if one.answer.get("object") == kind]

    def requests(self, ends_with: str) -> list[Any]:
        return [one.sent for one in self.entries if one.path.endswith(ends_with) and one.sent]

    def go_back_to(self, status: str) -> None:
        """Let the next poll be the first one that saw this status."""
        self._now = [one.answer.get("status") for one in self.entries].index(status) - 1

    def answer(self, request: Asked) -> tuple[int, Any]:
        method, path = request.method, request.path
        self.asked.append(str(request))
        self.sent.append(request.body)
        asked = self._stands_for.get((method, path), (method, path))
        known = [n for n, one in enumerate(self.entries) if (one.method, one.path) == asked]
        if not known:
            for created in self.bodies("response"):
                if (method, path) == ("GET", f"/responses/{created['id']}"):
                    return 200, created
            return 404, {"error": {"message": "This was never recorded.", "type": "invalid_request_error"}}
        self._now = next((number for number in known if number > self._now), known[-1])
        return self.entries[self._now].status, self.entries[self._now].answer


@pytest.fixture
def play(scripted: ScriptedServer) -> Callable[..., Recording]:
    """Serve a conversation."""

    def start(name: str, **more: Any) -> Recording:
        recording = Recording(name, **more)
        scripted.play(recording.answer)
        return recording

    return start


@pytest.fixture
def watch() -> Callable[[dict[str, Any]], Any]:
    """Wait for a run as an operator does in its worker."""
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.model import RunRef  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.polling import WaitLimits  # noqa: PLC0415
    from airflow_provider_openai_runs.wire import wait as waits  # noqa: PLC0415

    def wait(ref: dict[str, Any]) -> Any:
        limits = WaitLimits(created_at=0, poll_interval=0.01)
        flow = waits.wait(
            RunRef.from_json(ref), limits, cancel_on_timeout=False, cancel_wait=1, note=lambda *_: None
        )
        return OpenAIRunsHook("scripted").run_flow(flow)

    return wait


def check(found: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Compare what a task pushed with the last reply of the recording."""
    names = ("id", "status", "created_at", "completed_at", "model", "instructions", "metadata")
    expected = {name: recorded[name] for name in names if name in recorded}
    assert {name: found[name] for name in expected} == expected
    assert found["usage"]["total_tokens"] == recorded["usage"]["total_tokens"]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@conversations(*THREAD_RUNS)
def test_a_recorded_run_ends_as_it_did(
    scene: Scene, play: Callable[..., Recording], name: str, *, deferrable: bool
) -> None:
    recording = play(name)
    runs = recording.bodies("thread.run")
    created = {key: runs[0][key] for key in ("thread_id", "assistant_id")}
    found = scene.run(CreateRunOperator(**WAITING, **created, deferrable=deferrable))

    check(found, runs[-1])
    recorded = [
        step["id"] for page in recording.bodies("list") for step in page["data"] if "step" in step["id"]
    ]
    assert [step["id"] for step in found["steps"]] == list(dict.fromkeys(recorded))
    polls = [asked for asked in recording.asked if asked.endswith(runs[0]["id"])]
    has_messages = any((one.method, one.path[-9:]) == ("GET", "/messages") for one in recording.entries)
    # One for each recorded poll, and one that reads the result: twice more where no answer is listed.
    assert len(polls) == len(runs) + (0 if has_messages else 2)
    assert bool(found["output_text"]) is has_messages


@conversations(*RESPONSES)
def test_a_recorded_response_ends_as_it_did(scene: Scene, play: Callable[..., Recording], name: str) -> None:
    (recorded,) = play(name).bodies("response")
    found = scene.run(CreateResponseOperator(**WAITING, model="gpt-4o-mini", input="Hello."))

    check(found, recorded)
    assert found["output_text"]
    assert [step["id"] for step in found["steps"]] == [item["id"] for item in recorded["output"]]


@conversations("our function call", "AssistantsTests/FunctionToolsWork")
def test_recorded_calls_are_answered_and_the_run_goes_on_to_its_end(
    play: Callable[..., Recording], watch: Callable[[dict[str, Any]], Any], name: str
) -> None:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 - Airflow is set up by then

    recording = play(name)
    runs = recording.bodies("thread.run")
    ref = {
        "kind": "thread_run",
        "conn_id": "scripted",
        "id": runs[0]["id"],
        "thread_id": runs[0]["thread_id"],
    }
    hook = OpenAIRunsHook("scripted")

    assert watch(ref).outcome == "needs_action"
    run = hook.retrieve(ref)
    (call,) = run.tool_calls
    assert hook.submit_tool_outputs(run, {call.id: "25 degrees"}).raw_status == "queued"
    assert watch(ref).outcome == "ended"
    ended = hook.retrieve(ref)
    check(ended.to_xcom(), runs[-1])
    assert ended.output_text


@conversations("our background response", "ResponsesTests/CanStreamBackgroundResponses")
def test_a_recorded_background_response_is_read(
    play: Callable[..., Recording], watch: Callable[[dict[str, Any]], Any], name: str
) -> None:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415

    (recorded,) = play(name).bodies("response")
    ref = {"kind": "response", "conn_id": "scripted", "id": recorded["id"]}
    assert watch(ref).outcome == "ended"
    check(OpenAIRunsHook("scripted").retrieve(ref).to_xcom(), recorded)


@conversations("our cancelled response", "ResponsesTests/CanCancelBackgroundResponses")
def test_a_recorded_background_response_is_cancelled(play: Callable[..., Recording], name: str) -> None:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.model import RunRef  # noqa: PLC0415
    from airflow_provider_openai_runs.wire import flows  # noqa: PLC0415

    hook = OpenAIRunsHook("scripted")
    play(name)
    run = hook.create_background_response(model="gpt-4o-mini", input="Hello.")
    assert run.raw_status == "queued"
    ended = hook.run_flow(flows.cancel(RunRef.from_json(run.ref), wait=5))
    assert ended.polled is not None
    assert ended.polled.raw_status == "cancelled"


WITHOUT_AN_ANSWER: dict[str, tuple[type[Exception], str]] = {
    "our ceiling": (RunIncompleteError, "max_output_tokens=20"),
    "our only a call": (ToolCallsPendingError, "waits for the answer"),
    "our approval": (ToolCallsPendingError, "open_lock"),
    "ResponsesTests/MaxTokens": (RunIncompleteError, "max_output_tokens=20"),
    "ResponsesTests/FunctionToolChoiceWorks": (ToolCallsPendingError, "waits for the answer"),
    "ResponsesToolTests/MCPToolAlwaysRequiresApproval_False": (ToolCallsPendingError, "roll"),
}


@conversations(*WITHOUT_AN_ANSWER)
def test_a_recorded_end_without_an_answer_is_described_with_its_reason(
    scene: Scene, play: Callable[..., Recording], name: str
) -> None:
    kind, words = WITHOUT_AN_ANSWER[name]
    recorded = play(name).bodies("response")[0]
    with pytest.raises(kind, match=words):
        CreateResponseOperator(**WAITING, model="gpt-4o-mini", input="Hello.").execute(scene.context)
    check(scene.context["ti"].xcoms["return_value"], recorded)


# -- tool loops ----------------------------------------------------------------------------------------------


def get_favorite_food_for_day_of_week(day_of_week: str) -> str:
    """Get the user's favorite food for a given day of the week, like Tuesday."""
    assert day_of_week == "Thursday"
    return "tacos"


def get_weather_at_location(location: str, unit: Literal["C", "F", "K"] = "C") -> str:
    """Get the weather at a specified location, optionally specifying units for temperature."""
    return f"25 {unit} in {location}"


def get_high_water(harbour: str) -> str:
    """Look up when it is high water in a harbour."""
    assert harbour == "Hamburg"
    return "14:20"


def get_depth_at_pier(pier: str, unit: Literal["m", "ft"] = "m") -> str:
    """Look up how deep the water is at a pier."""
    return f"4 {unit} at {pier}"


@dataclass(frozen=True)
class Topic:
    """What a conversation with a function is about."""

    function: Callable[..., Any]
    argument: str
    output: str
    answer: str = ""


FUNCTION_CALLS = {
    "our function call": Topic(get_high_water, "harbour", "14:20", "High water is at 14:20."),
    "AssistantsTests/FunctionToolsWork": Topic(
        get_favorite_food_for_day_of_week,
        "day_of_week",
        "tacos",
        "You should eat tacos on Thursday! \U0001f32e",
    ),
}
ONLY_CALLS = {
    "our only a call": Topic(get_depth_at_pier, "pier", "4 m at North"),
    "ResponsesTests/FunctionToolChoiceWorks": Topic(
        get_weather_at_location, "location", "25 C in San Francisco, CA"
    ),
}
APPROVALS = {
    "our approval": ("open_lock", "Lock 3 is open."),
    "ResponsesToolTests/MCPToolAlwaysRequiresApproval_False": ("roll", "6"),
}


@pytest.fixture
def play_loop(play: Callable[..., Recording], name: str) -> tuple[Recording, dict[str, Any]]:
    """Serve a thread run that calls a function; also to a client that makes its thread first."""
    made = ("POST", "/threads/runs")
    (created,) = [one.answer for one in exchanges.read(name) if (one.method, one.path) == made]
    return play(name, stands_for={("POST", f"/threads/{created['thread_id']}/runs"): made}), created


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@conversations(*FUNCTION_CALLS)
def test_a_recorded_run_calls_the_function_and_ends_as_it_did(
    scene: Scene, play_loop: tuple[Recording, dict[str, Any]], name: str, *, deferrable: bool
) -> None:
    recording, run = play_loop
    topic = FUNCTION_CALLS[name]
    created = {key: run[key] for key in ("thread_id", "assistant_id")}
    create = CreateRunOperator(**WAITING, **created, functions=[topic.function], deferrable=deferrable)
    found = scene.run(create)

    check(found, recording.bodies("thread.run")[-1])
    assert found["output_text"] == topic.answer
    offered = recording.sent[0]["tools"][0]["function"]["parameters"]["properties"]
    assert list(offered) == [topic.argument]
    (submitted,) = [body for body in recording.sent if body and "tool_outputs" in body]
    assert [submitted] == recording.requests("submit_tool_outputs")


@conversations(*FUNCTION_CALLS)
def test_another_task_answers_the_call_of_a_recorded_run(
    scene: Scene, play_loop: tuple[Recording, dict[str, Any]], name: str
) -> None:
    recording, run = play_loop
    created = {key: run[key] for key in ("thread_id", "assistant_id")}
    create = CreateRunOperator(**WAITING, **created, on_tool_calls="return")
    waiting = scene.run(create, scene.context_of(None))
    recording.go_back_to("requires_action")  # the messages, which the first task reads, came at the end
    outputs = {waiting["tool_calls"][0]["id"]: FUNCTION_CALLS[name].output}
    submit = SubmitToolOutputsOperator(
        **{**WAITING, "conn_id": None}, ref=waiting["ref"], outputs=outputs, deferrable=True
    )
    found = scene.run(submit, scene.context_of(None))

    assert waiting["status"] == "requires_action"
    check(found, recording.bodies("thread.run")[-1])
    assert [b for b in recording.sent if b and "tool_outputs" in b] == recording.requests(
        "submit_tool_outputs"
    )


@conversations(*APPROVALS)
def test_a_recorded_mcp_tool_is_approved_by_another_task(
    scene: Scene, play: Callable[..., Recording], name: str
) -> None:
    tool, answer = APPROVALS[name]
    recording = play(name)
    first, second = recording.requests("/responses")
    asks = {"model": first["model"], "tools": first["tools"], "input": first["input"]}
    create = CreateResponseOperator(**WAITING, **asks, on_tool_calls="return")
    waiting = scene.run(create, scene.context_of(None))
    (call,) = waiting["tool_calls"]
    submit = SubmitToolOutputsOperator(
        **{**WAITING, "conn_id": None},
        ref=waiting["ref"],
        outputs={call["id"]: True},
        model=first["model"],
        tools=first["tools"],
    )
    found = scene.run(submit, scene.context_of(None))

    check(found, recording.bodies("response")[-1])
    assert (call["name"], call["type"]) == (tool, "mcp_approval_request")
    assert found["output_text"] == answer
    (answered,) = [body for body in recording.sent if body and "previous_response_id" in body]
    assert {key: answered[key] for key in second} == second


@conversations(*ONLY_CALLS)
def test_a_recorded_call_of_a_response_is_answered_by_its_call_id(
    scene: Scene, play: Callable[..., Recording], name: str
) -> None:
    recording = play(name)  # how it went on was not recorded: the call comes again and again
    (asked,) = recording.requests("/responses")
    create = CreateResponseOperator(
        **WAITING,
        **{key: asked[key] for key in ("model", "tools", "input")},
        extra_body={"tool_choice": asked["tool_choice"]},
        functions=[ONLY_CALLS[name].function],
        max_rounds=2,
    )
    with pytest.raises(ToolCallsFailedError, match="max_rounds=2"):
        create.execute(scene.context)

    first, *answers = [body for body in recording.sent if body]
    (call,) = recording.bodies("response")[0]["output"]
    expected = {"call_id": call["call_id"], "output": ONLY_CALLS[name].output}
    assert first["tools"] == asked["tools"]
    assert [body["tool_choice"] for body in [first, *answers]] == [asked["tool_choice"], "auto", "auto"]
    assert [body["input"] for body in answers] == [[{"type": "function_call_output", **expected}]] * 2
