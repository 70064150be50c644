# SPDX-License-Identifier: Apache-2.0
"""What hosted tools leave behind, from the simulator to XCom."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.operators import GetResponseOperator, GetThreadRunOperator
from airflow_provider_openai_runs.operators.end_from_trigger import end_of
from airflow_provider_openai_runs.sensors import ResponseSensor, ThreadRunSensor
from airflow_provider_openai_runs.simulator import (
    CodeInterpreter,
    FileSearch,
    FoundFile,
    ImageGeneration,
    McpCall,
    ProducedFile,
    Scenario,
    WebPage,
    WebSearch,
)
from tests.support.scene import Make, Scene

REPORT = ProducedFile(name="report.csv", text="a,b\n")
CHART = ProducedFile(name="chart.png")
SEARCH = FileSearch(found=[FoundFile(name="facts.txt", text="A passage.")])
CODE = CodeInterpreter(code="plot()", logs="done\n", files=[REPORT, CHART])
WEB = WebSearch(query="sky", pages=[WebPage(url="https://a.example/1", title="One")])
OUTPUTS, RESULTS = "code_interpreter_call.outputs", "file_search_call.results"
CONTENT = "step_details.tool_calls[*].file_search.results[*].content"


def produces(scene: Scene, *output: Any, **more: Any) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.05, output=output, times=None, **more))


def names_of(result: dict[str, Any]) -> list[str | None]:
    return [file["name"] for file in result["files"]]


def test_a_response_brings_its_sources_its_files_and_its_tokens(scene: Scene, respond: Make) -> None:
    produces(
        scene,
        *(WEB, SEARCH, CODE, ImageGeneration(size=300), McpCall(output="found")),
        text=("First \U0001f600. ", "Then."),
        cached_tokens=7,
        cache_write_tokens=3,
        reasoning_tokens=5,
        service_tier="flex",
    )
    result = scene.run(respond())

    assert result["usage"]["cached_tokens"] == 7
    assert result["usage"]["cache_write_tokens"] == 3
    assert result["usage"]["reasoning_tokens"] == 5
    assert result["service_tier"] == "flex"
    types = {citation["type"]: citation for citation in result["citations"]}
    assert set(types) == {"url_citation", "file_citation", "container_file_citation"}
    for citation in result["citations"]:
        place = result["output_text"][citation["start"] : citation["end"]]
        assert place == (citation["text"] or "")
    assert types["url_citation"]["text"] == "([One](https://a.example/1))"
    assert types["container_file_citation"]["filename"] in {"report.csv", "chart.png"}
    assert names_of(result)[-2:] == ["report.csv", "chart.png"]
    picture = result["files"][0]
    assert (picture["media_type"], picture["size"], picture["file_id"]) == ("image/png", 300, None)
    assert [file["file_id"] for file in result["files"][1:]] == result["file_ids"]
    assert all(file["container_id"].startswith("cntr_") for file in result["files"][1:])
    assert all(file["uri"] is None for file in result["files"])


def test_a_thread_run_brings_the_same(scene: Scene, run_on: Make) -> None:
    produces(scene, SEARCH, CODE, text="The answer.", cached_tokens=7, reasoning_tokens=5)
    result = scene.run(run_on())

    assert result["usage"]["cached_tokens"] == 7
    assert result["usage"]["cache_write_tokens"] is None
    assert result["usage"]["reasoning_tokens"] == 5
    assert [citation["type"] for citation in result["citations"]] == ["file_citation", "file_path"]
    for citation in result["citations"]:
        assert result["output_text"][citation["start"] : citation["end"]] == citation["text"]
    assert sorted(names_of(result), key=str) == [None, "report.csv"]
    assert {file["file_id"] for file in result["files"]} == set(result["file_ids"])


def test_a_refusal_is_text_in_the_result_of_either_kind(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.05, refusal="I will not."))
    result = scene.run(create())
    assert (result["refusal"], result["output_text"], result["citations"]) == ("I will not.", None, [])


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_a_create_includes_is_asked_for_again_at_the_end(
    scene: Scene, respond: Make, deferrable: bool
) -> None:
    produces(scene, SEARCH, CODE)
    result = scene.run(respond(include=[RESULTS, OUTPUTS], deferrable=deferrable))
    steps = {step["type"]: step["details"] for step in result["steps"]}
    assert steps["file_search_call"]["results"][0]["text"] == "A passage."
    assert steps["code_interpreter_call"]["outputs"][0] == {"type": "logs", "logs": "done\n"}
    # The picture that code has shown is in the reply, beside the file in the container.
    assert [file["media_type"] for file in result["files"]] == ["image/png", "text/csv", "image/png"]


def test_what_nobody_asks_for_is_not_there(scene: Scene, respond: Make) -> None:
    produces(scene, SEARCH)
    result = scene.run(respond())
    assert result["steps"][0]["details"]["results"] is None


def test_what_a_create_of_a_thread_run_includes_is_in_its_steps(scene: Scene, run_on: Make) -> None:
    produces(scene, SEARCH)
    result = scene.run(run_on(include=[CONTENT]))
    assert "A passage." in json.dumps(result["steps"])
    without = scene.run(run_on(), scene.context_of(task_id="b"))
    assert "A passage." not in json.dumps(without["steps"])


def test_readers_and_sensors_include_what_they_are_asked_to(
    scene: Scene, respond: Make, run_on: Make
) -> None:
    produces(scene, SEARCH)
    response = scene.run(respond(), scene.context_of())["ref"]
    run = scene.run(run_on(), scene.context_of())["ref"]
    for reader in (
        GetResponseOperator(task_id="a", ref=response, include_steps=True, include=[RESULTS]),
        GetThreadRunOperator(task_id="b", ref=run, include_steps=True, include=[CONTENT]),
        ResponseSensor(task_id="c", ref=response, include_steps=True, include=[RESULTS]),
        ThreadRunSensor(task_id="d", ref=run, include_steps=True, include=[CONTENT]),
    ):
        found = scene.run(reader)
        assert "A passage." in json.dumps(getattr(found, "xcom_value", found)["steps"])
        assert "include" in reader.template_fields


def test_a_reader_checks_what_it_is_to_include(scene: Scene, respond: Make) -> None:
    ref = scene.run(respond(completion_window=None))["ref"]
    with pytest.raises(AirflowFailException, match=r"include\[0\]"):
        scene.run(GetResponseOperator(task_id="read", ref=ref, include=[5]))


def test_a_worker_finishes_a_task_that_includes_more(scene: Scene, respond: Make) -> None:
    operator = respond(end_from_trigger=True, deferrable=True)
    log = scene.log_of(operator)
    assert end_of(operator, answers_calls=False, checks_output=False, includes=True) is None
    assert "include" in log[0]


def test_a_large_picture_costs_no_other_detail(scene: Scene, respond: Make) -> None:
    produces(scene, ImageGeneration(size=1_200_000), SEARCH, CODE, text="The answer.")
    operator = respond(include=[RESULTS, OUTPUTS])
    log = scene.log_of(operator)
    result = scene.run(operator)
    picture, search, code, answer = result["steps"]
    assert picture["details"]["result"] == "(image/png, 1200000 bytes, not in XCom)"
    assert search["details"]["results"][0]["text"] == "A passage."
    assert code["details"]["code"] == "plot()"
    assert answer["details"]["content"][0]["text"] == result["output_text"]
    assert result["steps_truncated"] is True
    assert result["files"][0]["size"] == 1_200_000
    assert any("image/png, 1200000 bytes" in line and "steps_truncated" in line for line in log)
    assert len(json.dumps(result)) <= 1_000_000
