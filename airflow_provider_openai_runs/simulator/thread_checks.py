# SPDX-License-Identifier: Apache-2.0
"""What the Assistants API refuses in messages, tools and formats."""

from __future__ import annotations

from typing import Any

from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.errors import ApiError, missing
from airflow_provider_openai_runs.simulator.strict_schemas import check_strict

_PARTS = {"text": ("text",), "image_url": ("image_url",), "image_file": ("image_file",)}
_INSIDE = {"image_url": "url", "image_file": "file_id"}

role = v.one_of("user", "assistant")
tool_choice = v.mapping_or_one_of("none", "auto", "required")


def content(name: str, value: Any) -> None:
    """Accept the content of a message: a text that is not empty, or parts."""
    v.of_type(str, list)(name, value)
    if not value:
        raise ApiError("Message content must be non-empty.", param=name)
    if isinstance(value, list):
        v.array(item=_part)(name, value)


def message(name: str, value: Any) -> None:
    """Accept a message: a role and content."""
    v.fields(name, value, ("role", "content"))
    role(f"{name}.role", value["role"])
    content(f"{name}.content", value["content"])
    if value.get("metadata") is not None:
        v.metadata(f"{name}.metadata", value["metadata"])


def tool(name: str, value: Any) -> None:
    """Accept a tool: functions are nested here."""
    v.mapping(name, value)
    v.one_of("code_interpreter", "file_search", "function")(f"{name}.type", value.get("type"))
    if value["type"] != "function":
        return
    function = value.get("function")
    if not isinstance(function, dict) or not function.get("name"):
        raise missing(f"{name}.function.name")


def response_format(name: str, value: Any) -> None:
    """Accept "auto" or a format; that of a JSON Schema has it one level deeper."""
    v.mapping_or_one_of("auto")(name, value)
    if isinstance(value, str):
        return
    v.schema_format(name, value, ("json_schema",))
    if value["type"] == "json_schema":
        asked = value["json_schema"]
        v.fields(f"{name}.json_schema", asked, ("name",))
        if asked.get("strict"):
            check_strict(asked.get("schema"), f"response_format '{asked['name']}'", param=name)


def _part(name: str, value: Any) -> None:
    v.tagged(name, value, _PARTS)
    if (field := _INSIDE.get(value["type"])) is not None:
        v.fields(f"{name}.{value['type']}", value[value["type"]], (field,))
    else:
        v.string(f"{name}.text", value["text"])
