# SPDX-License-Identifier: Apache-2.0
"""Routes of assistants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator import thread_checks as checks
from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.pagination import page

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.store import Store

_TOOLS = 128
_PARAMETERS: dict[str, v.Check] = {
    "model": v.model,
    "name": v.string,
    "description": v.string,
    "instructions": v.string,
    "tools": v.array(_TOOLS, checks.tool),
    "tool_resources": v.mapping,
    "metadata": v.metadata,
    "temperature": v.number(0, 2),
    "top_p": v.number(0, 1),
    "reasoning_effort": v.string,
    "response_format": checks.response_format,
}


def thread_tools(tools: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Complete tools as the API shows them: functions say whether they are strict."""
    return [
        {**tool, "function": {"strict": False, **tool["function"]}} if tool["type"] == "function" else tool
        for tool in tools or ()
    ]


def create_assistant(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /assistants."""
    body = request.body
    v.check(body, _PARAMETERS, required=("model",))
    assistant = {
        "id": new_id("asst"),
        "object": "assistant",
        "created_at": int(request.now),
        "name": body.get("name"),
        "description": body.get("description"),
        "model": body["model"],
        "instructions": body.get("instructions"),
        "tools": thread_tools(body.get("tools")),
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
        "temperature": 1.0 if body.get("temperature") is None else body["temperature"],
        "reasoning_effort": body.get("reasoning_effort"),
        "tool_resources": body.get("tool_resources") or {},
        "metadata": body.get("metadata") or {},
        "response_format": body.get("response_format") or "auto",
    }
    store.assistants[assistant["id"]] = assistant
    return assistant


def list_assistants(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /assistants."""
    return page(list(store.assistants), request.query, store.assistant)


def retrieve_assistant(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /assistants/{id}."""
    return store.assistant(request.ids["assistant_id"])


def update_assistant(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /assistants/{id}."""
    assistant = store.assistant(request.ids["assistant_id"])
    v.check(request.body, _PARAMETERS)
    assistant.update(request.body)
    assistant["tools"] = thread_tools(assistant["tools"])
    return assistant


def delete_assistant(store: Store, request: ApiRequest) -> dict[str, Any]:
    """DELETE /assistants/{id}."""
    key = store.assistant(request.ids["assistant_id"])["id"]
    del store.assistants[key]
    return {"id": key, "object": "assistant.deleted", "deleted": True}


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/assistants", create_assistant),
    ("GET", "/assistants", list_assistants),
    ("GET", "/assistants/{assistant_id}", retrieve_assistant),
    ("POST", "/assistants/{assistant_id}", update_assistant),
    ("DELETE", "/assistants/{assistant_id}", delete_assistant),
]
