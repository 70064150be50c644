# SPDX-License-Identifier: Apache-2.0
"""Every public call of the hook, and its asynchronous twin."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import LostCreateError, RunCallError, RunRequestError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario, Simulator

NOW = Scenario(queued=0, in_progress=0, text="Rayleigh.")
LONG = Scenario(queued=0, in_progress=500)
CALL = FunctionCall(name="weather", arguments={"city": "Oslo"})


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, openai_runs_simulator: Simulator) -> Callable[..., Any]:
    """Call the hook by the name of a method, in one of its two ways."""
    hook = OpenAIRunsHook()

    def run(name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return getattr(hook, name)(*args, **kwargs)
        return asyncio.run(getattr(hook, f"a{name}")(*args, **kwargs))

    return run


@pytest.fixture
def respond(call: Callable[..., Any]) -> Callable[..., Run]:
    def run(**arguments: Any) -> Run:
        found: Run = call("create_background_response", **{"model": "m", "input": "Why?", **arguments})
        return found

    return run


@pytest.fixture
def run_on(call: Callable[..., Any], thread_id: str, assistant_id: str) -> Callable[..., Run]:
    def run(**arguments: Any) -> Run:
        given = {"assistant_id": assistant_id, **({} if "thread" in arguments else {"thread_id": thread_id})}
        found: Run = call("create_thread_run", **given, **arguments)
        return found

    return run


def test_every_call_has_an_asynchronous_twin() -> None:
    calls = {
        "create_thread_run",
        "create_background_response",
        "create_thread",
        "retrieve",
        "steps",
        "output",
        "list_thread_runs",
        "cancel",
        "submit_tool_outputs",
    }
    for name in calls:
        ours, twin = getattr(OpenAIRunsHook, name), getattr(OpenAIRunsHook, f"a{name}")
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(ours).parameters == inspect.signature(twin).parameters


def test_a_response_is_created_and_read(
    call: Callable[..., Any], respond: Callable[..., Run], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(NOW)
    created = respond(metadata={"team": "data"})
    found = call("retrieve", created.ref.to_json())

    assert found.ref == created.ref
    assert (found.raw_status, found.output_text, found.steps) == ("completed", "Rayleigh.", None)
    assert found.metadata == {"team": "data"}
    assert call("output", created.ref) == "Rayleigh."
    assert call("steps", created.ref)


def test_a_thread_run_is_created_on_a_new_thread_and_read(
    call: Callable[..., Any], run_on: Callable[..., Run], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(NOW)
    created = run_on(thread={"messages": [{"role": "user", "content": "Why?"}]})
    found = call("retrieve", created.ref, include_steps=True)

    assert (found.raw_status, found.output_text) == ("completed", "Rayleigh.")
    assert [step.type for step in found.steps] == ["message_creation"]
    assert call("steps", created.ref) == found.steps
    assert call("output", created.ref.to_json()) == "Rayleigh."


def test_every_page_of_a_threads_runs_is_listed_in_either_order(
    call: Callable[..., Any], run_on: Callable[..., Run], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0, times=None))
    hook = OpenAIRunsHook()
    first = run_on()
    for _ in range(101):
        hook.create_thread_run(thread_id=first.ref.thread_id, assistant_id=first.assistant_id)
    newest = call("list_thread_runs", first.ref.thread_id)
    oldest = call("list_thread_runs", first.ref.thread_id, order="asc")

    assert len({run.ref.id for run in newest}) == 102
    assert oldest[0].ref == newest[-1].ref == first.ref


def test_a_thread_is_created_with_messages_or_empty(call: Callable[..., Any]) -> None:
    messages = [{"role": "user", "content": "Why?"}]

    assert call("create_thread", messages=messages, metadata={"a": "b"}) != call("create_thread")


@pytest.mark.parametrize("kind", ["respond", "run_on"])
def test_a_run_is_cancelled_and_returned_as_it_ended(
    request: pytest.FixtureRequest, call: Callable[..., Any], openai_runs_simulator: Simulator, kind: str
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=500, cancelling=0.3))
    created = request.getfixturevalue(kind)()
    first = call("cancel", created.ref)
    again = call("cancel", created.ref.to_json())

    assert first.raw_status == again.raw_status == "cancelled"


def test_a_run_that_does_not_end_in_time_is_an_error_that_says_so(
    call: Callable[..., Any], respond: Callable[..., Run], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=500, cancelling=60))
    with pytest.raises(RunCallError, match=r"is being cancelled, but .* may be running and billing"):
        call("cancel", respond().ref, wait=0.3)


def test_the_calls_of_a_thread_run_are_answered_and_it_goes_on_itself(
    call: Callable[..., Any], run_on: Callable[..., Run], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0, function_calls=((CALL,),)))
    pending = call("retrieve", run_on().ref)
    assert [(c.name, c.arguments) for c in pending.tool_calls] == [("weather", '{"city": "Oslo"}')]
    goes_on = call("submit_tool_outputs", pending, {pending.tool_calls[0].id: "sunny"})

    assert goes_on.ref == pending.ref
    assert call("retrieve", pending.ref).raw_status == "completed"


def test_the_calls_of_a_response_are_answered_and_a_new_one_goes_on(
    call: Callable[..., Any], respond: Callable[..., Run], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0, function_calls=((CALL,),)))
    tools = [{"type": "function", "function": {"name": "weather"}}]
    pending = call("retrieve", respond(tools=tools).ref)
    goes_on = call("submit_tool_outputs", pending, {pending.tool_calls[0].id: "sunny"}, tools=tools)

    assert goes_on.ref.id != pending.ref.id
    assert openai_runs_simulator.requests[-1].body["tools"][0]["name"] == "weather"
    assert call("retrieve", goes_on.ref).raw_status == "completed"


def test_a_create_whose_answer_is_lost_is_not_sent_twice(
    respond: Callable[..., Run], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.fault(Fault(kind="lost"))
    with pytest.raises(LostCreateError, match=r"create a response.*not sent again") as lost:
        respond()

    # A retried @task would create it again, and pay twice.
    assert not lost.value.retryable
    assert openai_runs_simulator.count("POST", "^/responses$") == 1


def test_wrong_arguments_are_refused_before_anything_is_sent(
    call: Callable[..., Any], openai_runs_simulator: Simulator
) -> None:
    for name, arguments in (
        ("create_background_response", {"input": "Why?", "temperature": 3}),
        ("create_thread_run", {"thread_id": "t", "assistant_id": "a", "top_p": 2}),
        ("create_thread_run", {"assistant_id": "a"}),
    ):
        with pytest.raises(RunRequestError):
            call(name, **arguments)

    assert openai_runs_simulator.requests == []


@pytest.mark.parametrize("wrong", [None, {"id": "resp_1"}, {"kind": "thread_run", "id": "run_1"}], ids=str)
def test_a_ref_that_is_none_is_refused(call: Callable[..., Any], wrong: Any) -> None:
    with pytest.raises(RunRequestError, match=r"ref"):
        call("retrieve", wrong)
