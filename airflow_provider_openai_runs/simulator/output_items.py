# SPDX-License-Identifier: Apache-2.0
"""The items that a response writes, complete; `include.py` takes away what a reader did not ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_openai_runs.simulator.citations import found_file_id
from airflow_provider_openai_runs.simulator.content import is_image, media_type, picture_base64
from airflow_provider_openai_runs.simulator.ids import child_id
from airflow_provider_openai_runs.simulator.items import output_text
from airflow_provider_openai_runs.simulator.tool_results import (
    CodeInterpreter,
    FileSearch,
    FoundFile,
    ImageGeneration,
    McpCall,
    McpListTools,
    ProducedFile,
    Reasoning,
    ToolResult,
    WebSearch,
)

_SECRET_THOUGHTS = 400


def tool_items(run_id: str, container_id: str, results: Sequence[ToolResult]) -> list[dict[str, Any]]:
    """Write the results of hosted tools as items of the response `run_id`."""
    return [_item(result, index, run_id, container_id) for index, result in enumerate(results)]


def message_item(
    key: str,
    content: list[dict[str, Any]],
    *,
    phase: str | None = None,
    status: str = "completed",
) -> dict[str, Any]:
    """Write a message; only models that comment on their work name its `phase`."""
    named = {} if phase is None else {"phase": phase}
    return {
        "id": key,
        "type": "message",
        "status": status,
        "content": content,
        **named,
        "role": "assistant",
    }


def preamble_item(run_id: str, text: str) -> dict[str, Any]:
    """Write what the model says before it goes to work."""
    return message_item(child_id("msg", run_id, "preamble"), [output_text(text)], phase="commentary")


def mcp_call_item(
    key: str,
    *,
    name: str,
    arguments: str,
    server_label: str,
    approval_request_id: str | None = None,
    output: str | None = "simulated",
    error: str | None = None,
) -> dict[str, Any]:
    """Write a call of a remote tool."""
    content = [{"type": "text", "text": error}]
    return {
        "id": key,
        "type": "mcp_call",
        "approval_request_id": approval_request_id,
        "arguments": arguments,
        "error": None if error is None else {"type": "mcp_tool_execution_error", "content": content},
        "name": name,
        "output": output if error is None else None,
        "server_label": server_label,
    }


def _item(result: ToolResult, index: int, run_id: str, container_id: str) -> dict[str, Any]:
    match result:
        case Reasoning():
            return _reasoning(child_id("rs", run_id, index), result)
        case WebSearch():
            return _web_search(child_id("ws", run_id, index), result)
        case FileSearch():
            return _file_search(child_id("fs", run_id, index), result, run_id)
        case CodeInterpreter():
            return _code_interpreter(child_id("ci", run_id, index), result, container_id)
        case ImageGeneration():
            return _image_generation(child_id("ig", run_id, index), result)
        case McpListTools():
            return _mcp_list_tools(child_id("mcpl", run_id, index), result)
        case McpCall():
            return mcp_call_item(
                child_id("mcp", run_id, index),
                name=result.name,
                arguments=result.arguments_json,
                server_label=result.server_label,
                output=result.output,
                error=result.error,
            )


def _reasoning(key: str, result: Reasoning) -> dict[str, Any]:
    return {
        "id": key,
        "type": "reasoning",
        "encrypted_content": (key.removeprefix("rs_") * 20)[:_SECRET_THOUGHTS],
        "summary": [{"type": "summary_text", "text": text} for text in result.summary],
    }


def _web_search(key: str, result: WebSearch) -> dict[str, Any]:
    if result.pattern is not None:
        action: dict[str, Any] = {"type": "find_in_page", "pattern": result.pattern, "url": result.url or ""}
    elif result.url is not None:
        action = {"type": "open_page", "url": result.url}
    else:
        sources = [{"type": "url", "url": page.url} for page in result.pages]
        action = {"type": "search", "queries": [result.query], "query": result.query, "sources": sources}
    return {"id": key, "type": "web_search_call", "status": "completed", "action": action}


def _file_search(key: str, result: FileSearch, run_id: str) -> dict[str, Any]:
    return {
        "id": key,
        "type": "file_search_call",
        "status": "completed",
        "queries": list(result.queries),
        "results": [_found(run_id, found) for found in result.found],
    }


def _found(run_id: str, found: FoundFile) -> dict[str, Any]:
    return {
        "attributes": {},
        "file_id": found_file_id(run_id, found),
        "filename": found.name,
        "score": found.score,
        "text": found.text,
    }


def _code_interpreter(key: str, result: CodeInterpreter, container_id: str) -> dict[str, Any]:
    logs = [] if result.logs is None else [{"type": "logs", "logs": result.logs}]
    return {
        "id": key,
        "type": "code_interpreter_call",
        "status": "completed",
        "code": result.code,
        "container_id": container_id,
        "outputs": [*logs, *(_picture(file) for file in result.files if is_image(file.name))],
    }


def _picture(file: ProducedFile) -> dict[str, Any]:
    return {"type": "image", "url": f"data:{media_type(file.name)};base64,{picture_base64(file.size)}"}


def _image_generation(key: str, result: ImageGeneration) -> dict[str, Any]:
    return {
        "id": key,
        "type": "image_generation_call",
        "status": "failed" if result.failed else "completed",
        "background": "opaque",
        "output_format": "png",
        "quality": "high",
        "result": None if result.failed else picture_base64(result.size),
        "revised_prompt": result.prompt,
        "size": "1024x1024",
    }


def _mcp_list_tools(key: str, result: McpListTools) -> dict[str, Any]:
    tools = [
        {
            "annotations": {"read_only": False},
            "description": "A simulated tool.",
            "input_schema": {"type": "object", "properties": {}, "additionalProperties": False},
            "name": name,
        }
        for name in result.tools
    ]
    return {"id": key, "type": "mcp_list_tools", "server_label": result.server_label, "tools": tools}
