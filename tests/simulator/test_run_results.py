# SPDX-License-Identifier: Apache-2.0
"""What hosted tools leave in a thread run: steps, the parts of its message, files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from airflow_provider_openai_runs.simulator import (
    CodeInterpreter,
    FileSearch,
    FoundFile,
    ProducedFile,
    Scenario,
    WebSearch,
)

if TYPE_CHECKING:
    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

OUTPUT = (
    FileSearch(found=(FoundFile(name="sky.txt", text="It scatters.", file_id="file-1"),)),
    WebSearch(),
    CodeInterpreter(
        code="plot()",
        logs="done\n",
        files=(ProducedFile(name="chart.png"), ProducedFile(name="sky.csv", text="a\n1\n")),
    ),
)
CONTENT: Any = ["step_details.tool_calls[*].file_search.results[*].content"]


@pytest.fixture
def run(client: openai.OpenAI, simulator: Simulator, assistant: str, thread: str) -> Any:
    simulator.script(Scenario(output=OUTPUT, cached_tokens=500, reasoning_tokens=40))
    made = client.beta.threads.runs.create(thread, assistant_id=assistant)
    simulator.advance(5)
    return client.beta.threads.runs.retrieve(made.id, thread_id=thread)


def test_the_message_has_pictures_and_a_text_that_cites_and_names_files(
    client: openai.OpenAI,
    run: Any,
) -> None:
    [message] = client.beta.threads.messages.list(run.thread_id, run_id=run.id).data
    picture, text = message.content
    assert picture.type == "image_file"
    assert text.type == "text"
    quote, path = text.text.annotations
    value = text.text.value
    assert value[quote.start_index : quote.end_index] == quote.text == "\u30104:0\u2020sky.txt\u3011"
    assert quote.file_citation.file_id == "file-1"  # type: ignore[union-attr]
    assert value[path.start_index : path.end_index] == path.text == "sandbox:/mnt/data/sky.csv"
    file_id = path.file_path.file_id  # type: ignore[union-attr]
    assert [(a.file_id, a.tools[0].type) for a in message.attachments or ()] == [  # type: ignore[index]
        (file_id, "code_interpreter")
    ]
    assert client.files.content(file_id).read() == b"a\n1\n"
    assert client.files.content(picture.image_file.file_id).read().startswith(b"\x89PNG")


def test_its_steps_show_what_the_tools_did(client: openai.OpenAI, run: Any) -> None:
    listed = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    steps: list[Any] = list(listed.data)
    assert [step.type for step in steps] == ["tool_calls", "tool_calls", "message_creation"]
    [search] = steps[0].step_details.tool_calls
    [found] = search.file_search.results
    assert (found.file_name, found.content) == ("sky.txt", None)
    [code] = steps[1].step_details.tool_calls
    logs, picture = code.code_interpreter.outputs
    assert (logs.logs, picture.type) == ("done\n", "image")
    assert steps[2].usage.to_dict()["prompt_token_details"] == {"cached_tokens": 500}
    assert run.usage.to_dict()["completion_tokens_details"] == {"reasoning_tokens": 40}


def test_the_passages_of_a_search_need_include(client: openai.OpenAI, run: Any) -> None:
    steps: Any = client.beta.threads.runs.steps
    step = steps.list(run.id, thread_id=run.thread_id, order="asc", include=CONTENT).data[0]
    one = steps.retrieve(step.id, thread_id=run.thread_id, run_id=run.id, include=CONTENT)
    for shown in (step, one):
        [found] = shown.step_details.tool_calls[0].file_search.results
        assert found.content[0].text == "It scatters."


def test_its_files_are_there_only_when_it_has_ended_with_an_answer(
    client: openai.OpenAI,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(Scenario(output=OUTPUT), Scenario(output=OUTPUT, ends="failed"))
    client.beta.threads.runs.create(thread, assistant_id=assistant)
    assert client.files.list().data == []
    simulator.advance(5)
    files = client.files.list(purpose="assistants_output").data
    assert {file.filename for file in files} == {"chart.png", "sky.csv"}
    client.beta.threads.runs.create(thread, assistant_id=assistant)
    simulator.advance(5)
    assert len(client.files.list().data) == 2
    client.files.delete(files[0].id)
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {files[0].id}"):
        client.files.content(files[0].id)


def test_a_refusal_and_several_texts_are_parts_of_the_message(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(Scenario(refusal="No."), Scenario(text=("one", "two")))
    expected: list[list[Any]] = [
        [{"type": "refusal", "refusal": "No."}],
        [{"type": "text", "text": {"value": text, "annotations": []}} for text in ("one", "two")],
    ]
    for content in expected:
        http.post(f"/threads/{thread}/runs", json={"assistant_id": assistant})
        simulator.advance(5)
        assert http.get(f"/threads/{thread}/messages").json()["data"][0]["content"] == content
