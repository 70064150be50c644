# SPDX-License-Identifier: Apache-2.0
"""Roles, types, parts and formats: what the API refuses, refused in its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from openai.types.responses import ResponseInputItem, Tool

from airflow_provider_openai_runs.simulator.response_checks import ITEMS, TOOLS

if TYPE_CHECKING:
    import httpx2

RESPONSE = {"model": "gpt-4o", "input": "x", "background": True}
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
OPTIONAL = {**OPEN, "required": [], "additionalProperties": False}
CLOSED = {**OPEN, "additionalProperties": False}
NESTED = {
    "type": "object",
    "properties": {"b": {"type": "array", "items": {"anyOf": [{"type": "null"}, OPEN]}}},
    "required": ["b"],
    "additionalProperties": False,
}


def refusal(answer: httpx2.Response) -> tuple[str, str | None, str | None]:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error["message"], error["param"], error["code"]


def message(role: str, *parts: Any) -> dict[str, Any]:
    return {"role": role, "content": list(parts)}


def named_types(union: Any) -> set[str]:
    found: set[str] = set()
    for member in get_args(get_args(union)[0]):
        annotation = member.model_fields["type"].annotation
        literals = [annotation, *get_args(annotation)]
        found.update(name for literal in literals for name in get_args(literal) if isinstance(name, str))
        found.update(name for name in literals if isinstance(name, str))
    return found


def test_every_type_of_item_and_tool_of_the_sdk_is_known() -> None:
    assert set(ITEMS) >= named_types(ResponseInputItem)
    assert set(TOOLS) >= named_types(Tool)


@pytest.mark.parametrize(
    ("item", "complaint", "param", "code"),
    [
        (
            {"role": "bot", "content": "x"},
            "Invalid value: 'bot'. Supported values are: 'assistant', 'system', 'developer', and 'user'.",
            "input[0].role",
            "invalid_value",
        ),
        (
            message("user", {"type": "text", "text": "x"}),
            (
                "Invalid value: 'text'. Supported values are: 'input_text', 'input_image', 'input_audio', "
                "'output_text', 'refusal', 'input_file', 'computer_screenshot', 'summary_text', and "
                "'encrypted_content'."
            ),
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            message("assistant", {"type": "input_text", "text": "x"}),
            "Invalid value: 'input_text'. Supported values are: 'output_text' and 'refusal'.",
            "input[0].content[0]",
            "invalid_value",
        ),
        (
            message("user", {"type": "output_text", "text": "x"}),
            (
                "Invalid value: 'output_text'. Supported values are: 'input_text', 'input_image', "
                "and 'input_file'."
            ),
            "input[0].content[0]",
            "invalid_value",
        ),
        (
            message("user", {"type": "input_text"}),
            "Missing required parameter: 'input[0].content[0].text'.",
            "input[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            message("user", {"type": "input_text", "text": 5}),
            "Invalid type for 'input[0].content[0].text': expected a string, but got an integer instead.",
            "input[0].content[0].text",
            "invalid_type",
        ),
        (
            message("user", "x"),
            "Invalid type for 'input[0].content[0]': expected an object, but got a string instead.",
            "input[0].content[0]",
            "invalid_type",
        ),
        (
            {"role": "user", "content": 1},
            "Invalid type for 'input[0].content': expected a string or an array, but got an integer instead.",
            "input[0].content",
            "invalid_type",
        ),
        (
            {"role": "user"},
            "Missing required parameter: 'input[0].content'.",
            "input[0].content",
            "missing_required_parameter",
        ),
        (
            {"type": "function_call_output", "call_id": "call_x"},
            "Missing required parameter: 'input[0].output'.",
            "input[0].output",
            "missing_required_parameter",
        ),
    ],
)
def test_a_wrong_item_is_refused(
    http: httpx2.Client,
    item: Any,
    complaint: str,
    param: str,
    code: str,
) -> None:
    answer = http.post("/responses", json={**RESPONSE, "input": [item]})
    assert refusal(answer) == (complaint, param, code)
    answer = http.post("/conversations", json={"items": [item]})
    assert refusal(answer)[2] == code


def test_an_unknown_type_of_item_is_refused(http: httpx2.Client) -> None:
    answer = http.post("/responses", json={**RESPONSE, "input": [{"type": "wish"}]})
    complaint, param, code = refusal(answer)
    assert complaint.startswith("Invalid value: 'wish'. Supported values are: 'additional_tools', ")
    assert (param, code) == ("input[0].type", "invalid_value")


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": ""}, "model", "missing_required_parameter"),
        ({"input": ""}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "missing_required_parameter"),
        ({"tools": [{"type": "magic"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].container", "missing_required_parameter"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].vector_store_ids", "missing_required_parameter"),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"tool_choice": "maybe"}, "tool_choice", "invalid_value"),
        ({"tool_choice": 1}, "tool_choice", "invalid_type"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.name", "missing_required_parameter"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
            "missing_required_parameter",
        ),
        ({"text": {"verbosity": "chatty"}}, "text.verbosity", "invalid_value"),
        ({"reasoning": {"effort": "enormous"}}, "reasoning.effort", "invalid_value"),
        ({"service_tier": "free"}, "service_tier", "invalid_value"),
        ({"include": "all"}, "include", "invalid_type"),
    ],
)
def test_a_wrong_argument_of_a_response_is_refused(
    http: httpx2.Client,
    change: Any,
    param: str,
    code: str,
) -> None:
    assert refusal(http.post("/responses", json={**RESPONSE, **change}))[1:] == (param, code)


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        (OPEN, "In context=(), 'additionalProperties' is required to be supplied and to be false."),
        (
            OPTIONAL,
            (
                "In context=(), 'required' is required to be supplied and to be an array including every key "
                "in properties. Missing 'a'."
            ),
        ),
        (
            NESTED,
            (
                "In context=('properties', 'b', 'items', 'anyOf', '1'), 'additionalProperties' is required "
                "to be supplied and to be false."
            ),
        ),
    ],
)
def test_a_strict_schema_has_no_open_objects_and_no_optional_properties(
    http: httpx2.Client,
    assistant: str,
    thread: str,
    schema: Any,
    complaint: str,
) -> None:
    asked = {"name": "n", "schema": schema, "strict": True}
    answer = http.post("/responses", json={**RESPONSE, "text": {"format": {"type": "json_schema", **asked}}})
    assert refusal(answer) == (
        f"Invalid schema for response_format 'n': {complaint}",
        "text.format.schema",
        "invalid_json_schema",
    )
    url, body = f"/threads/{thread}/runs", {"assistant_id": assistant}
    chosen = {"type": "json_schema", "json_schema": asked}
    answer = http.post(url, json={**body, "response_format": chosen})
    assert refusal(answer)[0] == f"Invalid schema for response_format 'n': {complaint}"


@pytest.mark.parametrize("strict", [None, False])
def test_a_schema_that_is_not_strict_may_be_anything(http: httpx2.Client, strict: bool | None) -> None:
    asked = {"type": "json_schema", "name": "n", "schema": OPEN, "strict": strict}
    assert http.post("/responses", json={**RESPONSE, "text": {"format": asked}}).status_code == 200


def test_a_strict_schema_that_keeps_the_rules_is_accepted(http: httpx2.Client) -> None:
    asked = {"type": "json_schema", "name": "n", "schema": CLOSED, "strict": True}
    assert http.post("/responses", json={**RESPONSE, "text": {"format": asked}}).status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"role": "user", "content": ""}, "content", None),
        ({"role": "user", "content": []}, "content", None),
        ({"role": "user", "content": [{"type": "input_text"}]}, "content[0].type", "invalid_value"),
        ({"role": "user", "content": [{"type": "text"}]}, "content[0].text", "missing_required_parameter"),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, "content[0].text", "invalid_type"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
            "content[0].image_url.url",
            "missing_required_parameter",
        ),
        ({"role": "system", "content": "x"}, "role", "invalid_value"),
    ],
)
def test_a_wrong_message_is_refused(
    http: httpx2.Client,
    thread: str,
    body: Any,
    param: str,
    code: str | None,
) -> None:
    assert refusal(http.post(f"/threads/{thread}/messages", json=body))[1:] == (param, code)
    inside = refusal(http.post("/threads", json={"messages": [body]}))
    assert inside[1:] == (f"messages[0].{param}", code) or code is None


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"response_format": "xml"}, "response_format", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "missing_required_parameter",
        ),
        ({"tool_choice": "maybe"}, "tool_choice", "invalid_value"),
    ],
)
def test_a_wrong_argument_of_a_run_is_refused(
    http: httpx2.Client,
    assistant: str,
    thread: str,
    change: Any,
    param: str,
    code: str,
) -> None:
    answer = http.post(f"/threads/{thread}/runs", json={"assistant_id": assistant, **change})
    assert refusal(answer)[1:] == (param, code)
