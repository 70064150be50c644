# SPDX-License-Identifier: Apache-2.0
"""Recorded real traffic, served back over HTTP: the package's own calls and waiting see what was recorded."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_openai_runs.exceptions import RunIncompleteError, ToolCallsPendingError
from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator

RECORDINGS = Path(__file__).parents[2] / "shared" / "recordings"
WAITING = {"task_id": "ask", "conn_id": "recorded", "completion_window": 60, "poll_interval": 0.01}
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

    The last answer to a request is given for ever; what was never asked is not known (404).
    """

    def __init__(self, name: str) -> None:
        entries = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["Entries"]
        self.entries = [entry for entry in entries if isinstance(entry["ResponseBody"], dict)]
        self.asked: list[str] = []
        self._now = -1

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [e["ResponseBody"] for e in self.entries if e["ResponseBody"].get("object") == kind]

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        known = [n for n, entry in enumerate(self.entries) if _asks(entry) == (method, path)]
        if not known:
            return 404, {"error": {"message": "This was never recorded.", "type": "invalid_request_error"}}
        self._now = next((number for number in known if number > self._now), known[-1])
        entry = self.entries[self._now]
        return entry["StatusCode"], entry["ResponseBody"]


def _asks(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["RequestMethod"], urlsplit(entry["RequestUri"]).path


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Recording]]:
    """Serve a recording; the connection `recorded` leads to it."""
    if not RECORDINGS.is_dir():
        pytest.skip("the recordings of real traffic are not here")
    playing: list[Recording] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, body = playing[-1].answer(self.command, urlsplit(self.path).path)
            sent = json.dumps(body).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}/v1"
    monkeypatch.setenv(
        "AIRFLOW_CONN_RECORDED", json.dumps({"conn_type": "openai", "password": "k", "host": host})
    )

    def serve(name: str) -> Recording:
        playing.append(Recording(name))
        return playing[-1]

    yield serve
    server.shutdown()
    server.server_close()


@pytest.fixture
def watch() -> Callable[[dict[str, Any]], Any]:
    """Wait for a run as an operator does in its worker."""
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook, waits  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.model import RunRef  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.waiting import WaitLimits  # noqa: PLC0415

    def wait(ref: dict[str, Any]) -> Any:
        limits = WaitLimits(created_at=0, poll_interval=0.01)
        flow = waits.wait(
            RunRef.from_json(ref), limits, cancel_on_timeout=False, cancel_wait=1, note=lambda _: None
        )
        return OpenAIRunsHook("recorded").run_flow(flow)

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
    play: Callable[[str], Recording],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    name: str,
    *,
    deferrable: bool,
) -> None:
    recording = play(name)
    runs = recording.bodies("thread.run")
    created = {key: runs[0][key] for key in ("thread_id", "assistant_id")}
    found = run_task(CreateRunOperator(**WAITING, **created, deferrable=deferrable), context)

    check(found, runs[-1])
    recorded = [
        step["id"] for page in recording.bodies("list") for step in page["data"] if "step" in step["id"]
    ]
    assert [step["id"] for step in found["steps"]] == list(dict.fromkeys(recorded))
    looks = [asked for asked in recording.asked if asked.endswith(runs[0]["id"])]
    assert len(looks) == len(runs)  # one for each recorded look, and one that reads the result
    if name == THREAD_RUNS[0]:
        assert found["output_text"]


@pytest.mark.parametrize("name", RESPONSES)
def test_a_recorded_response_ends_as_it_did(
    play: Callable[[str], Recording], run_task: Callable[..., Any], context: dict[str, Any], name: str
) -> None:
    (recorded,) = play(name).bodies("response")
    found = run_task(CreateResponseOperator(**WAITING, model="gpt-4o-mini", input="Hello."), context)

    check(found, recorded)
    assert found["output_text"]
    assert [step["id"] for step in found["steps"]] == [item["id"] for item in recorded["output"]]


def test_recorded_calls_are_answered_and_the_run_goes_on_to_its_end(
    play: Callable[[str], Recording], watch: Callable[[dict[str, Any]], Any]
) -> None:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 - Airflow is set up by then

    recording = play("AssistantsTests/FunctionToolsWork")
    runs = recording.bodies("thread.run")
    ref = {
        "kind": "thread_run",
        "conn_id": "recorded",
        "id": runs[0]["id"],
        "thread_id": runs[0]["thread_id"],
    }
    hook = OpenAIRunsHook("recorded")

    assert watch(ref).outcome == "needs_action"
    run = hook.retrieve(ref)
    (call,) = run.tool_calls
    assert hook.submit_tool_outputs(run, {call.id: "25 degrees"}).word == "queued"
    assert watch(ref).outcome == "ended"
    ended = hook.retrieve(ref)
    check(ended.to_xcom(), runs[-1])
    assert ended.output_text


def test_a_recorded_background_response_is_read_and_another_cancelled(
    play: Callable[[str], Recording], watch: Callable[[dict[str, Any]], Any]
) -> None:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook, flows  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.model import RunRef  # noqa: PLC0415

    hook = OpenAIRunsHook("recorded")
    (recorded,) = play("ResponsesTests/CanStreamBackgroundResponses").bodies("response")
    ref = {"kind": "response", "conn_id": "recorded", "id": recorded["id"]}
    assert watch(ref).outcome == "ended"
    check(hook.retrieve(ref).to_xcom(), recorded)

    play("ResponsesTests/CanCancelBackgroundResponses")
    run = hook.create_background_response(model="gpt-4o-mini", input="Hello.")
    assert run.word == "queued"
    ended = hook.run_flow(flows.cancel(RunRef.from_json(run.ref), wait=5))
    assert ended.look is not None
    assert ended.look.word == "cancelled"


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("ResponsesTests/MaxTokens", RunIncompleteError, "max_output_tokens=20"),
        ("ResponsesTests/FunctionToolChoiceWorks", ToolCallsPendingError, "waits for the answer"),
        ("ResponsesToolTests/MCPToolAlwaysRequiresApproval_False", ToolCallsPendingError, "roll"),
    ],
)
def test_a_recorded_end_without_an_answer_is_told_with_its_reason(
    play: Callable[[str], Recording], context: dict[str, Any], name: str, kind: type[Exception], words: str
) -> None:
    recorded = play(name).bodies("response")[0]
    with pytest.raises(kind, match=words):
        CreateResponseOperator(**WAITING, model="gpt-4o-mini", input="Hello.").execute(context)
    check(context["ti"].xcoms["return_value"], recorded)
