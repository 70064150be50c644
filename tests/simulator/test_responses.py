# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import openai
import pytest

from airflow_provider_openai_runs.simulator import FunctionCall, Scenario
from tests.support.waiting import until

if TYPE_CHECKING:
    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator

WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
MCP: Any = {
    "type": "mcp",
    "server_label": "dice",
    "server_url": "https://example.com/mcp",
    "authorization": "secret",
    "headers": {"X-Key": "secret"},
}


def start(client: openai.OpenAI, text: Any = "Why?", **more: Any) -> Any:
    return client.responses.create(model="gpt-4o", input=text, background=True, **more)


def finish(client: openai.OpenAI, simulator: Simulator, response: Any) -> Any:
    simulator.advance(5)
    return client.responses.retrieve(response.id)


def outputs(response: Any, text: str = "rain") -> Any:
    return [
        {"type": "function_call_output", "call_id": item.call_id, "output": text}
        for item in response.output
        if item.type == "function_call"
    ]


def test_a_background_response_is_queued_then_works_then_answers(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    simulator.script(Scenario(queued=60, in_progress=60))
    response = start(client, "Why is the sky blue?", metadata={"team": "blue"}, temperature=0.5)
    assert (response.status, response.output, response.usage) == ("queued", [], None)
    assert (response.background, response.store, response.temperature) == (True, True, 0.5)
    simulator.advance(60)
    assert client.responses.retrieve(response.id).status == "in_progress"
    simulator.advance(60)
    response = finish(client, simulator, response)
    assert response.status == "completed"
    assert response.output_text == "Simulated answer to: Why is the sky blue?"
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.metadata == {"team": "blue"}
    items: Any = client.responses.input_items.list(response.id).data
    assert [item.content[0].text for item in items] == ["Why is the sky blue?"]


def test_a_synchronous_response_answers_when_it_is_ready(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    simulator.script(Scenario(queued=0, in_progress=1000, text="done"))

    def end_it_once_it_is_there() -> None:
        while not simulator.active():
            time.sleep(0.005)
        simulator.advance(1000)

    threading.Thread(target=end_it_once_it_is_there, daemon=True).start()
    response = client.responses.create(model="gpt-4o", input="Now")
    assert (response.status, response.output_text, response.background) == ("completed", "done", False)
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(response.id)


def test_dropping_the_connection_cancels_a_synchronous_response(simulator: Simulator) -> None:
    simulator.script(Scenario(in_progress=1000))
    body = json.dumps({"model": "gpt-4o", "input": "Now"})
    head = (
        "POST /v1/responses HTTP/1.1",
        "Host: here",
        "Authorization: Bearer k",
        f"Content-Length: {len(body)}",
    )
    where = urlsplit(simulator.base_url)
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.sendall("\r\n".join([*head, "Content-Type: application/json", "", body]).encode())
        until(simulator.active)
    until(lambda: not simulator.active())
    assert [run["status"] for run in simulator.runs()] == ["cancelled"]


def test_a_gateway_that_ignores_background_answers_with_the_end(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    simulator.script(Scenario(queued=0.01, in_progress=0.01, ignores_background=True))
    response = start(client)
    assert (response.status, response.background) == ("completed", False)


@pytest.mark.parametrize("ends", ["completed", "failed", "incomplete", "cancelled"])
def test_a_response_ends_as_its_scenario_says(
    client: openai.OpenAI,
    simulator: Simulator,
    ends: str,
) -> None:
    simulator.script(
        Scenario(ends=ends, text="abcd", error={"code": "rate_limit_exceeded", "message": "Slow down."}),
    )
    response = finish(client, simulator, start(client))
    assert response.status == ends
    assert response.output_text == {"completed": "abcd", "incomplete": "ab"}.get(ends, "")
    assert (response.error is not None) == (ends == "failed")
    assert (response.completed_at is not None) == (ends == "completed")
    assert (response.usage is not None) == (ends in ("completed", "incomplete"))
    reason = None if response.incomplete_details is None else response.incomplete_details.reason
    assert reason == ("max_output_tokens" if ends == "incomplete" else None)


def test_an_answer_above_the_ceiling_is_cut_and_incomplete(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    simulator.script(Scenario(text="word" * 30))
    response = finish(client, simulator, start(client, max_output_tokens=20))
    assert (response.status, response.usage.output_tokens) == ("incomplete", 20)
    assert response.output[0].status == "incomplete"


def test_a_script_that_expires_is_not_for_responses(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Scenario(ends="expired"), Scenario(ends="failed"))
    assert finish(client, simulator, start(client)).status == "failed"


def test_cancelling_twice_is_as_good_as_once_and_an_ended_response_stays_as_it_ended(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    response = start(client)
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.cancel(response.id).status == "cancelled"
    done = finish(client, simulator, start(client))
    assert client.responses.cancel(done.id).status == "completed"


def test_a_cancel_takes_its_time_and_may_lose_the_race(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Scenario(cancelling=3, cancel_ends="completed"))
    response = start(client)
    assert client.responses.cancel(response.id).status == "in_progress"
    simulator.advance(2)
    assert client.responses.cancel(response.id).status == "in_progress"
    simulator.advance(1)
    assert client.responses.retrieve(response.id).status == "completed"


def test_the_first_function_on_offer_is_called_and_the_next_response_answers(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    first = finish(client, simulator, start(client, "Rain?", tools=[WEATHER]))
    assert (first.status, first.output_text) == ("completed", "")
    assert [item.name for item in first.output] == ["weather"]
    second = start(client, outputs(first), tools=[WEATHER], previous_response_id=first.id)
    second = finish(client, simulator, second)
    assert (second.status, second.output_text) == ("completed", "Simulated answer to: Rain?")
    assert second.previous_response_id == first.id


def test_rounds_of_calls_are_played_by_one_response_each(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    rounds = ((FunctionCall(name="left"), FunctionCall(name="right")), (FunctionCall(name="last"),))
    simulator.script(Scenario(function_calls=rounds, text="end", usage=(4, 2)), Scenario(text="other"))
    response = finish(client, simulator, start(client))
    assert [item.name for item in response.output] == ["left", "right"]
    response = finish(client, simulator, start(client, outputs(response), previous_response_id=response.id))
    assert [item.name for item in response.output] == ["last"]
    response = finish(client, simulator, start(client, outputs(response), previous_response_id=response.id))
    assert (response.output_text, response.usage.total_tokens) == ("end", 6)


def test_a_call_can_be_answered_by_sending_the_whole_history(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    simulator.script(Scenario(function_calls=((FunctionCall(name="f"),),), text="end"))
    first = finish(client, simulator, start(client))
    history = [{"role": "user", "content": "Why?"}, *(item.to_dict() for item in first.output)]
    second = finish(client, simulator, start(client, [*history, *outputs(first)]))
    assert second.output_text == "end"


def test_calls_left_open_and_outputs_nobody_asked_for_are_refused(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    first = finish(client, simulator, start(client, tools=[WEATHER]))
    call_id = first.output[0].call_id
    with pytest.raises(openai.BadRequestError, match=f"No tool output found for function call {call_id}"):
        start(client, "Never mind.", previous_response_id=first.id)
    unasked: Any = [{"type": "function_call_output", "call_id": "call_x", "output": ""}]
    with pytest.raises(openai.BadRequestError, match=r"No tool call found .* with call_id call_x"):
        start(client, unasked, previous_response_id=first.id)
    with pytest.raises(openai.NotFoundError, match="'mcpr_x' not found"):
        start(client, [{"type": "mcp_approval_response", "approval_request_id": "mcpr_x", "approve": True}])


@pytest.mark.parametrize(("approve", "kinds"), [(True, ["mcp_call", "message"]), (False, ["message"])])
def test_an_approval_is_asked_for_and_its_answer_decides(
    client: openai.OpenAI,
    simulator: Simulator,
    approve: bool,
    kinds: list[str],
) -> None:
    simulator.script(Scenario(mcp_approval=FunctionCall(name="roll", arguments={"dice": "2d4"}), text="6"))
    first = finish(client, simulator, start(client, tools=[MCP]))
    [request] = first.output
    assert (request.type, request.name, request.server_label) == ("mcp_approval_request", "roll", "dice")
    answer: Any = [
        {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve},
    ]
    second = start(client, answer, tools=[MCP], previous_response_id=first.id)
    second = finish(client, simulator, second)
    assert [item.type for item in second.output] == kinds
    assert second.output_text == "6"


def test_what_authorises_at_an_mcp_server_is_never_shown(client: openai.OpenAI) -> None:
    assert "secret" not in start(client, tools=[MCP]).to_json()


def test_an_unknown_previous_response_and_a_conversation_beside_it_are_refused(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError) as unknown:
        start(client, previous_response_id="resp_x")
    assert unknown.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError, match="Mutually exclusive parameters"):
        start(client, previous_response_id="resp_x", conversation="conv_x")


def test_a_background_response_that_is_not_stored_is_kept_ten_minutes(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    response = start(client, store=False)
    assert finish(client, simulator, response).store is False
    simulator.advance(600)
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{response.id}' not found"):
        client.responses.retrieve(response.id)


def test_a_deleted_response_is_gone_but_was_there(client: openai.OpenAI, simulator: Simulator) -> None:
    response = start(client)
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    assert [run["id"] for run in simulator.runs()] == [response.id]


def test_a_response_can_be_hidden_keep_its_metadata_and_ask_for_slower_polls(
    http: httpx2.Client,
    simulator: Simulator,
) -> None:
    simulator.script(Scenario(hidden_for=30, echo_metadata=False, poll_after_ms=1500))
    body = {"model": "gpt-4o", "input": "x", "background": True, "metadata": {"a": "b"}}
    url = f"/responses/{http.post('/responses', json=body).json()['id']}"
    assert http.get(url).status_code == 404
    simulator.advance(30)
    assert http.get(url).headers["openai-poll-after-ms"] == "1500"
    assert http.get(url).json()["metadata"] == {}


def test_streams_are_refused_in_plain_words(http: httpx2.Client) -> None:
    refused = http.post("/responses", json={"model": "gpt-4o", "input": "x", "stream": True})
    assert refused.status_code == 400
    assert "does not stream" in refused.json()["error"]["message"]
    key = http.post("/responses", json={"model": "m", "input": "x", "background": True}).json()["id"]
    assert http.get(f"/responses/{key}", params={"stream": "true"}).status_code == 400
