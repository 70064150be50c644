# SPDX-License-Identifier: Apache-2.0
"""What the Responses API refuses in input items, tools and formats."""

from __future__ import annotations

from typing import Any

from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.errors import ApiError
from airflow_provider_openai_runs.simulator.strict_schemas import check_strict

_ROLES = ("assistant", "system", "developer", "user")
_PARTS: dict[str, tuple[str, ...]] = {
    "input_text": ("text",),
    "input_image": (),
    "input_audio": ("input_audio",),
    "output_text": ("text",),
    "refusal": ("refusal",),
    "input_file": (),
    "computer_screenshot": (),
    "summary_text": ("text",),
    "encrypted_content": (),
}
_FROM_THE_MODEL = ("output_text", "refusal")
#: The types of items that can be sent, and the fields that each must have.
ITEMS: dict[str, tuple[str, ...]] = {
    "additional_tools": ("role", "tools"),
    "apply_patch_call": ("call_id", "operation", "status"),
    "apply_patch_call_output": ("call_id", "status"),
    "code_interpreter_call": ("id", "container_id"),
    "compaction": ("encrypted_content",),
    "compaction_trigger": (),
    "computer_call": ("id", "call_id"),
    "computer_call_output": ("call_id", "output"),
    "configuration_update": (),
    "custom_tool_call": ("call_id", "input", "name"),
    "custom_tool_call_output": ("call_id", "output"),
    "file_search_call": ("id", "queries"),
    "function_call": ("arguments", "call_id", "name"),
    "function_call_output": ("call_id", "output"),
    "image_generation_call": ("id",),
    "item_reference": ("id",),
    "local_shell_call": ("id", "action", "call_id"),
    "local_shell_call_output": ("id", "output"),
    "mcp_approval_request": ("id", "arguments", "name", "server_label"),
    "mcp_approval_response": ("approval_request_id", "approve"),
    "mcp_call": ("id", "arguments", "name", "server_label"),
    "mcp_list_tools": ("id", "server_label", "tools"),
    "message": ("role", "content"),
    "program": ("id", "call_id", "code"),
    "program_output": ("id", "call_id", "result"),
    "reasoning": ("id", "summary"),
    "shell_call": ("action", "call_id"),
    "shell_call_output": ("call_id", "output"),
    "tool_search_call": ("arguments",),
    "tool_search_output": ("tools",),
    "web_search_call": ("id", "action"),
}
#: The types of tools that can be offered, and the fields that each must have.
TOOLS: dict[str, tuple[str, ...]] = {
    "apply_patch": (),
    "code_interpreter": ("container",),
    "computer": (),
    "computer_use_preview": ("display_height", "display_width", "environment"),
    "custom": ("name",),
    "file_search": ("vector_store_ids",),
    "function": ("name",),
    "image_generation": (),
    "local_shell": (),
    "mcp": ("server_label",),
    "namespace": ("name", "tools"),
    "programmatic_tool_calling": (),
    "shell": (),
    "tool_search": (),
    "web_search": (),
    "web_search_2025_08_26": (),
    "web_search_preview": (),
    "web_search_preview_2025_03_11": (),
}

tool_choice = v.mapping_or_one_of("none", "auto", "required")


def item(name: str, value: Any) -> None:
    """Accept an item of the input; without a type it is a message."""
    if not isinstance(value, dict):
        raise ApiError(f"Invalid type for '{name}': expected an object.", param=name, code="invalid_type")
    kind = value.get("type") or "message"
    v.tagged(name, {**value, "type": kind}, ITEMS)
    if kind == "message":
        v.one_of(*_ROLES)(f"{name}.role", value["role"])
        _content(f"{name}.content", value["content"], from_the_model=value["role"] == "assistant")


def tool(name: str, value: Any) -> None:
    """Accept a tool: functions are flat here."""
    v.tagged(name, value, TOOLS)


def text(name: str, value: Any) -> None:
    """Accept the settings of the text: its format and how long it is."""
    v.mapping(name, value)
    if value.get("verbosity") is not None:
        v.one_of("low", "medium", "high")(f"{name}.verbosity", value["verbosity"])
    asked = value.get("format")
    if asked is None:
        return
    v.schema_format(f"{name}.format", asked, ("name", "schema"))
    if asked["type"] == "json_schema" and asked.get("strict"):
        what = f"response_format '{asked['name']}'"
        check_strict(asked["schema"], what, param=f"{name}.format.schema", code="invalid_json_schema")


def reasoning(name: str, value: Any) -> None:
    """Accept the settings of the reasoning."""
    v.mapping(name, value)
    if value.get("effort") is not None:
        efforts = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
        v.one_of(*efforts)(f"{name}.effort", value["effort"])


def _content(name: str, value: Any, *, from_the_model: bool) -> None:
    v.of_type(str, list)(name, value)
    for index, part in enumerate(value if isinstance(value, list) else ()):
        where = f"{name}[{index}]"
        v.tagged(where, part, _PARTS)
        if "text" in _PARTS[part["type"]]:
            v.string(f"{where}.text", part["text"])
        if from_the_model:
            v.one_of(*_FROM_THE_MODEL)(where, part["type"])
        elif part["type"] in _FROM_THE_MODEL:
            v.one_of("input_text", "input_image", "input_file")(where, part["type"])
