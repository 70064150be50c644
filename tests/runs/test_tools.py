# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.tools import checked_tools

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def checked(*tools: Any) -> list[dict[str, Any]]:
    warnings: list[str] = []
    found = checked_tools(list(tools), warnings=warnings)
    assert warnings == []
    return found


def refusal(*tools: Any) -> str:
    with pytest.raises(RunRequestError) as caught:
        checked(*tools)
    return str(caught.value)


def test_tools_of_the_server_go_out_as_they_are() -> None:
    tools = [{"type": "code_interpreter"}, {"type": "mcp", "server_label": "x", "authorization": "k"}]
    assert checked(*tools) == tools


def test_both_forms_of_a_function_are_brought_into_one() -> None:
    function = {"name": "weather", "description": "Tells it", "parameters": SCHEMA, "strict": True}
    nested = {"type": "function", "function": function}
    assert checked(nested, {"type": "function", **function}) == [nested, nested]


def test_parameters_may_be_the_text_of_a_schema() -> None:
    (tool,) = checked({"type": "function", "function": {"name": "f", "parameters": '{"type": "object"}'}})
    assert tool["function"]["parameters"] == {"type": "object"}


def test_a_function_without_parameters_is_left_so() -> None:
    tools = [{"type": "function", "function": {"name": "now", "parameters": None}}]
    assert checked(*tools) == tools


def test_what_the_user_gave_is_not_changed() -> None:
    given = {"type": "function", "function": {"name": "f", "parameters": "{}"}}
    checked(given)
    assert given["function"] == {"name": "f", "parameters": "{}"}


def test_retrieval_is_sent_as_file_search_with_a_warning() -> None:
    warnings: list[str] = []
    found = checked_tools([{"type": "retrieval", "file_search": {}}], warnings=warnings)
    assert found == [{"type": "file_search", "file_search": {}}]
    (warning,) = warnings
    assert "tools[0]" in warning
    assert "'retrieval'" in warning
    assert "'file_search'" in warning


@pytest.mark.parametrize(
    ("tool", "place", "shown", "rule"),
    [
        ("code_interpreter", "tools[1]=", "'code_interpreter'", "must be a dict"),
        ({}, "tools[1]=", "{}", "needs a 'type'"),
        ({"type": 5}, "tools[1]=", "{'type': 5}", "needs a 'type'"),
        ({"type": "function"}, "tools[1]=", "{'type': 'function'}", "needs 'function'"),
        ({"type": "function", "function": {}}, "tools[1]=", "'function': {}", "at least a 'name'"),
        ({"type": "function", "function": "f"}, "tools[1]['function']=", "'f'", "must be a dict"),
        (
            {"type": "function", "function": {"description": "x"}},
            "tools[1]['function']=",
            "{'description': 'x'}",
            "needs a 'name'",
        ),
        ({"type": "function", "function": {"name": ""}}, "tools[1]['function']=", "''", "needs a 'name'"),
        (
            {"type": "function", "function": {"name": "f", "parameters": "[1]"}},
            "tools[1]['function']['parameters']=",
            "'[1]'",
            "must be a JSON object, as a dict or as its text",
        ),
        (
            {"type": "function", "name": "f", "parameters": 7},
            "tools[1]['function']['parameters']=",
            "7",
            "must be a JSON object, as a dict or as its text",
        ),
    ],
)
def test_a_wrong_tool_is_refused_with_its_place_its_value_and_the_rule(
    tool: object, place: str, shown: str, rule: str
) -> None:
    message = refusal({"type": "code_interpreter"}, tool)
    assert message.startswith(place)
    assert shown in message
    assert rule in message


def test_tools_must_be_a_list() -> None:
    with pytest.raises(RunRequestError, match=r"tools=.*must be a list"):
        checked_tools({"type": "code_interpreter"}, warnings=[])
