# SPDX-License-Identifier: Apache-2.0
"""Routes of files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.batches import settle
from airflow_provider_openai_runs.simulator.content import Content
from airflow_provider_openai_runs.simulator.errors import ApiError, missing
from airflow_provider_openai_runs.simulator.exchange import Download
from airflow_provider_openai_runs.simulator.file import StoredFile
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.pagination import page

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.store import Store

_PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
_BATCH_SUFFIXES = frozenset({"", ".jsonl"})
_DAY = 86_400
_LEAST_LIFE = 3_600
_LONGEST_LIFE = 30 * _DAY
_NEVER_GIVEN_BACK = frozenset({"assistants", "user_data"})
_LIST_MOST = 10_000


def _find(store: Store, request: ApiRequest) -> StoredFile:
    settle(store, request.now)
    return store.file(request.ids["file_id"], request.now)


def create_file(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /files: a multipart body."""
    purpose, upload = request.body.get("purpose"), request.upload
    if upload is None:
        raise missing("file")
    if purpose is None:
        raise missing("purpose")
    if purpose not in _PURPOSES:
        raise ApiError(f"'{purpose}' is not one of {list(_PURPOSES)} - 'purpose'", param="purpose")
    if purpose == "batch" and PurePosixPath(upload.filename).suffix not in _BATCH_SUFFIXES:
        raise ApiError("Invalid file format for Batch API. Must be .jsonl")
    lives = _life(request.body) or (_LONGEST_LIFE if purpose == "batch" else None)
    file = StoredFile(
        id=new_id("file", length=22, joint="-"),
        filename=upload.filename,
        purpose=purpose,
        created_at=request.now,
        content=Content.of(upload.data),
        expires_at=None if lives is None else request.now + lives,
    )
    store.files[file.id] = file
    return file.render()


def _life(fields: dict[str, Any]) -> int | None:
    """Read the seconds for which a file is to be kept; in a form even numbers are text."""
    given = fields.get("expires_after[seconds]")
    if given is None:
        return None
    v.one_of("created_at")("expires_after.anchor", fields.get("expires_after[anchor]"))
    seconds: Any = int(given) if given.isdecimal() else given
    v.number(_LEAST_LIFE, _LONGEST_LIFE, integer=True)("expires_after.seconds", seconds)
    return int(seconds)


def list_files(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /files, those of one purpose with `purpose`."""
    settle(store, request.now)
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
    ("POST", "/files", create_file),
    ("GET", "/files", list_files),
    ("GET", _FILE, retrieve_file),
    ("GET", f"{_FILE}/content", retrieve_content),
    ("DELETE", _FILE, delete_file),
]
