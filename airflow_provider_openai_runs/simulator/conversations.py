# SPDX-License-Identifier: Apache-2.0
"""Routes of conversations and their items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.conversation import Conversation
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.include import check_include, without_extras
from airflow_provider_openai_runs.simulator.items import stored_items
from airflow_provider_openai_runs.simulator.pagination import page

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.store import Store

_ITEMS = v.array(20)


def create_conversation(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /conversations."""
    v.check(request.body, {"items": _ITEMS, "metadata": v.metadata})
    conversation = Conversation(
        id=new_id("conv", length=48),
        created_at=request.now,
        metadata=request.body.get("metadata") or {},
    )
    conversation.add(stored_items(request.body.get("items"), name="items"))
    store.conversations[conversation.id] = conversation
    return conversation.render()


def _find(store: Store, request: ApiRequest) -> Conversation:
    return store.conversation(request.ids["conversation_id"])


def retrieve_conversation(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /conversations/{id}."""
    return _find(store, request).render()


def update_conversation(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /conversations/{id}: the metadata."""
    conversation = _find(store, request)
    v.check(request.body, {"metadata": v.metadata}, required=("metadata",))
    conversation.metadata = request.body["metadata"]
    return conversation.render()


def delete_conversation(store: Store, request: ApiRequest) -> dict[str, Any]:
    """DELETE /conversations/{id}."""
    key = _find(store, request).id
    del store.conversations[key]
    return {"id": key, "object": "conversation.deleted", "deleted": True}


def create_items(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /conversations/{id}/items."""
    conversation = _find(store, request)
    v.check(request.body, {"items": _ITEMS}, required=("items",))
    conversation.settle(request.now)
    added = stored_items(request.body["items"], name="items")
    conversation.add(added)
    return {
        "object": "list",
        "data": added,
        "first_id": added[0]["id"] if added else None,
        "last_id": added[-1]["id"] if added else None,
        "has_more": False,
    }


def list_items(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /conversations/{id}/items."""
    conversation = _find(store, request)
    conversation.settle(request.now)
    check_include(request.include)
    items = conversation.items
    return page(list(items), request.query, lambda key: without_extras(items[key], request.include))


def retrieve_item(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /conversations/{id}/items/{id}."""
    check_include(request.include)
    return without_extras(_find(store, request).item(request.ids["item_id"], request.now), request.include)


def delete_item(store: Store, request: ApiRequest) -> dict[str, Any]:
    """DELETE /conversations/{id}/items/{id}: answers the conversation."""
    conversation = _find(store, request)
    key = conversation.item(request.ids["item_id"], request.now)["id"]
    del conversation.items[key]
    return conversation.render()


_CONVERSATION = "/conversations/{conversation_id}"
ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/conversations", create_conversation),
    ("GET", _CONVERSATION, retrieve_conversation),
    ("POST", _CONVERSATION, update_conversation),
    ("DELETE", _CONVERSATION, delete_conversation),
    ("POST", f"{_CONVERSATION}/items", create_items),
    ("GET", f"{_CONVERSATION}/items", list_items),
    ("GET", f"{_CONVERSATION}/items/{{item_id}}", retrieve_item),
    ("DELETE", f"{_CONVERSATION}/items/{{item_id}}", delete_item),
]
