# SPDX-License-Identifier: Apache-2.0
"""How a response comes to be, whether it is created alone or by a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.answers import answer
from airflow_provider_openai_runs.simulator.citations import of_response
from airflow_provider_openai_runs.simulator.container import Container
from airflow_provider_openai_runs.simulator.continuation import Continuation, continuation
from airflow_provider_openai_runs.simulator.ids import child_id, new_id
from airflow_provider_openai_runs.simulator.items import prompt_of, question_of, stored_items
from airflow_provider_openai_runs.simulator.response import Response
from airflow_provider_openai_runs.simulator.response_parameters import check_parameters, echoed

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.conversation import Conversation
    from airflow_provider_openai_runs.simulator.store import Store


def new_response(store: Store, body: dict[str, Any], now: float) -> Response:
    """Check the description of a response and remember the response.

    :raises ApiError: when the API would refuse it.
    """
    check_parameters(body)
    conversation = _conversation(store, body, now)
    items = stored_items(body.get("input"))
    previous = body.get("previous_response_id")
    link = continuation(store, items, previous=previous, conversation=conversation, now=now)
    response = _response(store, body, items, link=link, conversation=conversation, now=now)
    store.responses[response.id] = response
    store.containers[response.container_id] = Container(response.container_id, response)
    store.askers.update(dict.fromkeys(response.questions(), response))
    if conversation is not None:
        conversation.begin(response)
    return response


def _conversation(store: Store, body: dict[str, Any], now: float) -> Conversation | None:
    given = body.get("conversation")
    if given is None:
        return None
    conversation = store.conversation(given if isinstance(given, str) else str(given.get("id")))
    conversation.check_unlocked(now)
    return conversation


def _response(
    store: Store,
    body: dict[str, Any],
    items: list[dict[str, Any]],
    *,
    link: Continuation,
    conversation: Conversation | None,
    now: float,
) -> Response:
    parameters = echoed(body)
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
