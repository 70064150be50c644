# SPDX-License-Identifier: Apache-2.0
"""The ASGI application: routes, keys and the shape of every answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from airflow_provider_openai_runs.simulator import (
    assistants,
    batches,
    containers,
    conversations,
    files,
    models,
    responses,
    runs,
    threads,
)
from airflow_provider_openai_runs.simulator.content import media_type
from airflow_provider_openai_runs.simulator.control import control_routes
from airflow_provider_openai_runs.simulator.errors import ApiError, unknown_url
from airflow_provider_openai_runs.simulator.exchange import ApiReply, ApiRequest, Download
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.middleware import Middleware

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from airflow_provider_openai_runs.simulator.exchange import Handler
    from airflow_provider_openai_runs.simulator.store import Store

_TICK = 0.02


def create_app(store: Store) -> ASGIApp:
    """Build the server around a store."""
    legacy = [] if store.options.no_threads else [*runs.ROUTES, *threads.ROUTES, *assistants.ROUTES]
    table = [
        *responses.ROUTES,
        *legacy,
        *conversations.ROUTES,
        *containers.ROUTES,
        *files.ROUTES,
        *batches.ROUTES,
        *models.ROUTES,
    ]
    beta = {path for _, path, _ in legacy}
    routes = list(control_routes(store))
    for prefix in store.options.prefixes:
        for method, path, handler in table:
            needs_beta = path in beta and not prefix.startswith("/openai")
            endpoint = _Endpoint(store, handler, needs_beta=needs_beta)
            routes.append(Route(prefix + path, endpoint.answer, methods=[method]))
    handlers: Any = {404: _unknown_url, 405: _unknown_url, ApiError: _refuse}
    return Middleware(Starlette(routes=routes, exception_handlers=handlers), store)


class _Endpoint:
    """One route: checks who asks, calls the handler, and waits until the reply is ready."""

    def __init__(self, store: Store, handler: Handler, *, needs_beta: bool) -> None:
        self._store = store
        self._handler = handler
        self._needs_beta = needs_beta

    async def answer(self, request: Request) -> Response:
        store = self._store
        _check_key(request, store.options.require_key)
        if self._needs_beta:
            _check_beta(request)
        with store.lock:
            asked = ApiRequest(
                ids=request.path_params,
                query=dict(request.query_params),
                body=_body(request.scope["simulator.request"].body),
                now=store.clock.now(),
                include=_include(request),
                upload=request.scope["simulator.upload"],
            )
            reply = self._handler(store, asked)
        if isinstance(reply, ApiReply):
            # As of when it was asked: a busy machine may take longer to answer than a quick run lasts.
            is_ready = reply.ready_at <= asked.now
            await self._until_ready(reply, request)
            with store.lock:
                now = asked.now if is_ready else store.clock.now()
                return _json(reply.body(now), headers=dict(reply.headers))
        return _download(reply) if isinstance(reply, Download) else _json(reply)

    async def _until_ready(self, reply: ApiReply, request: Request) -> None:
        """Wait in small steps, because the clock may be advanced and the client may drop the connection."""
        clock = self._store.clock
        while (left := reply.ready_at - clock.now()) > 0:
            if self._store.closing or await request.is_disconnected():
                reply.dropped(clock.now())
                return
            await asyncio.sleep(min(left, _TICK))


def _json(body: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body, status_code=status, headers=_headers() | (headers or {}))


def _download(file: Download) -> StreamingResponse:
    return StreamingResponse(
        file.content.chunks(),
        media_type=media_type(file.filename),
        headers={
            **_headers(),
            "content-length": str(file.content.size),
            "content-disposition": f"attachment; filename=\"file\"; filename*=UTF-8''{quote(file.filename)}",
        },
    )


def _headers() -> dict[str, str]:
    return {"x-request-id": new_id("req", length=32), "openai-version": "2020-10-01"}


def _include(request: Request) -> frozenset[str]:
    query = request.query_params
    return frozenset([*query.getlist("include[]"), *query.getlist("include")])


def _body(body: Any) -> dict[str, Any]:
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise ApiError("We could not parse the JSON body of your request: an object is expected.")
    return body


def _check_key(request: Request, required: str | None) -> None:
    authorization = request.headers.get("authorization", "")
    key = request.headers.get("api-key") or authorization.removeprefix("Bearer ").strip()
    if not key:
        message = "You didn't provide an API key: send it as 'Authorization: Bearer YOUR_KEY'."
        raise ApiError(message, status=401)
    if required is not None and key != required:
        shown = f"{key[:3]}***{key[-2:]}" if len(key) > len("sk-....") else "***"
        raise ApiError(f"Incorrect API key provided: {shown}.", status=401, code="invalid_api_key")


def _check_beta(request: Request) -> None:
    if "assistants=v2" not in request.headers.get("openai-beta", ""):
        message = (
            "You must provide the 'OpenAI-Beta' header to access the Assistants API. "
            "Please try again by setting the header 'OpenAI-Beta: assistants=v2'."
        )
        raise ApiError(message, code="invalid_beta")


async def _refuse(_request: Request, error: Exception) -> JSONResponse:
    """Answer an ApiError."""
    if not isinstance(error, ApiError):  # pragma: no cover - starlette hands over what it was asked to
        raise error
    return _json(error.body, status=error.status, headers=error.headers)


async def _unknown_url(request: Request, _error: Exception) -> JSONResponse:
    """Answer a URL or method that is not served."""
    return _json(unknown_url(request.method, request.url.path).body, status=404)
