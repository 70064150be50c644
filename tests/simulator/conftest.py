# SPDX-License-Identifier: Apache-2.0
"""A simulator, and an SDK client that holds every answer against the SDK's own types."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from openai.pagination import SyncCursorPage
from pydantic import TypeAdapter

from airflow_provider_openai_runs.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from openai.types import Batch, FileDeleted, FileObject, Model
    from openai.types.beta import Assistant, AssistantDeleted, Thread, ThreadDeleted
    from openai.types.beta.threads import Message, MessageDeleted, Run
    from openai.types.beta.threads.runs import RunStep
    from openai.types.container_retrieve_response import ContainerRetrieveResponse
    from openai.types.containers import FileRetrieveResponse
    from openai.types.conversations import Conversation, ConversationDeletedResource, ConversationItem
    from openai.types.responses import Response, ResponseItem
    from openai.types.shared import ErrorObject

_BY_OBJECT: dict[str, Any] = {
    "assistant": Assistant,
    "assistant.deleted": AssistantDeleted,
    "batch": Batch,
    "container": ContainerRetrieveResponse,
    "container.file": FileRetrieveResponse,
    "conversation": Conversation,
    "conversation.deleted": ConversationDeletedResource,
    "file": FileObject,
    "file.deleted": FileDeleted,
    "model": Model,
    "response": Response,
    "thread": Thread,
    "thread.deleted": ThreadDeleted,
    "thread.message": Message,
    "thread.message.deleted": MessageDeleted,
    "thread.run": Run,
    "thread.run.step": RunStep,
}


def check_strictly(path: str, reply: dict[str, Any]) -> None:
    """Load a reply into the SDK's type for it; fail unless it fits but for the three known deviations."""
    if reply.get("object") == "list":
        if "first_id" in reply:
            TypeAdapter(SyncCursorPage[Any]).validate_python(reply, strict=True)
        for item in reply["data"]:
            check_strictly(path, item)
    elif reply.get("object") == "response" and "deleted" in reply:
        # The SDK has no type for it.
        assert (reply["deleted"], set(reply)) == (True, {"id", "object", "deleted"})
    elif "object" in reply:
        kind = (
            f"{reply['object']}.deleted"
            if reply["object"] == "file" and "deleted" in reply
            else reply["object"]
        )
        TypeAdapter(_BY_OBJECT[kind]).validate_python(_tolerated(reply), strict=True)
    else:
        type_: Any = ResponseItem if path.endswith("/input_items") else ConversationItem
        TypeAdapter(type_).validate_python(reply, strict=True)


def _tolerated(reply: dict[str, Any]) -> dict[str, Any]:
    if reply["object"] == "thread.run" and reply["instructions"] is None:
        return {**reply, "instructions": ""}
    if reply["object"] == "thread.message":
        return {"status": "completed", **reply}
    if reply["object"] == "response" and reply["usage"]:
        details = {"cache_write_tokens": 0, **reply["usage"]["input_tokens_details"]}
        return {**reply, "usage": {**reply["usage"], "input_tokens_details": details}}
    return reply


def _check(response: httpx2.Response) -> None:
    path = response.request.url.path
    downloaded = "content-disposition" in response.headers
    if not path.startswith("/v1/") or "json" not in response.headers["content-type"] or downloaded:
        return
    response.read()
    if response.is_success:
        check_strictly(path.removeprefix("/v1"), response.json())
    else:
        assert list(response.json()) == ["error"]
        TypeAdapter(ErrorObject).validate_python(response.json()["error"], strict=True)


def plain() -> httpx2.HTTPTransport:
    """Skip loading the certificates, 70 ms a client: nothing here speaks TLS."""
    return httpx2.HTTPTransport(verify=False)


@pytest.fixture(scope="session")
def _server() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(_server: Simulator) -> Iterator[Simulator]:
    _server.reset()
    yield _server
    _server.reset()


@pytest.fixture
def time_stands_still(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only `simulator.advance` move the clock: a busy machine is slower than the statuses of a run."""
    clock = simulator._store.clock
    now = clock.now() - clock._skipped
    monkeypatch.setattr(clock, "now", lambda: now + clock._skipped)


@pytest.fixture
def client(simulator: Simulator) -> Iterator[openai.OpenAI]:
    http_client = httpx2.Client(transport=plain(), event_hooks={"response": [_check]})
    with openai.OpenAI(
        base_url=simulator.base_url,
        api_key="sk-test",
        max_retries=0,
        http_client=http_client,
    ) as opened:
        yield opened


@pytest.fixture
def http(simulator: Simulator) -> Iterator[httpx2.Client]:
    headers = {"Authorization": "Bearer sk-test", "OpenAI-Beta": "assistants=v2"}
    with httpx2.Client(
        base_url=simulator.base_url,
        headers=headers,
        timeout=60,
        transport=plain(),
        event_hooks={"response": [_check]},
    ) as opened:
        yield opened


@pytest.fixture
def assistant(http: httpx2.Client) -> str:
    return str(http.post("/assistants", json={"model": "gpt-4o"}).json()["id"])


@pytest.fixture
def thread(http: httpx2.Client) -> str:
    body = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    return str(http.post("/threads", json=body).json()["id"])
