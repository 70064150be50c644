# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import ToolCallsPendingError
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario, Simulator

QUICK = Scenario(queued=0.05, in_progress=0.1, text="Rayleigh scattering.", usage=(11, 7))

CONTRACT = {
    *("id", "object", "thread_id", "assistant_id", "model", "instructions", "status", "tools"),
    *("created_at", "started_at", "completed_at", "file_ids", "metadata", "usage", "steps"),
    *("output_text", "last_error", "incomplete_details", "tool_calls"),
    *("expires_at", "cancelled_at", "failed_at", "ref"),
}


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_run_is_created_once_awaited_and_returned_under_the_names_of_the_contract(
    create: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
    *,
    deferrable: bool,
) -> None:
    openai_runs_simulator.script(QUICK)
    found = run_task(create(deferrable=deferrable, metadata={"team": "data"}), context)

    assert set(found) == CONTRACT
    assert json.loads(json.dumps(found)) == found
    assert found["status"] == "completed"
    assert found["output_text"] == "Rayleigh scattering."
    assert found["usage"] == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    assert found["metadata"]["team"] == "data"
    assert found["steps"]
    assert all({"id", "type", "status", "details"} <= set(step) for step in found["steps"])
    assert found["id"] == found["ref"]["id"] == openai_runs_simulator.runs()[0]["id"]
    assert creates() == 1


def test_a_thread_run_has_the_times_and_the_object_of_the_contract(
    run_on: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
    thread_id: str,
    assistant_id: str,
) -> None:
    openai_runs_simulator.script(QUICK)
    found = run_task(run_on(instructions="Be brief."), context)

    assert found["object"] == "thread.run"
    assert found["thread_id"] == found["ref"]["thread_id"] == thread_id
    assert found["assistant_id"] == assistant_id
    assert found["instructions"] == "Be brief."
    assert found["created_at"] <= found["started_at"] <= found["completed_at"]
    assert found["ref"] == {
        "kind": "thread_run",
        "id": found["id"],
        "conn_id": "openai_default",
        "thread_id": thread_id,
    }


def test_a_response_is_sent_in_the_background_and_stored_unless_told_otherwise(
    respond: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(QUICK)
    run_task(respond(extra_body={"prompt_cache_key": "k"}), context)

    body = openai_runs_simulator.requests[0].body
    token = body.pop("metadata")["airflow_token"]
    assert token
    assert body == {
        "model": "gpt-4o-mini",
        "input": "Why is the sky blue?",
        "background": True,
        "store": True,
        "prompt_cache_key": "k",
    }


def test_the_contracts_own_words_are_translated_for_the_api(
    run_on: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    openai_runs_simulator.script(QUICK)
    parameters = '{"type": "object", "properties": {"city": {"type": "string"}}}'
    operator = run_on(
        max_tokens=500,
        tools=[
            {"type": "retrieval"},
            {"type": "code_interpreter"},
            {"type": "function", "function": {"name": "weather", "parameters": parameters}},
        ],
        stream_for_tool=True,
        temperature="0.5",
        top_p=1,
    )
    run_task(operator, context)

    created = next(r for r in openai_runs_simulator.requests if r.path.endswith("/runs"))
    assert created.body["max_completion_tokens"] == 500
    assert [tool["type"] for tool in created.body["tools"]] == ["file_search", "code_interpreter", "function"]
    assert created.body["tools"][2]["function"]["parameters"] == json.loads(parameters)
    assert created.body["temperature"] == 0.5
    assert not {"max_tokens", "stream_for_tool"} & set(created.body)


def test_what_a_deferral_stores_has_no_prompt_and_no_key(
    create: Callable[..., Any], context: dict[str, Any], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(Scenario(in_progress=60))
    operator = create(deferrable=True, instructions="A secret recipe", execution_timeout=None)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)

    path, kwargs = deferred.value.trigger.serialize()
    stored = json.dumps(kwargs)
    assert path == "airflow_provider_openai_runs.triggers.RunCompletionTrigger"
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout is None
    assert kwargs["ref"]["id"] == openai_runs_simulator.runs()[0]["id"]
    assert kwargs["deadline"] == pytest.approx(kwargs["created_at"] + 30)
    assert "sky" not in stored
    assert "recipe" not in stored
    assert openai_runs_simulator.key not in stored
    assert context["ti"].xcoms["ref"] == kwargs["ref"]


def test_multiple_outputs_push_each_attribute_of_a_run_that_failed_under_its_own_key(
    create: Callable[..., Any], context: dict[str, Any], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0.1, ends="failed"))
    with pytest.raises(Exception, match="failed"):
        create(multiple_outputs=True).execute(context)

    xcoms = context["ti"].xcoms
    assert set(xcoms) >= CONTRACT
    assert xcoms["status"] == xcoms["return_value"]["status"] == "failed"


def test_a_create_that_is_answered_with_the_end_is_not_waited_for(
    respond: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0.1, ignores_background=True))
    found = respond(deferrable=True).execute(context)

    assert found["status"] == "completed"


def test_the_answer_to_a_create_is_enough_where_the_server_keeps_nothing(
    respond: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0.1, ignores_background=True, text="Blue."))
    openai_runs_simulator.fault(Fault(method="GET", path="^/responses/", status=404, times=None))
    found = run_task(respond(), context)

    assert (found["status"], found["output_text"]) == ("completed", "Blue.")
    assert found["steps"]


def test_a_call_that_the_answer_to_a_create_ends_with_is_told_where_the_server_keeps_nothing(
    respond: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Paris"})
    openai_runs_simulator.script(Scenario(function_calls=[[call]], ignores_background=True))
    openai_runs_simulator.fault(Fault(method="GET", path="^/responses/", status=404, times=None))
    with pytest.raises(ToolCallsPendingError, match="weather"):
        respond(tools=[{"type": "function", "name": "weather"}]).execute(context)

    assert context["ti"].xcoms["return_value"]["tool_calls"]


def test_a_run_brings_its_own_thread_and_the_thread_is_on_record_before_the_run_is_paid_for(
    run_on: Callable[..., Any],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(QUICK)
    found = run_task(run_on(thread={"messages": [{"role": "user", "content": "Hello"}]}), kept)

    posted = [r.path for r in openai_runs_simulator.requests if r.method == "POST"]
    assert posted[-2:] == ["/threads", f"/threads/{found['thread_id']}/runs"]
    assert store.writes[0]["thread_id"] == found["thread_id"]
    assert "ref" not in store.writes[0]
    assert store.writes[1]["ref"] == found["ref"]


def test_the_record_has_neither_prompt_nor_answer(
    create: Callable[..., Any],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(QUICK)
    run_task(create(instructions="A secret recipe"), kept)

    written = json.dumps(store.writes)
    assert not [word for word in ("sky", "recipe", "Rayleigh", openai_runs_simulator.key) if word in written]


def test_without_a_window_the_run_is_created_and_left_to_itself(
    create: Callable[..., Any],
    creates: Callable[[], int],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(in_progress=60))
    found = create(completion_window=None, deferrable=True).execute(context)

    assert found["status"] == "queued"
    assert context["ti"].xcoms["ref"] == found["ref"]
    assert creates() == len(openai_runs_simulator.active()) == 1
