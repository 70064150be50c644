# SPDX-License-Identifier: Apache-2.0
"""Routes of threads and their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator import thread_checks as checks
from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.pagination import page
from airflow_provider_openai_runs.simulator.thread import Thread

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.store import Store

_THREAD: dict[str, v.Check] = {
    "messages": v.array(item=checks.message),
    "metadata": v.metadata,
    "tool_resources": v.mapping,
}
_THREAD_UPDATE = {name: _THREAD[name] for name in ("metadata", "tool_resources")}
_MESSAGE: dict[str, v.Check] = {
    "role": checks.role,
    "content": checks.content,
    "attachments": v.array(),
    "metadata": v.metadata,
}


def new_thread(store: Store, body: dict[str, Any], now: float) -> Thread:
    """Check the description of a thread and remember the thread with its messages."""
    v.check(body, _THREAD)
    thread = Thread(
        id=new_id("thread"),
        created_at=now,
        metadata=body.get("metadata") or {},
        tool_resources=body.get("tool_resources") or {},
    )
    for message in body.get("messages") or ():
        thread.add_message(message, now)
    store.threads[thread.id] = thread
    return thread


def create_thread(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /threads."""
    return new_thread(store, request.body, request.now).render()


def retrieve_thread(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /threads/{id}."""
    return store.thread(request.ids["thread_id"]).render()


def update_thread(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /threads/{id}."""
    thread = store.thread(request.ids["thread_id"])
    v.check(request.body, _THREAD_UPDATE)
    if request.body.get("metadata") is not None:
        thread.metadata = request.body["metadata"]
    if request.body.get("tool_resources") is not None:
        thread.tool_resources = request.body["tool_resources"]
    return thread.render()


def delete_thread(store: Store, request: ApiRequest) -> dict[str, Any]:
    """DELETE /threads/{id}."""
    key = store.thread(request.ids["thread_id"]).id
    del store.threads[key]
    return {"id": key, "object": "thread.deleted", "deleted": True}


def create_message(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /threads/{id}/messages."""
    thread = store.thread(request.ids["thread_id"])
    v.check(request.body, _MESSAGE, required=("role", "content"))
    return thread.add_message(request.body, request.now)


def list_messages(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /threads/{id}/messages, those of one run with `run_id`."""
    thread = store.thread(request.ids["thread_id"])
    thread.settle(request.now)
    run_id = request.query.get("run_id")
    keys = [key for key, m in thread.messages.items() if run_id is None or m["run_id"] == run_id]
    return page(keys, request.query, thread.messages.__getitem__)


def retrieve_message(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /threads/{id}/messages/{id}."""
    return store.thread(request.ids["thread_id"]).message(request.ids["message_id"], request.now)


def update_message(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /threads/{id}/messages/{id}: the metadata."""
    message = retrieve_message(store, request)
    v.check(request.body, {"metadata": v.metadata})
    if request.body.get("metadata") is not None:
        message["metadata"] = request.body["metadata"]
    return message


def delete_message(store: Store, request: ApiRequest) -> dict[str, Any]:
    """DELETE /threads/{id}/messages/{id}."""
    key = retrieve_message(store, request)["id"]
    del store.thread(request.ids["thread_id"]).messages[key]
    return {"id": key, "object": "thread.message.deleted", "deleted": True}


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/threads", create_thread),
    ("GET", "/threads/{thread_id}", retrieve_thread),
    ("POST", "/threads/{thread_id}", update_thread),
    ("DELETE", "/threads/{thread_id}", delete_thread),
    ("POST", "/threads/{thread_id}/messages", create_message),
    ("GET", "/threads/{thread_id}/messages", list_messages),
    ("GET", "/threads/{thread_id}/messages/{message_id}", retrieve_message),
    ("POST", "/threads/{thread_id}/messages/{message_id}", update_message),
    ("DELETE", "/threads/{thread_id}/messages/{message_id}", delete_message),
]
