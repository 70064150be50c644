# SPDX-License-Identifier: Apache-2.0
"""What happens to a request before and after the API sees it: the log and the faults."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, JSONResponse

from airflow_provider_openai_runs.simulator.errors import error_for_status
from airflow_provider_openai_runs.simulator.faults import Fault, FaultKind
from airflow_provider_openai_runs.simulator.requestlog import LoggedRequest
from airflow_provider_openai_runs.simulator.uploads import is_multipart, read_form

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from airflow_provider_openai_runs.simulator.store import Store

_WEB_PAGE = "<html><head><title>Bad gateway</title></head><body>This is not the API.</body></html>"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_TICK = 0.02


class Middleware:
    """Logs each request to the API and lets the planned faults happen to it."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self._app = app
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = None if scope["type"] != "http" else self._api_path(scope["path"])
        if path is None:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        parsed, upload = await read_form(scope, body) if is_multipart(scope) else (_parsed(body), None)
        store = self._store
        with store.lock:
            request = LoggedRequest(
                method=scope["method"],
                path=path,
                query=_query(scope["query_string"].decode("latin-1")),
                headers=store.requests.headers(scope["headers"]),
                body=parsed,
                at=store.clock.now(),
            )
            store.requests.add(request)
            fault = store.faults.strike(request.method, path)
        scope["simulator.request"] = request
        scope["simulator.upload"] = upload

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            await send(message)

        if fault is None:
            await self._app(scope, receive, answer)
        else:
            request.fault = fault.kind
            await self._strike(fault, scope, receive, answer)

    async def _strike(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a fault happen; the kinds that never reach the API come first."""
        if fault.kind == FaultKind.STATUS:
            await _refusal(fault)(scope, receive, send)
        elif fault.kind == FaultKind.GARBAGE:
            await HTMLResponse(_WEB_PAGE)(scope, receive, send)
        elif fault.kind == FaultKind.RESET:
            await _hang_up(receive, reset=True)
        elif fault.kind == FaultKind.LOST:
            await self._answers(scope, receive)
            await _hang_up(receive)
        elif fault.kind == FaultKind.CUT:
            start, *bodies = await self._answers(scope, receive)
            await send(start)
            body = b"".join(message["body"] for message in bodies)
            half = body[: len(body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            await _hang_up(receive)
        else:
            messages = await self._answers(scope, receive)
            await self._sleep(fault.delay)
            for message in messages:
                await send(message)

    async def _answers(self, scope: Scope, receive: Receive) -> list[Message]:
        """Let the API process the request, and keep what it wants to answer: headers and body."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        return messages

    async def _sleep(self, seconds: float) -> None:
        clock = self._store.clock
        due = clock.now() + seconds
        while not self._store.closing and (left := due - clock.now()) > 0:  # noqa: ASYNC110 - the clock may be advanced
            await asyncio.sleep(min(left, _TICK))

    def _api_path(self, path: str) -> str | None:
        """Cut the base path off; None for what is not the API."""
        if path.startswith("/simulator/"):
            return None
        for prefix in self._store.options.prefixes:
            if path.startswith(f"{prefix}/"):
                return path.removeprefix(prefix)
        return path


def _refusal(fault: Fault) -> JSONResponse:
    error = error_for_status(fault.status, message=fault.message, code=fault.code)
    headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
    return JSONResponse(error.body, status_code=fault.status, headers=headers)


def _query(text: str) -> dict[str, str | list[str]]:
    """Read a query; what is named several times has a list."""
    found = parse_qs(text, keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


async def _read(receive: Receive) -> bytes:
    chunks = []
    more = True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


def _parsed(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


async def _hang_up(receive: Receive, *, reset: bool = False) -> None:
    """Close the connection below HTTP, after what was sent so far or, with `reset`, by a TCP reset.

    ASGI has no such message, but uvicorn's `receive` belongs to an object that holds the transport.
    Returns when uvicorn has noticed, because it complains about an answer that is missing before that.
    """
    transport: asyncio.Transport = receive.__self__.transport  # type: ignore[attr-defined]
    if reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
