# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from airflow_provider_openai_runs.simulator import FunctionCall, Scenario

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator import Simulator


def say(client: openai.OpenAI, conversation: str, text: Any) -> Any:
    return client.responses.create(model="gpt-4o", input=text, background=True, conversation=conversation)


def test_a_conversation_lives_and_is_deleted(client: openai.OpenAI) -> None:
    made = client.conversations.create(metadata={"a": "1"}, items=[{"role": "user", "content": "Hello"}])
    assert client.conversations.update(made.id, metadata={"a": "2"}).metadata == {"a": "2"}
    assert client.conversations.retrieve(made.id).metadata == {"a": "2"}
    second: Any = [{"type": "message", "role": "assistant", "content": "Good day"}]
    added: Any = client.conversations.items.create(made.id, items=second).data[0]
    assert [item.id for item in client.conversations.items.list(made.id)][0] == added.id  # noqa: RUF015
    assert client.conversations.items.retrieve(added.id, conversation_id=made.id).type == "message"
    assert client.conversations.items.delete(added.id, conversation_id=made.id).id == made.id
    assert len(client.conversations.items.list(made.id).data) == 1
    assert client.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"Conversation with id '{made.id}' not found"):
        client.conversations.retrieve(made.id)


@pytest.mark.usefixtures("time_stands_still")
def test_a_second_response_on_a_busy_conversation_is_refused_as_locked(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    conversation = client.conversations.create().id
    response = say(client, conversation, "One")
    assert response.conversation.id == conversation
    with pytest.raises(openai.BadRequestError) as locked:
        say(client, conversation, "Two")
    assert locked.value.code == "conversation_locked"
    simulator.advance(5)
    assert say(client, conversation, "Two").status == "queued"


@pytest.mark.usefixtures("time_stands_still")
def test_question_and_answer_appear_only_when_the_response_has_completed(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    conversation = client.conversations.create().id
    say(client, conversation, "One")
    assert client.conversations.items.list(conversation).data == []
    simulator.advance(5)
    answer, question = client.conversations.items.list(conversation).data
    assert (answer.role, question.role) == ("assistant", "user")  # type: ignore[union-attr]


def test_a_call_stays_open_until_a_response_with_its_output_has_completed(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    simulator.script(Scenario(function_calls=((FunctionCall(name="f"),),), text="end"))
    conversation = client.conversations.create().id
    first = say(client, conversation, "One")
    simulator.advance(5)
    [call] = client.responses.retrieve(first.id).output
    output = [{"type": "function_call_output", "call_id": call.call_id, "output": "x"}]  # type: ignore[union-attr]
    client.responses.cancel(say(client, conversation, output).id)
    with pytest.raises(openai.BadRequestError, match="No tool output found for function call"):
        say(client, conversation, "Two")
    again = say(client, conversation, output)
    simulator.advance(5)
    assert client.responses.retrieve(again.id).output_text == "end"
    assert say(client, conversation, "Three").status == "queued"
