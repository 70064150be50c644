# SPDX-License-Identifier: Apache-2.0
"""Every reply there is loads strictly into the SDK's own types: the client of these tests checks each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_openai_runs.simulator import CodeInterpreter, FunctionCall, ProducedFile, Scenario
from airflow_provider_openai_runs.simulator.assistants import ROUTES as ASSISTANTS
from airflow_provider_openai_runs.simulator.batches import ROUTES as BATCHES
from airflow_provider_openai_runs.simulator.containers import ROUTES as CONTAINERS
from airflow_provider_openai_runs.simulator.conversations import ROUTES as CONVERSATIONS
from airflow_provider_openai_runs.simulator.files import ROUTES as FILES
from airflow_provider_openai_runs.simulator.lifecycle import Status
from airflow_provider_openai_runs.simulator.models import ROUTES as MODELS
from airflow_provider_openai_runs.simulator.responses import ROUTES as RESPONSES
from airflow_provider_openai_runs.simulator.runs import ROUTES as RUNS
from airflow_provider_openai_runs.simulator.threads import ROUTES as THREADS

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator

ALL = (
    *ASSISTANTS,
    *BATCHES,
    *CONTAINERS,
    *CONVERSATIONS,
    *FILES,
    *MODELS,
    *RESPONSES,
    *RUNS,
    *THREADS,
)
CODE = CodeInterpreter(files=(ProducedFile(name="a.csv"),))
CALL = ((FunctionCall(name="f", arguments={"a": 1}),),)
QUESTION = [{"role": "user", "content": "Why?"}]
#: How each status that a run can have is reached, and after how many seconds.
WAYS: dict[str, tuple[Scenario, float]] = {
    "queued": (Scenario(queued=100), 1),
    "in_progress": (Scenario(in_progress=100), 5),
    "requires_action": (Scenario(function_calls=CALL), 5),
    "cancelling": (Scenario(in_progress=100, cancelling=50), 5),
    "cancelled": (Scenario(ends="cancelled"), 5),
    "failed": (Scenario(ends="failed", error={"code": "rate_limit_exceeded", "message": "No."}), 5),
    "incomplete": (Scenario(ends="incomplete"), 5),
    "expired": (Scenario(ends="expired"), 5),
    "completed": (Scenario(steps=3), 5),
}
#: A response that waits for its calls says that it is completed, and one that is being cancelled in_progress.
SAID = {"requires_action": "completed", "cancelling": "in_progress"}


@pytest.fixture
def ask(http: httpx2.Client) -> Callable[..., dict[str, Any]]:
    """Send a request to a route; the ids go into its places."""

    def send(method: str, route: str, *ids: str, **body: Any) -> dict[str, Any]:
        left = iter(ids)
        path = re.sub(r"\{\w+\}", lambda _: next(left), route)
        files = {"file": body.pop("file")} if "file" in body else None
        sent: dict[str, Any] = {"json": body} if files is None else {"data": body, "files": files}
        answer = http.request(method, path, **(sent if method == "POST" else {}))
        assert answer.status_code == 200, answer.text
        asked.append((method, route))
        found: dict[str, Any] = {} if route.endswith("/content") else answer.json()
        return found

    asked: list[tuple[str, str]] = []
    send.asked = asked  # type: ignore[attr-defined]
    return send


def ask_about_models_and_assistants(ask: Any) -> str:
    ask("GET", "/models")
    ask("GET", "/models/{model}", "gpt-4o")
    tools = [{"type": "code_interpreter"}]
    assistant = ask("POST", "/assistants", model="gpt-4o", name="A", tools=tools)["id"]
    ask("GET", "/assistants")
    ask("GET", "/assistants/{assistant_id}", assistant)
    ask("POST", "/assistants/{assistant_id}", assistant, metadata={"a": "b"})
    return str(assistant)


def ask_about_threads_and_their_runs(ask: Any, simulator: Simulator, assistant: str) -> None:
    thread = ask("POST", "/threads", messages=QUESTION)["id"]
    ask("GET", "/threads/{thread_id}", thread)
    ask("POST", "/threads/{thread_id}", thread, metadata={"a": "b"})
    message = ask("POST", "/threads/{thread_id}/messages", thread, role="user", content="And?")["id"]
    ask("GET", "/threads/{thread_id}/messages", thread)
    ask("GET", "/threads/{thread_id}/messages/{message_id}", thread, message)
    ask("POST", "/threads/{thread_id}/messages/{message_id}", thread, message, metadata={"a": "b"})

    run = "/threads/{thread_id}/runs/{run_id}"
    made = ask("POST", "/threads/{thread_id}/runs", thread, assistant_id=assistant)["id"]
    simulator.advance(5)
    pending = ask("GET", run, thread, made)["required_action"]["submit_tool_outputs"]["tool_calls"]
    ask("POST", run, thread, made, metadata={"a": "b"})
    outputs = [{"tool_call_id": call["id"], "output": "Yes."} for call in pending]
    ask("POST", f"{run}/submit_tool_outputs", thread, made, tool_outputs=outputs)
    simulator.advance(5)
    steps = ask("GET", f"{run}/steps", thread, made)["data"]
    ask("GET", f"{run}/steps/{{step_id}}", thread, made, steps[0]["id"])
    ask("GET", "/threads/{thread_id}/runs", thread)
    both = ask("POST", "/threads/runs", assistant_id=assistant, thread={"messages": QUESTION})
    ask("POST", f"{run}/cancel", both["thread_id"], both["id"])
    ask("DELETE", "/threads/{thread_id}/messages/{message_id}", thread, message)
    ask("DELETE", "/threads/{thread_id}", thread)
    ask("DELETE", "/assistants/{assistant_id}", assistant)


def ask_about_conversations(ask: Any) -> str:
    conversation, item = "/conversations/{conversation_id}", "/conversations/{conversation_id}/items"
    talk = ask("POST", "/conversations", items=QUESTION)["id"]
    ask("GET", conversation, talk)
    ask("POST", conversation, talk, metadata={"a": "b"})
    said = ask("POST", item, talk, items=QUESTION)["data"][0]["id"]
    ask("GET", item, talk)
    ask("GET", f"{item}/{{item_id}}", talk, said)
    ask("DELETE", f"{item}/{{item_id}}", talk, said)
    return str(talk)


def ask_about_responses_and_their_containers(ask: Any, simulator: Simulator, talk: str) -> None:
    response = "/responses/{response_id}"
    asked = ask("POST", "/responses", model="gpt-4o", input="Why?", background=True, conversation=talk)["id"]
    ask("GET", response, asked)
    ask("GET", f"{response}/input_items", asked)
    simulator.advance(5)
    container = ask("GET", response, asked)["output"][0]["container_id"]
    ask("GET", "/containers/{container_id}", container)
    produced = ask("GET", "/containers/{container_id}/files", container)["data"][0]["id"]
    ask("GET", "/containers/{container_id}/files/{file_id}", container, produced)
    ask("GET", "/containers/{container_id}/files/{file_id}/content", container, produced)
    ask("POST", f"{response}/cancel", asked)
    ask("DELETE", response, asked)
    ask("DELETE", "/conversations/{conversation_id}", talk)


def ask_about_files_and_batches(ask: Any) -> None:
    file = ask("POST", "/files", purpose="batch", file=("a.jsonl", b"{}"))["id"]
    ask("GET", "/files")
    ask("GET", "/files/{file_id}", file)
    ask("GET", "/files/{file_id}/content", file)
    about = {"endpoint": "/v1/responses", "completion_window": "24h", "input_file_id": file}
    batch = ask("POST", "/batches", **about)["id"]
    ask("GET", "/batches")
    ask("GET", "/batches/{batch_id}", batch)
    ask("POST", "/batches/{batch_id}/cancel", batch)
    ask("DELETE", "/files/{file_id}", file)


def test_every_endpoint(ask: Any, simulator: Simulator) -> None:
    calling = Scenario(function_calls=CALL, output=(CODE,))
    simulator.script(calling, Scenario(steps=2, output=(CODE,), times=None))
    assistant = ask_about_models_and_assistants(ask)
    ask_about_threads_and_their_runs(ask, simulator, assistant)
    ask_about_responses_and_their_containers(ask, simulator, ask_about_conversations(ask))
    ask_about_files_and_batches(ask)
    assert set(ask.asked) == {(method, route) for method, route, _ in ALL}


def test_every_status_there_is_can_be_reached() -> None:
    assert set(WAYS) == set(Status)


@pytest.mark.parametrize("status", WAYS)
def test_every_status_of_a_thread_run(
    ask: Any, simulator: Simulator, assistant: str, thread: str, status: str
) -> None:
    scenario, seconds = WAYS[status]
    simulator.script(scenario)
    made = ask("POST", "/threads/{thread_id}/runs", thread, assistant_id=assistant)
    simulator.advance(seconds)
    run = "/threads/{thread_id}/runs/{run_id}"
    if status == "cancelling":
        ask("POST", f"{run}/cancel", thread, made["id"])
    assert ask("GET", run, thread, made["id"])["status"] == status
    ask("GET", f"{run}/steps", thread, made["id"])
    ask("GET", "/threads/{thread_id}/runs", thread)
    ask("GET", "/threads/{thread_id}/messages", thread)


@pytest.mark.parametrize("status", sorted(set(WAYS) - {"expired"}))
def test_every_status_of_a_response(ask: Any, simulator: Simulator, status: str) -> None:
    scenario, seconds = WAYS[status]
    simulator.script(scenario)
    made = ask("POST", "/responses", model="gpt-4o", input="Why?", background=True)
    simulator.advance(seconds)
    if status == "cancelling":
        ask("POST", "/responses/{response_id}/cancel", made["id"])
    found = ask("GET", "/responses/{response_id}", made["id"])
    assert found["status"] == SAID.get(status, status)
    ask("GET", "/responses/{response_id}/input_items", made["id"])
