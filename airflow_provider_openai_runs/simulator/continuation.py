# SPDX-License-Identifier: Apache-2.0
"""How a new response follows from earlier ones: by their id, in a conversation, or by answering a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.errors import ApiError, item_not_found
from airflow_provider_openai_runs.simulator.items import answers, questions

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.conversation import Conversation
    from airflow_provider_openai_runs.simulator.scenario import Scenario
    from airflow_provider_openai_runs.simulator.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What a response inherits; without a `scenario` it answers nothing and takes one of its own."""

    scenario: Scenario | None = None
    turn: int = 0
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
    """Find what the input `items` answer; calls left open and answers to nothing are refused.

    A client may also send the whole history, calls and their outputs, instead of an id.
    """
    asked = _asked(store, previous=previous, conversation=conversation, now=now)
    known = {**questions(items), **asked}
    given = answers(items)
    _check(asked, known, given)
    newest = next((key for key in reversed(given) if key in store.askers), None)
    if newest is None:
        return Continuation()
    asker = store.askers[newest]
    approved = [known[key] for key, item in given.items() if item.get("approve")]
    return Continuation(
        scenario=asker.scenario,
        turn=asker.turn + 1,
        question=asker.question,
        approved=approved[0] if approved else None,
    )


def _asked(
    store: Store,
    *,
    previous: str | None,
    conversation: Conversation | None,
    now: float,
) -> dict[str, dict[str, Any]]:
    """Index what the response before this one, or the conversation, waits to be answered."""
    if conversation is not None:
        return conversation.open_questions(now)
    if previous is None:
        return {}
    try:
        return questions(store.response(previous, now).output(now))
    except ApiError:
        raise ApiError(
            f"Previous response with id '{previous}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        ) from None


def _check(
    asked: dict[str, dict[str, Any]],
    known: dict[str, dict[str, Any]],
    given: dict[str, dict[str, Any]],
) -> None:
    for key, item in given.items():
        if key in known:
            continue
        if item["type"] == "mcp_approval_response":
            raise item_not_found("Approval request", key)
        message = f"No tool call found for function call output with call_id {key}."
        raise ApiError(message, param="input")
    for key, item in asked.items():
        if item["type"] == "function_call" and key not in given:
            raise ApiError(f"No tool output found for function call {key}.", param="input")
