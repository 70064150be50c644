# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_openai_runs.simulator import FunctionCall, Scenario

if TYPE_CHECKING:
    import httpx2
    import openai

    from airflow_provider_openai_runs.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

TWO_CALLS = ((FunctionCall(name="left"), FunctionCall(name="right", arguments={"side": 2})),)


def start(http: httpx2.Client, assistant: str, thread: str, **body: Any) -> dict[str, Any]:
    answer = http.post(f"/threads/{thread}/runs", json={"assistant_id": assistant, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def retrieve(http: httpx2.Client, run: dict[str, Any]) -> dict[str, Any]:
    return dict(http.get(f"/threads/{run['thread_id']}/runs/{run['id']}").json())


def message(answer: httpx2.Response) -> str:
    return str(answer.json()["error"]["message"])


def test_a_run_is_queued_then_works_then_answers_on_its_thread(
    client: openai.OpenAI,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(Scenario(queued=60, in_progress=60))
    run = client.beta.threads.runs.create(thread, assistant_id=assistant, metadata={"team": "blue"})
    assert (run.status, run.usage, run.started_at) == ("queued", None, None)
    assert run.expires_at == run.created_at + 600
    assert run.metadata == {"team": "blue"}

    simulator.advance(60)
    assert client.beta.threads.runs.retrieve(run.id, thread_id=thread).status == "in_progress"

    simulator.advance(60)
    run = client.beta.threads.runs.retrieve(run.id, thread_id=thread)
    assert (run.status, run.expires_at) == ("completed", None)
    assert run.completed_at is not None
    assert run.usage is not None
    assert run.usage.total_tokens == run.usage.prompt_tokens + run.usage.completion_tokens

    answer, question = client.beta.threads.messages.list(thread).data
    assert answer.content[0].text.value == "Simulated answer to: Why is the sky blue?"  # type: ignore[union-attr]
    assert (answer.role, answer.run_id, answer.assistant_id) == ("assistant", run.id, assistant)
    assert (question.role, question.run_id) == ("user", None)
    assert [m.id for m in client.beta.threads.messages.list(thread, run_id=run.id)] == [answer.id]

    [step] = client.beta.threads.runs.steps.list(run.id, thread_id=thread)
    assert step.step_details.message_creation.message_id == answer.id  # type: ignore[union-attr]
    again = client.beta.threads.runs.steps.retrieve(step.id, thread_id=thread, run_id=run.id)
    assert again.id == step.id


def test_the_first_function_on_offer_is_called_once_without_a_scenario(
    client: openai.OpenAI,
    simulator: Simulator,
    assistant: str,
) -> None:
    tools: Any = [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "other"}},
    ]
    run = client.beta.threads.create_and_run(
        assistant_id=assistant,
        tools=tools,
        thread={"messages": [{"role": "user", "content": "Rain?"}]},
    )
    simulator.advance(2)
    run = client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert run.status == "requires_action"
    assert run.required_action is not None
    [call] = run.required_action.submit_tool_outputs.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", "{}")

    began = run.started_at
    outputs: Any = [{"tool_call_id": call.id, "output": "yes"}]
    run = client.beta.threads.runs.submit_tool_outputs(
        run.id,
        thread_id=run.thread_id,
        tool_outputs=outputs,
    )
    assert (run.status, run.required_action) == ("queued", None)
    simulator.advance(2)
    run = client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert run.status == "completed"
    assert run.started_at is not None
    assert began is not None
    assert run.started_at > began, "started_at is rewritten when the run goes on"

    answer, calls = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id).data
    assert (answer.type, calls.type) == ("message_creation", "tool_calls")
    assert calls.step_details.tool_calls[0].function.output == "yes"  # type: ignore[union-attr]


def test_all_outputs_have_to_come_in_one_call_and_the_refusal_names_them(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(Scenario(function_calls=TWO_CALLS))
    run = start(http, assistant, thread)
    submit = f"/threads/{thread}/runs/{run['id']}/submit_tool_outputs"
    early = http.post(submit, json={"tool_outputs": []})
    assert (early.status_code, message(early)) == (
        400,
        'Runs in status "queued" do not accept tool outputs.',
    )

    simulator.advance(2)
    calls = retrieve(http, run)["required_action"]["submit_tool_outputs"]["tool_calls"]
    left, right = (call["id"] for call in calls)
    for given in ([left], [left, right, "call_x"], ["call_x"]):
        refused = http.post(submit, json={"tool_outputs": [{"tool_call_id": key} for key in given]})
        expected = f"Expected tool outputs for call_ids {[left, right]}, got {given}"
        assert (refused.status_code, message(refused)) == (400, expected)
    nameless = http.post(submit, json={"tool_outputs": [{"output": "x"}]})
    assert message(nameless) == "Missing required parameter: 'tool_outputs[0].tool_call_id'."
    assert retrieve(http, run)["status"] == "requires_action"
    both = http.post(submit, json={"tool_outputs": [{"tool_call_id": key} for key in (right, left)]})
    assert both.json()["status"] == "queued"


def test_several_rounds_of_calls_leave_one_step_each(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(
        Scenario(function_calls=(*TWO_CALLS, (FunctionCall(name="last"),)), steps=3, usage=(7, 3)),
    )
    run = start(http, assistant, thread)
    for expected in (["left", "right"], ["last"]):
        simulator.advance(2)
        calls = retrieve(http, run)["required_action"]["submit_tool_outputs"]["tool_calls"]
        assert [call["function"]["name"] for call in calls] == expected
        outputs = [{"tool_call_id": call["id"], "output": "ok"} for call in calls]
        http.post(f"/threads/{thread}/runs/{run['id']}/submit_tool_outputs", json={"tool_outputs": outputs})
    simulator.advance(2)
    steps = http.get(f"/threads/{thread}/runs/{run['id']}/steps", params={"order": "asc"}).json()["data"]
    assert [step["type"] for step in steps] == ["tool_calls"] * 5 + ["message_creation"]
    assert {step["status"] for step in steps} == {"completed"}
    total = sum(step["usage"]["total_tokens"] for step in steps)
    assert total == retrieve(http, run)["usage"]["total_tokens"] == 10


def test_a_second_run_on_a_busy_thread_is_refused_and_names_the_active_run(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    run = start(http, assistant, thread)
    second = http.post(f"/threads/{thread}/runs", json={"assistant_id": assistant})
    assert second.status_code == 400
    assert second.json()["error"] == {
        "message": f"Thread {thread} already has an active run {run['id']}.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    text = http.post(f"/threads/{thread}/messages", json={"role": "user", "content": "And now?"})
    assert (text.status_code, message(text)) == (
        400,
        f"Can't add messages to {thread} while a run {run['id']} is active.",
    )
    simulator.advance(5)
    start(http, assistant, thread)


@pytest.mark.parametrize("ends", ["completed", "failed", "incomplete", "cancelled", "expired"])
def test_a_run_ends_as_its_scenario_says(
    client: openai.OpenAI,
    simulator: Simulator,
    assistant: str,
    thread: str,
    ends: str,
) -> None:
    simulator.script(
        Scenario(ends=ends, error={"code": "rate_limit_exceeded", "message": "Slow down."}, text="abcd"),
    )
    key = client.beta.threads.runs.create(thread, assistant_id=assistant).id
    simulator.advance(2)
    run: Any = client.beta.threads.runs.retrieve(key, thread_id=thread).to_dict(mode="json")
    assert run["status"] == ends
    assert (run["last_error"] is not None) == (ends == "failed")
    assert (run["failed_at"] is not None) == (ends == "failed")
    assert (run["cancelled_at"] is not None) == (ends == "cancelled")
    assert (run["completed_at"] is not None) == (ends == "completed")
    reason = {"reason": "max_completion_tokens"} if ends == "incomplete" else None
    assert run["incomplete_details"] == reason
    answers = [m.content[0].text.value for m in client.beta.threads.messages.list(thread, run_id=run["id"])]  # type: ignore[union-attr]
    assert answers == {"completed": ["abcd"], "incomplete": ["ab"]}.get(ends, [])
    assert client.beta.threads.runs.create(thread, assistant_id=assistant).status == "queued"


def test_an_answer_above_the_ceiling_is_cut_and_incomplete(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(Scenario(text="word" * 300))
    run = start(http, assistant, thread, max_completion_tokens=256)
    simulator.advance(2)
    run = retrieve(http, run)
    assert (run["status"], run["usage"]["completion_tokens"]) == ("incomplete", 256)


def test_a_cancel_takes_its_time_and_may_lose_the_race(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(Scenario(cancelling=3), Scenario(cancelling=3, cancel_ends="completed"))
    for ends in ("cancelled", "completed"):
        run = start(http, assistant, thread)
        cancel = f"/threads/{thread}/runs/{run['id']}/cancel"
        assert http.post(cancel).json()["status"] == "cancelling"
        assert message(http.post(cancel)) == "Cannot cancel run with status 'cancelling'."
        simulator.advance(2)
        assert retrieve(http, run)["status"] == "cancelling"
        assert [r["id"] for r in simulator.active()] == [run["id"]]
        simulator.advance(2)
        assert retrieve(http, run)["status"] == ends
        assert (http.post(cancel).status_code, message(http.post(cancel))) == (
            400,
            f"Cannot cancel run with status '{ends}'.",
        )
        assert simulator.active() == []


def test_a_run_nobody_answers_expires_and_its_step_with_it(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(Scenario(function_calls=TWO_CALLS, expires_after=60))
    run = start(http, assistant, thread)
    simulator.advance(59)
    assert retrieve(http, run)["status"] == "requires_action"
    [step] = http.get(f"/threads/{thread}/runs/{run['id']}/steps").json()["data"]
    assert (step["status"], step["usage"]) == ("in_progress", None)
    simulator.advance(1)
    assert retrieve(http, run)["status"] == "expired"
    [step] = http.get(f"/threads/{thread}/runs/{run['id']}/steps").json()["data"]
    assert step["status"] == "expired"


def test_statuses_nobody_knows_can_be_produced(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    http.event_hooks = {}  # the SDK's types do not know them either
    simulator.script(Scenario(statuses=(("paused", 5), ("thinking", 5))))
    run = start(http, assistant, thread)
    seen = [run["status"]]
    for _ in range(2):
        simulator.advance(5)
        seen.append(retrieve(http, run)["status"])
    assert seen == ["paused", "thinking", "completed"]


def test_a_run_can_be_hidden_keep_its_metadata_to_itself_and_ask_for_slower_polls(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(Scenario(hidden_for=30, echo_metadata=False, poll_after_ms=2500))
    run = start(http, assistant, thread, metadata={"a": "b"})
    url = f"/threads/{thread}/runs/{run['id']}"
    assert http.get(url).status_code == 404
    assert http.get(f"/threads/{thread}/runs").json()["data"] == []
    simulator.advance(30)
    shown = http.get(url)
    assert shown.headers["openai-poll-after-ms"] == "2500"
    assert shown.json()["metadata"] == {}
    assert simulator.runs()[0]["metadata"] == {"a": "b"}
