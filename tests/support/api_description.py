# SPDX-License-Identifier: Apache-2.0
"""
What the project knows of the API's requests, in the form of an OpenAPI description.

It was written by hand from what the package sends and what the public reference says of that, and is much
smaller than OpenAI's own description, which lies beside the repository for those who have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
ID: Schema = {"type": "string", "minLength": 1}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
#: Sixteen pairs at the most.
METADATA: Schema = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"maxLength": 64},
    "additionalProperties": {"type": "string", "maxLength": 512},
}
TEMPERATURE: Schema = {"type": "number", "minimum": 0, "maximum": 2}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
REASONING_EFFORT: Schema = {"enum": ["none", "minimal", "low", "medium", "high", "xhigh"]}


def one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def items(schema: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": schema, **more}


def at_least(number: int) -> Schema:
    return {"type": "integer", "minimum": number}


def fields(required: Iterable[str] = (), /, **properties: Schema) -> Schema:
    """Describe an object that has no other properties."""
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


def typed(name: str, required: Iterable[str] = (), /, **properties: Schema) -> Schema:
    """Describe an object that says of what type it is."""
    return fields(["type", *required], type={"const": name}, **properties)


def opened(described: Schema) -> Schema:
    """Describe an object that may have other properties, too."""
    return {**described, "additionalProperties": True}


_FUNCTION = {
    "name": ID,
    "description": TEXT,
    "parameters": OBJECT,
    "strict": either(BOOLEAN, {"type": "null"}),
}
_MCP = {
    "server_label": ID,
    "server_url": TEXT,
    "require_approval": either(one_of("always", "never"), OBJECT),
}
_RESPONSE_TOOL = either(
    typed("function", ["name", "parameters", "strict"], **_FUNCTION),
    typed("code_interpreter", ["container"], container=either(TEXT, OBJECT)),
    opened(typed("web_search")),
    opened(typed("file_search", ["vector_store_ids"], vector_store_ids=items(TEXT))),
    opened(typed("mcp", ["server_label"], **_MCP)),
)
_RUN_TOOL = either(
    typed("function", ["function"], function=fields(["name"], **_FUNCTION)),
    typed("code_interpreter"),
    typed("file_search", file_search=OBJECT),
)
_PART = either(
    typed("input_text", ["text"], text=TEXT),
    opened(typed("input_image")),
    opened(typed("input_file")),
)
_INPUT_ITEM = either(
    fields(
        ["role", "content"],
        type={"const": "message"},
        role=one_of("user", "assistant", "system", "developer"),
        content=either(TEXT, items(_PART)),
    ),
    typed("function_call_output", ["call_id", "output"], call_id=ID, output=either(TEXT, items(_PART))),
    typed("custom_tool_call_output", ["call_id", "output"], call_id=ID, output=either(TEXT, items(_PART))),
    typed(
        "mcp_approval_response",
        ["approval_request_id", "approve"],
        approval_request_id=ID,
        approve=BOOLEAN,
        reason=TEXT,
    ),
)
_MESSAGE = fields(
    ["role", "content"],
    role=one_of("user", "assistant"),
    content=either(TEXT, items(typed("text", ["text"], text=TEXT))),
    metadata=METADATA,
)
_TEXT_FORMAT = either(
    typed("text"),
    typed("json_object"),
    typed("json_schema", ["name", "schema"], name=ID, schema=OBJECT, strict=BOOLEAN, description=TEXT),
)
_RUN_FORMAT = either(
    {"const": "auto"},
    typed("text"),
    typed("json_object"),
    typed("json_schema", ["json_schema"], json_schema=opened(fields(["name"], name=ID, schema=OBJECT))),
)

CREATE_RESPONSE = fields(
    background=BOOLEAN,
    conversation=either(ID, fields(["id"], id=ID)),
    include=items(TEXT),
    input=either(TEXT, items(_INPUT_ITEM)),
    instructions=TEXT,
    max_output_tokens=at_least(16),
    max_tool_calls=at_least(1),
    metadata=METADATA,
    model=ID,
    parallel_tool_calls=BOOLEAN,
    previous_response_id=ID,
    prompt_cache_key=TEXT,
    safety_identifier=TEXT,
    reasoning=opened(fields(effort=REASONING_EFFORT)),
    service_tier=one_of("auto", "default", "flex", "scale", "priority"),
    store=BOOLEAN,
    temperature=TEMPERATURE,
    text=fields(format=_TEXT_FORMAT, verbosity=one_of("low", "medium", "high")),
    tool_choice=either(one_of("none", "auto", "required"), OBJECT),
    tools=items(_RESPONSE_TOOL),
    top_logprobs={"type": "integer", "minimum": 0, "maximum": 20},
    top_p=SHARE,
    truncation=one_of("auto", "disabled"),
    user=TEXT,
    # As the SDK's types of a create have them.
    access_programs=fields(cyber=TEXT),
    context_management=items(fields(["type"], type=TEXT, compact_threshold=at_least(1))),
    image=fields(context_compression=one_of("auto", "enabled", "disabled")),
    moderation=fields(["model"], model=ID, policy=OBJECT),
    prompt=fields(["id"], id=ID, version=TEXT, variables=OBJECT),
    prompt_cache_options=fields(
        comparison_response_id=ID, mode=one_of("implicit", "explicit"), prewarm=BOOLEAN, ttl=TEXT
    ),
    prompt_cache_retention=one_of("in_memory", "24h"),
)
CREATE_RUN = fields(
    ["assistant_id"],
    additional_instructions=TEXT,
    additional_messages=items(_MESSAGE),
    assistant_id=ID,
    instructions=TEXT,
    max_completion_tokens=at_least(256),
    max_prompt_tokens=at_least(256),
    metadata=METADATA,
    model=ID,
    parallel_tool_calls=BOOLEAN,
    reasoning_effort=REASONING_EFFORT,
    response_format=_RUN_FORMAT,
    stream=either(BOOLEAN, {"type": "null"}),
    temperature=TEMPERATURE,
    tool_choice=either(one_of("none", "auto", "required"), opened(fields(["type"], type=TEXT))),
    tools=items(_RUN_TOOL, maxItems=20),
    top_p=SHARE,
    truncation_strategy=fields(["type"], type=one_of("auto", "last_messages"), last_messages=at_least(1)),
)
CREATE_THREAD = fields(messages=items(_MESSAGE), metadata=METADATA, tool_resources=OBJECT)
SUBMIT_OUTPUTS = fields(
    ["tool_outputs"],
    tool_outputs=items(fields(["tool_call_id", "output"], tool_call_id=ID, output=TEXT)),
    stream=either(BOOLEAN, {"type": "null"}),
)

_PAGE = {
    "after": ID,
    "before": ID,
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "order": one_of("asc", "desc"),
}
_INCLUDE = {"include[]": items(TEXT)}


def _operation(body: Schema | None = None, **query: Schema) -> dict[str, Any]:
    found: dict[str, Any] = {
        "parameters": [{"in": "query", "name": name, "schema": schema} for name, schema in query.items()]
    }
    if body is not None:
        found["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return found


_RUN = "/threads/{thread_id}/runs/{run_id}"
DESCRIPTION: dict[str, Any] = {
    "paths": {
        "/assistants": {"post": _operation(fields(["model"], model=ID, name=TEXT, instructions=TEXT))},
        "/conversations": {"post": _operation(fields(items=items(_INPUT_ITEM), metadata=METADATA))},
        "/conversations/{conversation_id}/items": {
            "post": _operation(fields(items=items(_INPUT_ITEM))),
            "get": _operation(after=ID, limit=_PAGE["limit"], order=_PAGE["order"], include=items(TEXT)),
        },
        "/responses": {"post": _operation(CREATE_RESPONSE)},
        "/responses/{response_id}": {"get": _operation(include=items(TEXT)), "delete": _operation()},
        "/responses/{response_id}/cancel": {"post": _operation()},
        "/threads": {"post": _operation(CREATE_THREAD)},
        "/threads/{thread_id}": {"get": _operation(), "delete": _operation()},
        "/threads/{thread_id}/messages": {"get": _operation(**_PAGE, run_id=ID)},
        "/threads/{thread_id}/runs": {
            "post": _operation(CREATE_RUN, **_INCLUDE),
            "get": _operation(**_PAGE),
        },
        _RUN: {"get": _operation()},
        f"{_RUN}/cancel": {"post": _operation()},
        f"{_RUN}/submit_tool_outputs": {"post": _operation(SUBMIT_OUTPUTS)},
        f"{_RUN}/steps": {"get": _operation(**_PAGE, **_INCLUDE)},
    },
    "components": {"schemas": {}},
}
