# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]


def test_a_run_takes_over_what_its_assistant_says_and_may_overrule_it(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    made = client.beta.assistants.create(
        model="gpt-4o",
        name="Helper",
        instructions="Be kind.",
        temperature=0.5,
        tools=[{"type": "code_interpreter"}],
    )
    run = client.beta.threads.create_and_run(assistant_id=made.id)
    assert (run.model, run.instructions, run.temperature) == ("gpt-4o", "Be kind.", 0.5)
    assert [tool.type for tool in run.tools] == ["code_interpreter"]
    thread = client.beta.threads.create().id
    run = client.beta.threads.runs.create(
        thread,
        assistant_id=made.id,
        model="gpt-5",
        instructions="Be brief.",
        additional_instructions="Be clear.",
        additional_messages=[{"role": "user", "content": "More?"}],
        top_p=0.1,
    )
    assert (run.model, run.instructions, run.top_p) == ("gpt-5", "Be brief.\nBe clear.", 0.1)
    assert len(client.beta.threads.messages.list(thread).data) == 1


def test_runs_are_listed_and_their_metadata_can_be_changed(
    client: openai.OpenAI,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    first = client.beta.threads.runs.create(thread, assistant_id=assistant)
    simulator.advance(5)
    second = client.beta.threads.runs.create(thread, assistant_id=assistant)
    assert [run.id for run in client.beta.threads.runs.list(thread)] == [second.id, first.id]
    changed = client.beta.threads.runs.update(first.id, thread_id=thread, metadata={"seen": "yes"})
    assert changed.metadata == {"seen": "yes"}


def test_assistants_threads_and_messages_live_and_are_deleted(
    client: openai.OpenAI,
    assistant: str,
) -> None:
    assert client.beta.assistants.update(assistant, name="New").name == "New"
    assert client.beta.assistants.retrieve(assistant).name == "New"
    assert [found.id for found in client.beta.assistants.list()] == [assistant]
    thread = client.beta.threads.create(metadata={"a": "1"})
    assert client.beta.threads.update(thread.id, metadata={"a": "2"}).metadata == {"a": "2"}
    assert client.beta.threads.retrieve(thread.id).metadata == {"a": "2"}
    sent = client.beta.threads.messages.create(
        thread.id,
        role="user",
        content=[
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        ],
    )
    updated = client.beta.threads.messages.update(sent.id, thread_id=thread.id, metadata={"b": "3"})
    assert updated.metadata == {"b": "3"}
    assert client.beta.threads.messages.retrieve(sent.id, thread_id=thread.id).content == sent.content
    assert client.beta.threads.messages.delete(sent.id, thread_id=thread.id).deleted
    assert client.beta.threads.messages.list(thread.id).data == []
    assert client.beta.threads.delete(thread.id).deleted
    assert client.beta.assistants.delete(assistant).deleted
    with pytest.raises(openai.NotFoundError, match="No thread found with id"):
        client.beta.threads.retrieve(thread.id)
    with pytest.raises(openai.NotFoundError, match="No assistant found with id"):
        client.beta.threads.create_and_run(assistant_id=assistant)
