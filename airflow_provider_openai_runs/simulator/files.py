# SPDX-License-Identifier: Apache-2.0
"""Routes of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.errors import ApiError
from airflow_provider_openai_runs.simulator.exchange import Download
from airflow_provider_openai_runs.simulator.pagination import page

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.file import StoredFile
    from airflow_provider_openai_runs.simulator.store import Store

_NEVER_GIVEN_BACK = frozenset({"assistants", "user_data"})
_LIST_MOST = 10_000


def _find(store: Store, request: ApiRequest) -> StoredFile:
    return store.file(request.ids["file_id"], request.now)


def list_files(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /files, those of one purpose with `purpose`."""
    purpose = request.query.get("purpose")
    keys = [
        key
        for key, file in store.files.items()
        if file.is_visible(request.now) and purpose in (None, file.purpose)
    ]
    return page(
        keys, request.query, lambda key: store.files[key].render(), most=_LIST_MOST, default=_LIST_MOST
    )


def retrieve_file(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /files/{id}."""
    return _find(store, request).render()


def retrieve_content(store: Store, request: ApiRequest) -> Download:
    """GET /files/{id}/content: not of what was uploaded for a model to read."""
    file = _find(store, request)
    if file.purpose in _NEVER_GIVEN_BACK:
        raise ApiError(f"Not allowed to download files of purpose: {file.purpose}")
    return Download(content=file.content, filename=file.filename)


def delete_file(store: Store, request: ApiRequest) -> dict[str, Any]:
    """DELETE /files/{id}."""
    key = _find(store, request).id
    del store.files[key]
    return {"object": "file", "deleted": True, "id": key}


_FILE = "/files/{file_id}"
ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/files", list_files),
    ("GET", _FILE, retrieve_file),
    ("GET", f"{_FILE}/content", retrieve_content),
    ("DELETE", _FILE, delete_file),
]
