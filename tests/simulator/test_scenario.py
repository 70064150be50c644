# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_openai_runs.simulator import (
    CodeInterpreter,
    Fault,
    FileSearch,
    FoundFile,
    FunctionCall,
    ProducedFile,
    Reasoning,
    Scenario,
    WebPage,
    WebSearch,
)
from airflow_provider_openai_runs.simulator.scenario import default_scenario
from airflow_provider_openai_runs.simulator.schemas import instance_of

if TYPE_CHECKING:
    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator


def test_a_scenario_is_read_from_json_with_everything_in_it() -> None:
    read = Scenario.from_json(
        {
            "in_progress": 2,
            "ends": "failed",
            "function_calls": [[{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]],
            "mcp_approval": {"name": "roll"},
            "statuses": [["paused", 3]],
            "usage": [10, 5],
            "error": {"code": "invalid_prompt", "message": "No."},
            "times": None,
            "text": ["one", "two"],
            "output": [
                {"type": "web_search", "pages": [{"url": "https://a.example"}]},
                {"type": "code_interpreter", "files": [{"name": "a.csv", "size": 10}]},
                {"type": "file_search", "found": [{"name": "a.txt"}]},
                {"type": "reasoning"},
            ],
        },
    )
    assert read == Scenario(
        in_progress=2,
        ends="failed",
        function_calls=((FunctionCall(name="f", arguments={"a": 1}), FunctionCall(name="g")),),
        mcp_approval=FunctionCall(name="roll"),
        statuses=(("paused", 3),),
        usage=(10, 5),
        error={"code": "invalid_prompt", "message": "No."},
        times=None,
        text=("one", "two"),
        output=(
            WebSearch(pages=(WebPage(url="https://a.example"),)),
            CodeInterpreter(files=(ProducedFile(name="a.csv", size=10),)),
            FileSearch(found=(FoundFile(name="a.txt"),)),
            Reasoning(),
        ),
    )


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"in_progres": 2}, r"Scenario: unknown keys \['in_progres'\]; known are"),
        ({"ends": "done"}, "Scenario.ends: 'done' is not one of"),
        ({"cancel_ends": "queued"}, "Scenario.cancel_ends: 'queued' is not one of"),
        ({"queued": -1}, "Scenario.queued: -1 is negative"),
        ({"queued": "soon"}, "Scenario: "),
        ({"times": 0}, "Scenario.times: 0 runs"),
        ({"statuses": [["requires_action", 1]]}, "Scenario.statuses: .* give function_calls"),
        ({"when": "("}, "Scenario: "),
        ({"text": []}, "Scenario.text: a message needs at least one part"),
        ({"message_copies": 0}, "Scenario.message_copies: 0 is less than one message"),
        ({"cached_tokens": -1}, "Scenario.cached_tokens: -1 is negative"),
        ({"output": [{"type": "magic"}]}, "Scenario.output: 'magic' is not one of"),
        ({"output": [{"type": "web_search", "page": []}]}, r"WebSearch: unknown keys \['page'\]"),
        ({"output": [{"type": "web_search", "pages": [{}]}]}, r"WebPage: missing keys \['url'\]"),
        ({"function_calls": [[]]}, "a round needs at least one call"),
        ({"function_calls": [[{"nam": "f"}]]}, r"FunctionCall: unknown keys \['nam'\]"),
        ({"function_calls": [[{}]]}, r"FunctionCall: missing keys \['name'\]"),
        ([], "Scenario: expected a JSON object, got list"),
    ],
)
def test_a_wrong_scenario_is_refused_with_the_key_that_is_wrong(data: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Scenario.from_json(data)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"kind": "explode"}, "Fault.kind: 'explode' is not one of"),
        ({"probability": 2}, "Fault.probability: 2 is not between 0 and 1"),
        ({"path": "("}, "Fault: "),
        ({"route": "/"}, r"Fault: unknown keys \['route'\]"),
    ],
)
def test_a_wrong_fault_is_refused_with_the_key_that_is_wrong(data: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Fault.from_json(data)


def test_the_default_calls_the_first_function_with_arguments_that_fit_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["C", "F"]},
            "days": {"type": "integer"},
            "limit": {"type": ["null", "number"]},
            "tags": {"type": "array", "items": {"type": "boolean"}},
            "nothing": {"type": "null"},
            "anything": True,
        },
    }
    scenario = default_scenario([{"name": "weather", "parameters": schema}, {"name": "second"}])
    assert [[call.name for call in calls] for calls in scenario.function_calls] == [["weather"]]
    assert instance_of(schema) == {
        "city": "simulated",
        "unit": "C",
        "days": 1,
        "limit": 1.0,
        "tags": [True],
        "nothing": None,
        "anything": "simulated",
    }


def test_the_default_without_functions_just_answers() -> None:
    assert default_scenario([]) == Scenario()


def test_scripts_serve_in_order_and_only_the_runs_they_are_about(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
) -> None:
    simulator.script(
        Scenario(text="sun", when="(?i)weather", times=2),
        Scenario(text="first"),
        Scenario(text="always", times=None),
    )
    texts = []
    for question in ("Weather?", "Sums?", "weather!", "weather again", "Sums again"):
        body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": question}]}}
        http.post("/threads/runs", json=body)
        texts.append(simulator.runs()[-1]["text"])
    assert texts == ["sun", "first", "sun", "always", "always"]
