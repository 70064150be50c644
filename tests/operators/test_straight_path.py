# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import ToolCallsPendingError
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene

QUICK = Scenario(queued=0.05, in_progress=0.1, text="Rayleigh scattering.", usage=(11, 7))

CONTRACT = {
    *("id", "object", "thread_id", "assistant_id", "model", "instructions", "status", "tools"),
    *("created_at", "started_at", "completed_at", "file_ids", "metadata", "usage", "steps"),
    *("output_text", "refusal", "last_error", "incomplete_details", "tool_calls"),
    *("service_tier", "files", "citations", "reply_uri", "output_uri"),
    *("expires_at", "cancelled_at", "failed_at", "ref"),
    *("usage_total", "runs_without_usage"),
}


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_run_is_created_once_awaited_and_returned_under_the_names_of_the_contract(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    scene.simulator.script(QUICK)
    found = scene.run(create(deferrable=deferrable, metadata={"team": "data"}))

    assert set(found) == CONTRACT
    assert json.loads(json.dumps(found)) == found
    assert found["status"] == "completed"
    assert found["output_text"] == "Rayleigh scattering."
    assert found["usage"].items() >= {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}.items()
    assert found["metadata"]["team"] == "data"
    assert found["steps"]
    assert all({"id", "type", "status", "details"} <= set(step) for step in found["steps"])
    assert found["id"] == found["ref"]["id"] == scene.simulator.runs()[0]["id"]
    assert scene.creates() == 1


def test_a_thread_run_has_the_times_and_the_object_of_the_contract(scene: Scene, run_on: Make) -> None:
    scene.simulator.script(QUICK)
    found = scene.run(run_on(instructions="Be brief."))

    assert found["object"] == "thread.run"
    assert found["thread_id"] == found["ref"]["thread_id"] == scene.thread_id
    assert found["assistant_id"] == scene.assistant_id
    assert found["instructions"] == "Be brief."
    assert found["created_at"] <= found["started_at"] <= found["completed_at"]
    assert found["ref"] == {
        "kind": "thread_run",
        "id": found["id"],
        "conn_id": "openai_default",
        "thread_id": scene.thread_id,
    }


def test_a_response_is_sent_in_the_background_and_stored_unless_given_otherwise(
    scene: Scene, respond: Make
) -> None:
    scene.simulator.script(QUICK)
    scene.run(respond(extra_body={"prompt_cache_key": "k"}))

    body = scene.simulator.requests[0].body
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
    scene: Scene, run_on: Make, caplog: pytest.LogCaptureFixture
) -> None:
    scene.simulator.script(QUICK)
    parameters = '{"type": "object", "properties": {"city": {"type": "string"}}}'
    operator = run_on(
        max_tokens=500,
        tools=[
            {"type": "retrieval"},
            {"type": "code_interpreter"},
            {"type": "function", "function": {"name": "weather", "parameters": parameters}},
        ],
        on_tool_calls="return",
        stream_for_tool=True,
        temperature="0.5",
        top_p=1,
    )
    scene.run(operator)

    created = next(r for r in scene.simulator.requests if r.path.endswith("/runs"))
    assert created.body["max_completion_tokens"] == 500
    assert [tool["type"] for tool in created.body["tools"]] == ["file_search", "code_interpreter", "function"]
    assert created.body["tools"][2]["function"]["parameters"] == json.loads(parameters)
    assert created.body["temperature"] == 0.5
    assert not {"max_tokens", "stream_for_tool"} & set(created.body)


def test_what_a_deferral_stores_has_no_prompt_and_no_key(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(in_progress=60))
    operator = create(deferrable=True, instructions="A secret recipe", execution_timeout=None)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.context)

    path, kwargs = deferred.value.trigger.serialize()
    stored = json.dumps(kwargs)
    assert path == "airflow_provider_openai_runs.triggers.RunCompletionTrigger"
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout is None
    assert kwargs["ref"]["id"] == scene.simulator.runs()[0]["id"]
    assert kwargs["deadline"] == pytest.approx(kwargs["created_at"] + 30)
    assert "sky" not in stored
    assert "recipe" not in stored
    assert scene.simulator.key not in stored
    assert scene.context["ti"].xcoms["ref"] == kwargs["ref"]


def test_multiple_outputs_push_each_attribute_of_a_run_that_failed_under_its_own_key(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, ends="failed"))
    with pytest.raises(Exception, match="failed"):
        create(multiple_outputs=True).execute(scene.context)

    xcoms = scene.context["ti"].xcoms
    assert set(xcoms) >= CONTRACT
    assert xcoms["status"] == xcoms["return_value"]["status"] == "failed"


def test_a_create_that_is_answered_with_the_end_is_not_waited_for(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, ignores_background=True))
    found = respond(deferrable=True).execute(scene.context)

    assert found["status"] == "completed"


def test_the_answer_to_a_create_is_enough_where_the_server_keeps_nothing(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, ignores_background=True, text="Blue."))
    scene.simulator.fault(Fault(method="GET", path="^/responses/", status=404, times=None))
    found = scene.run(respond())

    assert (found["status"], found["output_text"]) == ("completed", "Blue.")
    assert found["steps"]


def test_a_call_that_the_answer_to_a_create_ends_with_is_returned_where_the_server_keeps_nothing(
    scene: Scene, respond: Make
) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Paris"})
    scene.simulator.script(Scenario(function_calls=[[call]], ignores_background=True))
    scene.simulator.fault(Fault(method="GET", path="^/responses/", status=404, times=None))
    operator = respond(tools="{{ tools }}")
    operator.tools = [{"type": "function", "name": "weather"}]
    with pytest.raises(ToolCallsPendingError, match="weather"):
        operator.execute(scene.context)

    assert scene.context["ti"].xcoms["return_value"]["tool_calls"]


def test_a_run_brings_its_own_thread_and_the_thread_is_on_record_before_the_run_is_paid_for(
    scene: Scene, run_on: Make
) -> None:
    scene.simulator.script(QUICK)
    found = scene.run(run_on(thread={"messages": [{"role": "user", "content": "Hello"}]}), scene.kept)

    posted = [r.path for r in scene.simulator.requests if r.method == "POST"]
    assert posted[-2:] == ["/threads", f"/threads/{found['thread_id']}/runs"]
    assert scene.store.writes[0]["thread_id"] == found["thread_id"]
    assert "ref" not in scene.store.writes[0]
    assert scene.store.writes[1]["ref"] == found["ref"]


def test_the_record_has_neither_prompt_nor_answer(scene: Scene, create: Make) -> None:
    scene.simulator.script(QUICK)
    scene.run(create(instructions="A secret recipe"), scene.kept)

    written = json.dumps(scene.store.writes)
    assert not [word for word in ("sky", "recipe", "Rayleigh", scene.simulator.key) if word in written]


def test_without_a_window_the_run_is_created_and_left_to_itself(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(in_progress=60))
    found = create(completion_window=None, deferrable=True).execute(scene.context)

    assert found["status"] == "queued"
    assert scene.context["ti"].xcoms["ref"] == found["ref"]
    assert scene.creates() == len(scene.simulator.active()) == 1
