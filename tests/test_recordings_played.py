# SPDX-License-Identifier: Apache-2.0
"""Recorded real traffic, served back over HTTP: the package's own calls and waiting see what was recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

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
from tests.support.scene import Scene
from tests.support.scripted_server import Asked, ScriptedServer

RECORDINGS = Path(__file__).parents[2] / "shared" / "recordings"
WAITING: dict[str, Any] = {
    "task_id": "ask",
    "conn_id": "scripted",
    "completion_window": 60,
    "poll_interval": 0.01,
}
THREAD_RUNS = (
    "AssistantsTests/BasicRunOperationsWork",
    "AssistantsTests/BasicRunStepFunctionalityWorks",
    "AssistantsTests/Pagination_CanRehydrateRunStepPageCollectionFromBytes",
)
RESPONSES = (
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
        entries = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["Entries"]
        self.entries = [entry for entry in entries if isinstance(entry["ResponseBody"], dict)]
        self.asked: list[str] = []
        self.sent: list[Any] = []
        self._stands_for = stands_for or {}
        self._now = -1

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [e["ResponseBody"] for e in self.entries if e["ResponseBody"].get("object") == kind]

    def requests(self, ends_with: str) -> list[Any]:
        return [
            e["RequestBody"] for e in self.entries if _asks(e)[1].endswith(ends_with) and e["RequestBody"]
        ]

    def go_back_to(self, status: str) -> None:
        """Let the next look be the first one that saw this status."""
        self._now = (
            next(n for n, e in enumerate(self.entries) if e["ResponseBody"].get("status") == status) - 1
        )

    def answer(self, request: Asked) -> tuple[int, Any]:
        method, path = request.method, request.path
        self.asked.append(str(request))
        self.sent.append(request.body)
        asked = self._stands_for.get((method, path), (method, path))
        known = [n for n, entry in enumerate(self.entries) if _asks(entry) == asked]
        if not known:
            for created in self.bodies("response"):
                if (method, path) == ("GET", f"/responses/{created['id']}"):
                    return 200, created
            return 404, {"error": {"message": "This was never recorded.", "type": "invalid_request_error"}}
        self._now = next((number for number in known if number > self._now), known[-1])
        entry = self.entries[self._now]
        return entry["StatusCode"], entry["ResponseBody"]


def _asks(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["RequestMethod"], urlsplit(entry["RequestUri"]).path.removeprefix("/v1")


@pytest.fixture
def play(scripted: ScriptedServer) -> Callable[..., Recording]:
    """Serve a recording."""
    if not RECORDINGS.is_dir():
        pytest.skip("the recordings of real traffic are not here")

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
            RunRef.from_json(ref), limits, cancel_on_timeout=False, cancel_wait=1, note=lambda _: None
        )
        return OpenAIRunsHook("scripted").run_flow(flow)

    return wait


def check(found: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Compare what a task pushed with the last word of the recording."""
    names = ("id", "status", "created_at", "completed_at", "model", "instructions", "metadata")
    told = {name: recorded[name] for name in names if name in recorded}
    assert {name: found[name] for name in told} == told
    assert found["usage"]["total_tokens"] == recorded["usage"]["total_tokens"]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@pytest.mark.parametrize("name", THREAD_RUNS)
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
    assert len(polls) == len(runs)  # one for each recorded look, and one that reads the result
    if name == THREAD_RUNS[0]:
        assert found["output_text"]


@pytest.mark.parametrize("name", RESPONSES)
def test_a_recorded_response_ends_as_it_did(scene: Scene, play: Callable[..., Recording], name: str) -> None:
    (recorded,) = play(name).bodies("response")
    found = scene.run(CreateResponseOperator(**WAITING, model="gpt-4o-mini", input="Hello."))

    check(found, recorded)
    assert found["output_text"]
    assert [step["id"] for step in found["steps"]] == [item["id"] for item in recorded["output"]]


def test_recorded_calls_are_answered_and_the_run_goes_on_to_its_end(
    play: Callable[..., Recording], watch: Callable[[dict[str, Any]], Any]
) -> None:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 - Airflow is set up by then

    recording = play("AssistantsTests/FunctionToolsWork")
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


def test_a_recorded_background_response_is_read_and_another_cancelled(
    play: Callable[..., Recording], watch: Callable[[dict[str, Any]], Any]
) -> None:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.model import RunRef  # noqa: PLC0415
    from airflow_provider_openai_runs.wire import flows  # noqa: PLC0415

    hook = OpenAIRunsHook("scripted")
    (recorded,) = play("ResponsesTests/CanStreamBackgroundResponses").bodies("response")
    ref = {"kind": "response", "conn_id": "scripted", "id": recorded["id"]}
    assert watch(ref).outcome == "ended"
    check(hook.retrieve(ref).to_xcom(), recorded)

    play("ResponsesTests/CanCancelBackgroundResponses")
    run = hook.create_background_response(model="gpt-4o-mini", input="Hello.")
    assert run.raw_status == "queued"
    ended = hook.run_flow(flows.cancel(RunRef.from_json(run.ref), wait=5))
    assert ended.polled is not None
    assert ended.polled.raw_status == "cancelled"


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("ResponsesTests/MaxTokens", RunIncompleteError, "max_output_tokens=20"),
        ("ResponsesTests/FunctionToolChoiceWorks", ToolCallsPendingError, "waits for the answer"),
        ("ResponsesToolTests/MCPToolAlwaysRequiresApproval_False", ToolCallsPendingError, "roll"),
    ],
)
def test_a_recorded_end_without_an_answer_is_told_with_its_reason(
    scene: Scene, play: Callable[..., Recording], name: str, kind: type[Exception], words: str
) -> None:
    recorded = play(name).bodies("response")[0]
    with pytest.raises(kind, match=words):
        CreateResponseOperator(**WAITING, model="gpt-4o-mini", input="Hello.").execute(scene.context)
    check(scene.context["ti"].xcoms["return_value"], recorded)


# -- tool loops ----------------------------------------------------------------------------------------------

FUNCTION_LOOP, MCP_LOOP = (
    "AssistantsTests/FunctionToolsWork",
    "ResponsesToolTests/MCPToolAlwaysRequiresApproval_False",
)
ONE_CALL = "ResponsesTests/FunctionToolChoiceWorks"


def get_favorite_food_for_day_of_week(day_of_week: str) -> str:
    """Get the user's favorite food for a given day of the week, like Tuesday."""
    assert day_of_week == "Thursday"
    return "tacos"


def get_weather_at_location(location: str, unit: Literal["C", "F", "K"] = "C") -> str:
    """Get the weather at a specified location, optionally specifying units for temperature."""
    return f"25 {unit} in {location}"


@pytest.fixture
def play_loop(play: Callable[..., Recording]) -> tuple[Recording, dict[str, Any]]:
    """Serve the thread run that calls a function; also to a client that makes its thread first."""
    (entry,) = [e for e in play(FUNCTION_LOOP).entries if _asks(e) == ("POST", "/threads/runs")]
    runs = f"/threads/{entry['ResponseBody']['thread_id']}/runs"
    return play(FUNCTION_LOOP, stands_for={("POST", runs): ("POST", "/threads/runs")}), entry["ResponseBody"]


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_recorded_run_calls_the_function_and_ends_as_it_did(
    scene: Scene, play_loop: tuple[Recording, dict[str, Any]], *, deferrable: bool
) -> None:
    recording, run = play_loop
    functions = [get_favorite_food_for_day_of_week]
    created = {key: run[key] for key in ("thread_id", "assistant_id")}
    create = CreateRunOperator(**WAITING, **created, functions=functions, deferrable=deferrable)
    found = scene.run(create)

    check(found, recording.bodies("thread.run")[-1])
    assert found["output_text"] == "You should eat tacos on Thursday! \U0001f32e"
    offered = recording.sent[0]["tools"][0]["function"]["parameters"]["properties"]
    assert list(offered) == ["day_of_week"]
    (submitted,) = [body for body in recording.sent if body and "tool_outputs" in body]
    assert [submitted] == recording.requests("submit_tool_outputs")


def test_another_task_answers_the_call_of_a_recorded_run(
    scene: Scene, play_loop: tuple[Recording, dict[str, Any]]
) -> None:
    recording, run = play_loop
    created = {key: run[key] for key in ("thread_id", "assistant_id")}
    create = CreateRunOperator(**WAITING, **created, on_tool_calls="return")
    waiting = scene.run(create, scene.context_of(None))
    recording.go_back_to("requires_action")  # the messages, which the first task reads, came at the end
    outputs = {waiting["tool_calls"][0]["id"]: "tacos"}
    submit = SubmitToolOutputsOperator(
        **{**WAITING, "conn_id": None}, ref=waiting["ref"], outputs=outputs, deferrable=True
    )
    found = scene.run(submit, scene.context_of(None))

    assert waiting["status"] == "requires_action"
    check(found, recording.bodies("thread.run")[-1])
    assert [b for b in recording.sent if b and "tool_outputs" in b] == recording.requests(
        "submit_tool_outputs"
    )


def test_a_recorded_mcp_tool_is_approved_by_another_task(
    scene: Scene, play: Callable[..., Recording]
) -> None:
    recording = play(MCP_LOOP)
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
    assert (call["name"], call["type"]) == ("roll", "mcp_approval_request")
    assert found["output_text"] == "6"
    (answered,) = [body for body in recording.sent if body and "previous_response_id" in body]
    assert {name: answered[name] for name in second} == second


def test_a_recorded_call_of_a_response_is_answered_by_its_call_id(
    scene: Scene, play: Callable[..., Recording]
) -> None:
    recording = play(ONE_CALL)  # how it went on was not recorded: the call comes again and again
    (asked,) = recording.requests("/responses")
    create = CreateResponseOperator(
        **WAITING,
        **{name: asked[name] for name in ("model", "tools", "input")},
        extra_body={"tool_choice": asked["tool_choice"]},
        functions=[get_weather_at_location],
        max_rounds=2,
    )
    with pytest.raises(ToolCallsFailedError, match="max_rounds=2"):
        create.execute(scene.context)

    first, *answers = [body for body in recording.sent if body]
    (call,) = recording.bodies("response")[0]["output"]
    told = {"call_id": call["call_id"], "output": "25 C in San Francisco, CA"}
    assert first["tools"] == asked["tools"]
    assert [body["tool_choice"] for body in [first, *answers]] == [asked["tool_choice"], "auto", "auto"]
    assert [body["input"] for body in answers] == [[{"type": "function_call_output", **told}]] * 2
