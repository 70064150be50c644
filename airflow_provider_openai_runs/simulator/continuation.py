# SPDX-License-Identifier: Apache-2.0
"""How a new response follows from earlier ones: by their id, in a conversation, or by answering a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.errors import ApiError, item_not_found

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.conversation import Conversation
    from airflow_provider_openai_runs.simulator.response import Response
    from airflow_provider_openai_runs.simulator.scenario import Scenario
    from airflow_provider_openai_runs.simulator.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What a response inherits; no `scenario` means that it answers nothing and takes one of its own."""

    scenario: Scenario | None = None
    stage: int = 0
    question: str = ""
    approved: dict[str, Any] | None = None


def continuation(
    store: Store,
    items: list[dict[str, Any]],
    *,
    previous: str | None,
    conversation: Conversation | None,
    now: float,
) -> Continuation:
    """Find what the input `items` answer; calls left open and outputs for unknown calls are refused."""
    parent = _parent(store, previous, conversation, now)
    asked = {} if parent is None else _questions(parent.output(now))
    outputs = [item["call_id"] for item in items if item["type"] == "function_call_output"]
    told = {item["approval_request_id"]: item for item in items if item["type"] == "mcp_approval_response"}
    repeated = _questions(items)
    _check_answers(asked, {*repeated, *asked}, outputs=outputs, approvals=list(told))
    answered = [*outputs, *told]
    if not answered:
        return Continuation()
    origin = parent if answered[0] in asked else _origin_of(store, answered[0], now)
    if origin is None:
        return Continuation()
    approvals = [key for key, item in told.items() if item.get("approve")]
    return Continuation(
        scenario=origin.scenario,
        stage=origin.stage + 1,
        question=origin.question,
        approved={**asked, **repeated}.get(approvals[0]) if approvals else None,
    )


def _parent(
    store: Store,
    previous: str | None,
    conversation: Conversation | None,
    now: float,
) -> Response | None:
    if conversation is not None:
        return conversation.latest
    if previous is None:
        return None
    try:
        return store.response(previous, now)
    except ApiError:
        raise ApiError(
            f"Previous response with id '{previous}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        ) from None


def _questions(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Index the calls and approval requests among the items by the id that an answer names."""
    found = {item["call_id"]: item for item in items if item["type"] == "function_call"}
    found.update((item["id"], item) for item in items if item["type"] == "mcp_approval_request")
    return found


def _check_answers(
    asked: dict[str, dict[str, Any]],
    known: set[str],
    *,
    outputs: list[str],
    approvals: list[str],
) -> None:
    for call_id in outputs:
        if call_id not in known:
            message = f"No tool call found for function call output with call_id {call_id}."
            raise ApiError(message, param="input")
    for key in approvals:
        if key not in known:
            raise item_not_found("Approval request", key)
    for key, item in asked.items():
        if item["type"] == "function_call" and key not in outputs:
            raise ApiError(f"No tool output found for function call {key}.", param="input")


def _origin_of(store: Store, key: str, now: float) -> Response | None:
    """Find the response that asked, for clients that send the whole history instead of an id."""
    newest_first = reversed(store.responses.values())
    return next((response for response in newest_first if key in _questions(response.output(now))), None)
