# SPDX-License-Identifier: Apache-2.0
"""Routes of responses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.answers import tokens
from airflow_provider_openai_runs.simulator.errors import ApiError
from airflow_provider_openai_runs.simulator.exchange import ApiReply
from airflow_provider_openai_runs.simulator.include import (
    ENCRYPTED_REASONING,
    check_include,
    without_extras,
)
from airflow_provider_openai_runs.simulator.pagination import page
from airflow_provider_openai_runs.simulator.response_creation import new_response

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.response import Response
    from airflow_provider_openai_runs.simulator.store import Store


def create_response(store: Store, request: ApiRequest) -> ApiReply:
    """POST /responses: at once in the background, else when the response is ready."""
    headers = store.rate_limiter.admit(
        _asked_tokens(request.body),
        model=str(request.body.get("model")),
        now=request.now,
    )
    response = new_response(store, request.body, request.now)
    store.history.append(response)
    # Thoughts are shown to who creates the response, to later readers only if they ask.
    include = {*(request.body.get("include") or ()), ENCRYPTED_REASONING}
    ready_at = 0.0 if response.background else response.timeline.ends_at
    return _reply(response, include=include, ready_at=ready_at, headers=headers)


def _asked_tokens(body: dict[str, Any]) -> int:
    """Estimate what a request counts against the limit: its input, and as much as it may write."""
    written = body.get("max_output_tokens")
    given = body.get("input") or ""
    read = tokens(given if isinstance(given, str) else json.dumps(given))
    return read + (written if isinstance(written, int) else 0)


def _reply(
    response: Response,
    *,
    include: Collection[str] = (),
    ready_at: float = 0.0,
    headers: Mapping[str, str] | None = None,
) -> ApiReply:
    wait = response.scenario.poll_after_ms
    later = {} if wait is None else {"openai-poll-after-ms": str(wait)}
    return ApiReply(
        body=lambda now: response.render(now, include),
        headers={**(headers or {}), **later},
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
