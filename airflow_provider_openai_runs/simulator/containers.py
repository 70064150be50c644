# SPDX-License-Identifier: Apache-2.0
"""Routes of containers and the files in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.exchange import Download
from airflow_provider_openai_runs.simulator.pagination import page

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.container import Container, ContainerFile
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.store import Store


def _find(store: Store, request: ApiRequest) -> Container:
    return store.container(request.ids["container_id"])


def _find_file(store: Store, request: ApiRequest) -> ContainerFile:
    return _find(store, request).file(request.ids["file_id"], request.now)


def retrieve_container(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /containers/{id}."""
    return _find(store, request).render(request.now)


def list_files(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /containers/{id}/files."""
    files = _find(store, request).files(request.now)
    return page(list(files), request.query, lambda key: files[key].render())


def retrieve_file(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /containers/{id}/files/{id}."""
    return _find_file(store, request).render()


def retrieve_content(store: Store, request: ApiRequest) -> Download:
    """GET /containers/{id}/files/{id}/content."""
    file = _find_file(store, request)
    return Download(content=file.content, filename=file.produced.name)


_CONTAINER = "/containers/{container_id}"
ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", _CONTAINER, retrieve_container),
    ("GET", f"{_CONTAINER}/files", list_files),
    ("GET", f"{_CONTAINER}/files/{{file_id}}", retrieve_file),
    ("GET", f"{_CONTAINER}/files/{{file_id}}/content", retrieve_content),
]
