# SPDX-License-Identifier: Apache-2.0
"""Routes of batches, and the files that they leave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.answers import tokens
from airflow_provider_openai_runs.simulator.batch import Batch, FileKind
from airflow_provider_openai_runs.simulator.batch_execution import execute
from airflow_provider_openai_runs.simulator.batch_input import BatchLine, read_lines
from airflow_provider_openai_runs.simulator.batch_items import totals_of
from airflow_provider_openai_runs.simulator.batch_scenario import BatchScenario
from airflow_provider_openai_runs.simulator.content import Content
from airflow_provider_openai_runs.simulator.errors import ApiError
from airflow_provider_openai_runs.simulator.file import StoredFile
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.pagination import page

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.store import Store

_RESPONSES = "/v1/responses"
_LEAST_LIFE = 3_600
_LONGEST_LIFE = 2_592_000
_PARAMETERS: dict[str, v.Check] = {
    "input_file_id": v.string,
    "endpoint": v.one_of(
        _RESPONSES,
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/completions",
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/videos",
    ),
    "completion_window": v.one_of("24h"),
    "metadata": v.metadata,
    "output_expires_after": v.mapping,
}


def create_batch(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /batches: what is wrong with the file makes the batch fail later."""
    body, now = request.body, request.now
    v.check(body, _PARAMETERS, required=("input_file_id", "endpoint", "completion_window"))
    if body["endpoint"] != _RESPONSES:
        raise ApiError(f"The simulator's batches are for {_RESPONSES} only.", param="endpoint")
    metadata = body.get("metadata") or {}
    scenario = store.batch_scripts.take(lambda planned: planned.fits(metadata)) or BatchScenario()
    lines, errors = _validated(store, body, now, scenario)
    batch = Batch(
        id=new_id("batch", length=32),
        created_at=now,
        parameters={**body, "metadata": body.get("metadata")},
        items=[],
        totals=[],
        errors=errors,
        model=next((line.body.get("model") for line in lines), None),
        enqueued_tokens=sum(map(_size, lines)),
        scenario=scenario,
        speed=store.options.speed,
        output_lives=_life(body.get("output_expires_after")),
    )
    if not errors:
        moments = batch.moments(len(lines))
        batch.items += [execute(store, line, at) for line, at in zip(lines, moments, strict=True)]
        batch.totals += totals_of(batch.items)
    store.batches[batch.id] = batch
    store.history.append(batch)
    return batch.render(now)


def _life(policy: dict[str, Any] | None) -> float | None:
    if policy is None:
        return None
    v.fields("output_expires_after", policy, ("anchor", "seconds"))
    v.one_of("created_at")("output_expires_after.anchor", policy["anchor"])
    name = "output_expires_after.seconds"
    v.number(_LEAST_LIFE, _LONGEST_LIFE, integer=True)(name, policy["seconds"])
    return float(policy["seconds"])


def _validated(
    store: Store,
    body: dict[str, Any],
    now: float,
    scenario: BatchScenario,
) -> tuple[list[BatchLine], list[dict[str, Any]]]:
    """Read the requests of a batch, and find the errors for which it fails."""
    if scenario.error is not None:
        planned = {"code": "invalid_request", "message": "The simulated validation failed."}
        return [], [{**planned, "param": None, "line": None, **scenario.error}]
    try:
        file = store.file(body["input_file_id"], now)
    except ApiError as missing:
        message = missing.error["message"]
        return [], [{"code": "file_not_found", "message": message, "param": "input_file_id", "line": None}]
    if file.purpose != "batch":
        message = f"The purpose of the input file must be 'batch', not '{file.purpose}'."
        return [], [{"code": "invalid_file", "message": message, "param": "input_file_id", "line": None}]
    lines, errors = read_lines(file.content.read(), body["endpoint"])
    limit = store.limits.enqueued_tokens
    enqueued = sum(b.enqueued_tokens for b in store.batches.values() if not b.timeline.is_terminal(now))
    if not errors and limit is not None and enqueued + sum(map(_size, lines)) > limit:
        message = (
            f"Enqueued token limit reached for {lines[0].body.get('model')} in organization org-simulated. "
            f"Limit: {limit:,} enqueued tokens. "
            "Please try again once some in_progress batches have been completed."
        )
        return [], [{"code": "token_limit_exceeded", "message": message, "param": None, "line": None}]
    return lines, errors


def _size(line: BatchLine) -> int:
    given = line.body.get("input") or ""
    return tokens(given if isinstance(given, str) else json.dumps(given))


def _find(store: Store, request: ApiRequest) -> Batch:
    return store.batch(request.ids["batch_id"], request.now)


def list_batches(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /batches, newest first."""
    settle(store, request.now)
    keys = [key for key, batch in store.batches.items() if batch.is_visible(request.now)]
    query = {name: value for name, value in request.query.items() if name in ("after", "limit")}
    return page(keys, query, lambda key: store.batches[key].render(request.now))


def retrieve_batch(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /batches/{id}."""
    settle(store, request.now)
    return _find(store, request).render(request.now)


def cancel_batch(store: Store, request: ApiRequest) -> dict[str, Any]:
    """POST /batches/{id}/cancel."""
    batch = _find(store, request)
    batch.cancel(request.now)
    return batch.render(request.now)


def settle(store: Store, now: float) -> None:
    """Write the files of the batches that have ended by `now`, once; call it before files are read."""
    for batch in store.batches.values():
        if batch.is_settled or not batch.timeline.is_terminal(now):
            continue
        batch.is_settled = True
        for kind in FileKind:
            if (key := batch.file_id(kind, now)) is not None:
                store.files[key] = _written(batch, kind, key, now)


def _written(batch: Batch, kind: FileKind, key: str, now: float) -> StoredFile:
    ended_at = batch.timeline.since(now)
    data = "".join(json.dumps(line) + "\n" for line in batch.lines(kind, now)).encode()
    return StoredFile(
        id=key,
        filename=f"{batch.id}_{kind}.jsonl",
        purpose="batch_output",
        created_at=ended_at,
        content=Content.of(data),
        expires_at=None if batch.output_lives is None else ended_at + batch.output_lives,
    )


_BATCH = "/batches/{batch_id}"
ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/batches", create_batch),
    ("GET", "/batches", list_batches),
    ("GET", _BATCH, retrieve_batch),
    ("POST", f"{_BATCH}/cancel", cancel_batch),
]
