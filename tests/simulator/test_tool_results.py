# SPDX-License-Identifier: Apache-2.0
"""What hosted tools leave in a response: each kind of item, what it cites, and what only `include` shows."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import openai
import pytest

from airflow_provider_openai_runs.simulator import (
    CodeInterpreter,
    FileSearch,
    FoundFile,
    FunctionCall,
    ImageGeneration,
    McpCall,
    McpListTools,
    ProducedFile,
    Reasoning,
    Scenario,
    WebPage,
    WebSearch,
    deep_research,
)

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator import Simulator

EVERYTHING = (
    Reasoning(summary=("Thinking.",)),
    WebSearch(query="blue", pages=(WebPage(url="https://a.example/sky", title="Sky"),)),
    WebSearch(url="https://a.example/sky"),
    WebSearch(url="https://a.example/sky", pattern="why"),
    FileSearch(queries=("sky",), found=(FoundFile(name="sky.txt", text="It scatters."),)),
    CodeInterpreter(
        code="plot()",
        logs="done\n",
        files=(ProducedFile(name="chart.png"), ProducedFile(name="sky.csv", text="a\n1\n")),
    ),
    ImageGeneration(prompt="A sky."),
    McpListTools(server_label="dice", tools=("roll",)),
    McpCall(server_label="dice", name="roll", arguments={"sides": 6}, output="4"),
    McpCall(server_label="dice", name="roll", error="The dice are lost."),
)
INCLUDE: Any = [
    "file_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
]


def finished(client: openai.OpenAI, simulator: Simulator, scenario: Scenario, **more: Any) -> Any:
    simulator.script(scenario)
    made = client.responses.create(model="gpt-4o", input="Why is the sky blue?", background=True, **more)
    simulator.advance(5)
    return client.responses.retrieve(made.id)


def by_type(response: Any) -> dict[str, Any]:
    return {item.type: item for item in reversed(response.output)}


def test_each_kind_of_item_stands_before_the_message_in_the_order_of_the_scenario(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    response = finished(client, simulator, Scenario(output=EVERYTHING))
    assert [item.type for item in response.output] == [
        "reasoning",
        *["web_search_call"] * 3,
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_list_tools",
        *["mcp_call"] * 2,
        "message",
    ]
    assert len({item.id for item in response.output}) == len(response.output)
    assert [item.action.type for item in response.output[1:4]] == ["search", "open_page", "find_in_page"]
    assert [(item.output, item.error is None) for item in response.output[-3:-1]] == [
        ("4", True),
        (None, False),
    ]


def test_what_needs_include_is_left_out_without_it_and_given_with_it(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    bare = finished(client, simulator, Scenario(output=EVERYTHING))
    items = by_type(bare)
    assert items["file_search_call"].results is None
    assert items["code_interpreter_call"].outputs is None
    assert "sources" not in items["web_search_call"].action.to_dict()
    assert "encrypted_content" not in items["reasoning"].to_dict()
    assert [part.text for part in items["reasoning"].summary] == ["Thinking."]

    items = by_type(client.responses.retrieve(bare.id, include=INCLUDE))
    assert [found.text for found in items["file_search_call"].results] == ["It scatters."]
    logs, picture = items["code_interpreter_call"].outputs
    assert logs.logs == "done\n"
    assert picture.url.startswith("data:image/png;base64,")
    assert [source.url for source in items["web_search_call"].action.sources] == ["https://a.example/sky"]
    assert items["reasoning"].encrypted_content


def test_who_creates_a_response_and_waits_is_shown_the_thoughts_and_what_it_includes(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    simulator.script(Scenario(queued=0, in_progress=0, output=EVERYTHING, times=2))
    items = by_type(client.responses.create(model="gpt-4o", input="x"))
    assert items["reasoning"].encrypted_content
    assert items["code_interpreter_call"].outputs is None
    items = by_type(client.responses.create(model="gpt-4o", input="x", include=INCLUDE))
    assert items["code_interpreter_call"].outputs


def test_the_likelihoods_of_tokens_need_include(client: openai.OpenAI, simulator: Simulator) -> None:
    response = finished(client, simulator, Scenario(text="twelve bytes"))
    assert response.output[0].content[0].logprobs == []
    read: Any = client.responses.retrieve(response.id, include=["message.output_text.logprobs"])
    [part] = read.output[0].content
    assert "".join(one.token for one in part.logprobs) == part.text
    assert simulator.requests[-1].query == {"include[]": "message.output_text.logprobs"}
    client.responses.retrieve(response.id, include=INCLUDE)
    assert simulator.requests[-1].query == {"include[]": INCLUDE}


def test_an_include_that_nobody_knows_is_refused(client: openai.OpenAI, simulator: Simulator) -> None:
    response = finished(client, simulator, Scenario())
    unknown: Any = ["everything"]
    with pytest.raises(openai.BadRequestError) as created:
        client.responses.create(model="gpt-4o", input="x", include=unknown)
    with pytest.raises(openai.BadRequestError) as read:
        client.responses.retrieve(response.id, include=unknown)
    for refused in (created.value, read.value):
        assert (refused.code, refused.param) == ("invalid_value", "include[0]")


def test_citations_say_where_in_the_text_they_are(client: openai.OpenAI, simulator: Simulator) -> None:
    response = finished(client, simulator, Scenario(output=EVERYTHING))
    [part] = response.output[-1].content
    url, file, picture, table = part.annotations
    assert part.text[url.start_index : url.end_index] == "([Sky](https://a.example/sky))"
    assert (file.type, file.filename, file.index) == ("file_citation", "sky.txt", len(part.text))
    assert part.text[picture.start_index : picture.end_index] == "sandbox:/mnt/data/chart.png"
    assert part.text[table.start_index : table.end_index] == "sandbox:/mnt/data/sky.csv"
    assert {table.container_id} == {by_type(response)["code_interpreter_call"].container_id}
    assert simulator.runs()[-1]["text"] == response.output_text


def test_citations_are_found_in_the_part_of_a_text_that_has_them(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    page = WebPage(url="https://a.example", title="A")
    texts = ("First ([A](https://a.example)).", " Second.")
    scenario = Scenario(text=texts, output=(WebSearch(pages=(page,)),))
    response = finished(client, simulator, scenario)
    first, second = response.output[-1].content
    assert response.output_text == "".join(texts)
    assert [(a.start_index, a.end_index) for a in first.annotations] == [(6, 30)]
    assert second.annotations == []


def test_what_is_not_cited_is_only_in_the_item(client: openai.OpenAI, simulator: Simulator) -> None:
    output = (
        WebSearch(pages=(WebPage(url="https://a.example", cited=False),)),
        FileSearch(found=(FoundFile(name="a.txt", cited=False),)),
        CodeInterpreter(logs=None, files=(ProducedFile(name="a.csv", cited=False),)),
    )
    response = finished(client, simulator, Scenario(text="end", output=output))
    assert (response.output_text, response.output[-1].content[0].annotations) == ("end", [])


def test_a_cut_answer_cites_only_what_is_still_in_its_text(
    client: openai.OpenAI, simulator: Simulator
) -> None:
    output = (WebSearch(pages=(WebPage(url="https://a.example"),)),)
    response = finished(client, simulator, Scenario(text="word " * 100, output=output, ends="incomplete"))
    assert response.output[-1].content[0].annotations == []


@pytest.mark.parametrize("size", [None, 100_000])
def test_a_picture_is_one_and_as_large_as_asked(
    client: openai.OpenAI, simulator: Simulator, size: int | None
) -> None:
    response = finished(client, simulator, Scenario(output=(ImageGeneration(size=size),)))
    picture = base64.b64decode(response.output[0].result)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) == (size or 67)


def test_a_picture_may_fail(client: openai.OpenAI, simulator: Simulator) -> None:
    response = finished(client, simulator, Scenario(output=(ImageGeneration(failed=True),)))
    assert (response.output[0].status, response.output[0].result) == ("failed", None)


def test_a_preamble_is_commentary_before_calls_and_before_the_answer(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    calls = ((FunctionCall(name="f"),),)
    first = finished(client, simulator, Scenario(preamble="One moment.", function_calls=calls, text="end"))
    assert [(item.type, getattr(item, "phase", None)) for item in first.output] == [
        ("message", "commentary"),
        ("function_call", None),
    ]
    done: Any = [{"type": "function_call_output", "call_id": first.output[1].call_id, "output": "x"}]
    made = client.responses.create(model="gpt-4o", input=done, background=True, previous_response_id=first.id)
    simulator.advance(5)
    second: Any = client.responses.retrieve(made.id)
    assert [item.phase for item in second.output] == ["commentary", "final_answer"]
    assert second.output[1].content[0].text == "end"


def test_a_refusal_takes_the_place_of_the_text(client: openai.OpenAI, simulator: Simulator) -> None:
    response = finished(client, simulator, Scenario(refusal="I cannot help with that."))
    assert (response.status, response.output_text) == ("completed", "")
    [part] = response.output[0].content
    assert (part.type, part.refusal) == ("refusal", "I cannot help with that.")
    assert response.usage.output_tokens == 6


def test_a_message_may_come_twice(client: openai.OpenAI, simulator: Simulator) -> None:
    response = finished(client, simulator, Scenario(text="same", message_copies=2))
    assert [item.content[0].text for item in response.output] == ["same", "same"]
    assert response.output[0].id != response.output[1].id


def test_usage_has_cached_written_and_reasoning_tokens_among_the_others(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    scenario = Scenario(text="abcd", cached_tokens=1000, cache_write_tokens=50, reasoning_tokens=300)
    usage = finished(client, simulator, scenario).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (1050, 301, 1351)
    assert usage.input_tokens_details.to_dict() == {"cached_tokens": 1000, "cache_write_tokens": 50}
    assert usage.output_tokens_details.reasoning_tokens == 300
    silent = finished(client, simulator, Scenario()).usage.input_tokens_details
    assert silent.to_dict() == {"cached_tokens": 0}


@pytest.mark.parametrize(
    ("asked", "used", "shown"),
    [(None, None, "default"), ("flex", None, "flex"), ("priority", "default", "default")],
)
def test_the_tier_is_the_one_that_was_used(
    client: openai.OpenAI,
    simulator: Simulator,
    asked: Any,
    used: str | None,
    shown: str,
) -> None:
    more = {} if asked is None else {"service_tier": asked}
    assert finished(client, simulator, Scenario(service_tier=used), **more).service_tier == shown


def test_a_conversation_keeps_the_items_and_shows_them_by_the_same_rule(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    conversation = client.conversations.create().id
    finished(client, simulator, Scenario(output=EVERYTHING), conversation=conversation)
    bare = {item.type: item for item in client.conversations.items.list(conversation)}
    assert bare["code_interpreter_call"].outputs is None  # type: ignore[union-attr]
    full = client.conversations.items.retrieve(
        str(bare["code_interpreter_call"].id), conversation_id=conversation, include=INCLUDE
    )
    assert full.outputs  # type: ignore[union-attr]


def test_deep_research_leaves_many_items_and_a_long_report_with_sources(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    response = finished(client, simulator, deep_research(searches=30, characters=50_000))
    assert len(response.output) == 91
    text, cited = response.output_text, response.output[-1].content[0].annotations
    assert len(text) >= 50_000
    assert len({one.url for one in cited}) == 90
    assert all(one.url in text[one.start_index : one.end_index] for one in cited)
    assert response.usage.output_tokens_details.reasoning_tokens == 30_000
