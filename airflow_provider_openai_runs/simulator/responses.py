# SPDX-License-Identifier: Apache-2.0
"""Routes of responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator import response_checks as checks
from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.answers import answer
from airflow_provider_openai_runs.simulator.citations import of_response
from airflow_provider_openai_runs.simulator.container import Container
from airflow_provider_openai_runs.simulator.continuation import Continuation, continuation
from airflow_provider_openai_runs.simulator.errors import ApiError, missing
from airflow_provider_openai_runs.simulator.exchange import ApiReply
from airflow_provider_openai_runs.simulator.ids import child_id, new_id
from airflow_provider_openai_runs.simulator.include import (
    ENCRYPTED_REASONING,
    INCLUDABLE,
    check_include,
    without_extras,
)
from airflow_provider_openai_runs.simulator.items import prompt_of, question_of, stored_items
from airflow_provider_openai_runs.simulator.pagination import page
from airflow_provider_openai_runs.simulator.response import Response

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_openai_runs.simulator.conversation import Conversation
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.store import Store

_LEAST_TOKENS = 16
_PARAMETERS: dict[str, v.Check] = {
    **dict.fromkeys(("background", "parallel_tool_calls", "store", "stream"), v.boolean),
    **dict.fromkeys(
        (
            "instructions",
            "previous_response_id",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "user",
        ),
        v.string,
    ),
    **dict.fromkeys(
        (
            "background_options",
            "image",
            "moderation",
            "prompt",
            "prompt_cache_options",
            "stream_options",
        ),
        v.mapping,
    ),
    **dict.fromkeys(("access_programs", "context_management"), v.array()),
    "include": v.array(item=v.one_of(*INCLUDABLE)),
    "conversation": v.of_type(str, dict),
    "input": v.of_type(str, list),
    "max_output_tokens": v.number(_LEAST_TOKENS, integer=True),
    "max_tool_calls": v.number(1, integer=True),
    "metadata": v.metadata,
    "model": v.model,
    "temperature": v.number(0, 2),
    "reasoning": checks.reasoning,
    "service_tier": v.one_of("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"),
    "text": checks.text,
    "tool_choice": checks.tool_choice,
    "tools": v.array(item=checks.tool),
    "top_logprobs": v.number(0, 20, integer=True),
    "top_p": v.number(0, 1),
    "truncation": v.one_of("auto", "disabled"),
}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Complete a tool as the API shows it; what authorises at an MCP server is never shown."""
    if tool["type"] == "function":
        return {"description": None, "parameters": None, "strict": True, **tool}
    if tool["type"] == "mcp":
        kept = {name: value for name, value in tool.items() if name != "authorization"}
        approval = _approval(tool.get("require_approval"))
        return {"allowed_tools": None, **kept, "headers": None, "require_approval": approval}
    return tool


def _approval(given: Any) -> Any:
    """Complete the rule which tools of an MCP server need an approval."""
    if not isinstance(given, dict):
        return given or "always"
    rules = {"always": None, "never": None, **given}
    return {name: rule and {"read_only": None, "tool_names": None, **rule} for name, rule in rules.items()}


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    """Work out the fields that a response merely echoes, defaults filled in."""
    defaults: dict[str, Any] = {
        "frequency_penalty": 0.0,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "gpt-4.1-mini",
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "safety_identifier": None,
        "temperature": 1.0,
        "tool_choice": "auto",
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }
    given = {name: body[name] for name in defaults if body.get(name) is not None}
    text = {"format": {"type": "text"}, "verbosity": "medium", **(body.get("text") or {})}
    return {
        **defaults,
        **given,
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "text": text,
        "tools": [_tool(tool) for tool in body.get("tools") or ()],
    }


def _check(body: dict[str, Any]) -> None:
    v.check(body, _PARAMETERS)
    if body.get("prompt") is None and body.get("model") is None:
        raise missing("model")
    if not any(body.get(name) for name in ("input", "previous_response_id", "prompt", "conversation")):
        raise ApiError(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided.",
            param="input",
            code="missing_required_parameter",
        )
    if body.get("conversation") is not None and body.get("previous_response_id") is not None:
        raise ApiError(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.",
            param="previous_response_id",
            code="mutually_exclusive_parameters",
        )


def _conversation(store: Store, body: dict[str, Any], now: float) -> Conversation | None:
    given = body.get("conversation")
    if given is None:
        return None
    conversation = store.conversation(given if isinstance(given, str) else str(given.get("id")))
    conversation.check_unlocked(now)
    return conversation


def create_response(store: Store, request: ApiRequest) -> ApiReply:
    """POST /responses: at once in the background, else when the response is ready."""
    body = request.body
    _check(body)
    conversation = _conversation(store, body, request.now)
    items = stored_items(body.get("input"))
    previous = body.get("previous_response_id")
    link = continuation(store, items, previous=previous, conversation=conversation, now=request.now)
    response = _response(store, body, items, link=link, conversation=conversation, now=request.now)
    store.responses[response.id] = response
    store.history.append(response)
    store.containers[response.container_id] = Container(response.container_id, response)
    store.askers.update(dict.fromkeys(response.questions(), response))
    if conversation is not None:
        conversation.begin(response)
    # Thoughts are shown to who creates the response, to later readers only if they ask.
    include = {*(body.get("include") or ()), ENCRYPTED_REASONING}
    ready_at = 0.0 if response.background else response.timeline.ends_at
    return _reply(response, include=include, ready_at=ready_at)


def _response(
    store: Store,
    body: dict[str, Any],
    items: list[dict[str, Any]],
    *,
    link: Continuation,
    conversation: Conversation | None,
    now: float,
) -> Response:
    parameters = _parameters(body)
    prompt = "\n".join([parameters["instructions"] or "", prompt_of(items)])
    offered = parameters["tools"] if parameters["tool_choice"] != "none" else []
    functions = [tool for tool in offered if tool["type"] == "function"]
    scenario = link.scenario or store.scenario_for(prompt, functions=functions, can_expire=False)
    question = question_of(items) or link.question
    key = new_id("resp", length=50)
    container_id = _container_id(offered) or child_id("cntr", key, 0)
    return Response(
        id=key,
        created_at=now,
        background=bool(body.get("background")) and not scenario.ignores_background,
        stored=body.get("store") is not False,
        conversation_id=None if conversation is None else conversation.id,
        parameters=parameters,
        metadata=body.get("metadata") or {},
        input=items,
        question=question,
        scenario=scenario,
        answer=answer(
            scenario,
            prompt=prompt,
            question=question,
            citations=of_response(key, container_id, scenario.output),
            text_format=parameters["text"]["format"],
            ceiling=parameters["max_output_tokens"],
            ceiling_name="max_output_tokens",
        ),
        container_id=container_id,
        service_tier=body.get("service_tier"),
        speed=store.options.speed,
        turn=link.turn,
        approved=link.approved,
    )


def _container_id(tools: list[dict[str, Any]]) -> str | None:
    """Give the container that the caller named; otherwise each response has one of its own."""
    named = [tool.get("container") for tool in tools if tool["type"] == "code_interpreter"]
    return next((container for container in named if isinstance(container, str)), None)


def _reply(response: Response, *, include: Collection[str] = (), ready_at: float = 0.0) -> ApiReply:
    wait = response.scenario.poll_after_ms
    headers = {} if wait is None else {"openai-poll-after-ms": str(wait)}
    return ApiReply(
        body=lambda now: response.render(now, include),
        headers=headers,
        ready_at=ready_at,
        dropped=response.cancel,
    )


def _find(store: Store, request: ApiRequest) -> Response:
    return store.response(request.ids["response_id"], request.now)


def retrieve_response(store: Store, request: ApiRequest) -> ApiReply:
    """GET /responses/{id}."""
    check_include(request.include)
    if request.query.get("stream") == "true":
        raise ApiError("The simulator does not stream: send stream=false and poll.", param="stream")
    return _reply(_find(store, request), include=request.include)


def cancel_response(store: Store, request: ApiRequest) -> ApiReply:
    """POST /responses/{id}/cancel: only what was created in the background; twice is as good as once."""
    response = _find(store, request)
    if not response.background:
        raise ApiError("Cannot cancel a synchronous response.")
    response.cancel(request.now)
    return _reply(response)


def delete_response(store: Store, request: ApiRequest) -> dict[str, Any]:
    """DELETE /responses/{id}."""
    key = _find(store, request).id
    del store.responses[key]
    return {"id": key, "object": "response", "deleted": True}


def list_input_items(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /responses/{id}/input_items."""
    check_include(request.include)
    items = {item["id"]: item for item in _find(store, request).input}
    return page(list(items), request.query, lambda key: without_extras(items[key], request.include))


_RESPONSE = "/responses/{response_id}"
ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", _RESPONSE, retrieve_response),
    ("POST", "/responses", create_response),
    ("DELETE", _RESPONSE, delete_response),
    ("POST", f"{_RESPONSE}/cancel", cancel_response),
    ("GET", f"{_RESPONSE}/input_items", list_input_items),
]
