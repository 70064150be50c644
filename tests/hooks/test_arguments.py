# SPDX-License-Identifier: Apache-2.0
"""What the hook takes: arguments of a create that exist, and refs of any connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import RunConnectionError, RunRequestError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator
from airflow_provider_openai_runs.runs.create_arguments import ResponseArguments, ThreadRunArguments
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator
from airflow_provider_openai_runs.transport.spool import FileSpool
from airflow_provider_openai_runs.wire import batches, flows
from tests.support.scripted_server import ScriptedServer

REFUSED = [
    ("create_background_response", "completion_window", "retrieve"),
    ("create_background_response", "deferrable", "does not wait"),
    ("create_background_response", "max_tokens", "'max_output_tokens'"),
    ("create_background_response", "instruction", "'instructions'"),
    ("create_background_response", "conversation_id", "'conversation'"),
    ("create_thread_run", "max_output_tokens", "'max_completion_tokens'"),
    ("create_thread_run", "tool", "'tools'"),
    ("create_thread_run", "completion_window", "does not wait"),
]


@pytest.mark.parametrize("twin", ["", "a"])
@pytest.mark.parametrize(("method", "name", "meant"), REFUSED)
def test_an_argument_that_a_create_does_not_have_is_refused_and_nothing_is_sent(
    openai_runs_simulator: Simulator, twin: str, method: str, name: str, meant: str
) -> None:
    call = getattr(OpenAIRunsHook(), f"{twin}{method}")

    def create() -> None:
        made = call(**{name: 600})
        asyncio.run(made)

    with pytest.raises(RunRequestError, match=r"Nothing was sent\.") as refused:
        create()
    assert repr(name) in str(refused.value)
    assert meant in str(refused.value)
    assert openai_runs_simulator.requests == []


def test_the_hook_refuses_to_stream_by_its_own_sentence() -> None:
    given: Any = {"input": "Why?", "stream": True}
    with pytest.raises(RunRequestError, match="cannot stream"):
        OpenAIRunsHook().create_background_response(**given)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [(CreateResponseOperator, ResponseArguments), (CreateRunOperator, ThreadRunArguments)],
)
def test_the_arguments_of_the_hook_are_those_that_the_operator_renders(
    operator: type[Any], arguments: type[Any]
) -> None:
    assert set(arguments.__annotations__) == {*operator.template_fields} - {
        "conn_id",
        "completion_window",
        "output_path",
        "approval_subject",
    }


# -- refs ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a hook of the connection ``scripted``, whose server knows nothing, in one of the two ways."""
    hook = OpenAIRunsHook("scripted")

    def run(name: str, *args: Any) -> Any:
        if request.param == "sync":
            return getattr(hook, name)(*args)
        return asyncio.run(getattr(hook, f"a{name}")(*args))

    return run


def test_a_run_of_another_connection_is_asked_for_there(
    call: Callable[..., Any], openai_runs_simulator: Simulator, scripted: ScriptedServer
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=500))
    ref = OpenAIRunsHook().create_background_response(model="m", input="Why?").ref.to_json()

    assert call("retrieve", ref).raw_status == "in_progress"
    assert call("steps", ref) == ()
    assert call("cancel", ref).raw_status == "cancelled"
    assert scripted.asked == []


def test_a_ref_without_a_connection_is_of_the_hooks_own(
    call: Callable[..., Any], scripted: ScriptedServer
) -> None:
    scripted.play(
        {"GET /responses/resp_1": (200, {"id": "resp_1", "object": "response", "status": "queued"})}
    )
    assert call("retrieve", {"kind": "response", "id": "resp_1"}).ref.conn_id == "scripted"


# -- the client's own time -----------------------------------------------------------------------------------


def with_timeout(connection_json: str, timeout: object) -> str:
    extra = {"openai_client_kwargs": {"timeout": timeout}}
    return json.dumps({**json.loads(connection_json), "extra": extra})


@pytest.mark.parametrize("timeout", ["30", 0, -1, True, {"read": 5}])
def test_a_timeout_of_the_connection_that_is_no_number_of_seconds_is_refused(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, timeout: object
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SCRIPTED", with_timeout(scripted.connection_json, timeout))
    with pytest.raises(RunConnectionError, match=r"\['timeout'\] must be seconds above 0"):
        OpenAIRunsHook("scripted").retrieve({"kind": "response", "id": "resp_1"})
    assert scripted.asked == []


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_timeout_of_the_connection_bounds_a_read_and_not_a_create(
    openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_IMPATIENT", with_timeout(openai_runs_simulator.connection_json, 0.3))
    openai_runs_simulator.fault(
        Fault(method="POST", path="^/responses$", kind="slow", delay=1.0),
        Fault(method="GET", path="^/responses/", kind="slow", delay=1.0),
    )
    hook = OpenAIRunsHook("impatient")
    if way == "sync":
        run = hook.create_background_response(model="m", input="Why?")
        hook.retrieve(run.ref)
    else:
        run = asyncio.run(hook.acreate_background_response(model="m", input="Why?"))
        asyncio.run(hook.aretrieve(run.ref))

    assert openai_runs_simulator.count("POST", "^/responses$") == 1
    assert openai_runs_simulator.count("GET", "^/responses/") > 1, "the first one was given up"


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_timeout_of_the_connection_does_not_bound_a_file(
    openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_IMPATIENT", with_timeout(openai_runs_simulator.connection_json, 0.3))
    openai_runs_simulator.fault(
        Fault(method="POST" if way == "up" else "GET", path="^/files", kind="slow", delay=1.0)
    )
    (tmp_path / "up").write_bytes(b"{}\n")
    hook = OpenAIRunsHook("impatient")
    file_id = hook.run_flow(flows.single(batches.upload(tmp_path / "up", "a.jsonl")))
    with FileSpool(limit=1000) as spool:
        hook.run_flow(flows.single(batches.content(file_id, spool)))
        assert spool.path.read_bytes() == b"{}\n"
