# SPDX-License-Identifier: Apache-2.0
"""
A bare server that answers polls and counts them: cheap enough not to be what is measured.

It keeps no runs. The id of a run says when it ends (``resp_7_1795305600000``: Unix milliseconds), so that lag
can be computed from the id alone. Besides, it can go away and come back, and refuse one poll with a 429.

    python -m dev.benchmarks.server '{"delay": 0.05, "away": [60, 360], "busy": [60, 10]}'

With ``"ends_from": null`` the ids count from a moment that is not known yet: ``GET /ends_from/<Unix time>``
names it. ``GET /first_polls`` says when each run was first asked for.

It prints its port, and its counts as JSON when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_TEXT = "Name three things to check first when a pipeline is late, and say why, in one sentence each. " * 8
_RESPONSE = {
    "id": "resp_0",
    "object": "response",
    "created_at": 1795305600,
    "background": True,
    "error": None,
    "incomplete_details": None,
    "instructions": _TEXT,
    "model": "gpt-6-luna",
    "output": [],
    "parallel_tool_calls": True,
    "metadata": {"openai_run": "0123456789abcdef/0123456789abcdef"},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": None,
}
_BATCH = {"id": "batch_0", "object": "batch", "created_at": 1795305600, "endpoint": "/v1/responses"}
_SESSION = {"id": "session_0", "object": "agent.session", "status": "running", "required_actions": []}
_TURN = {"id": "turn_0", "object": "agent.session.turn", "usage": None, "error": None}


def _http(status: str, body: dict[str, Any], *headers: str) -> bytes:
    text = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(text)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + text


def _turns(status: str) -> bytes:
    return _http("200 OK", {"object": "list", "data": [_TURN | {"status": status}], "has_more": False})


#: What is asked for, by the first letters of the path's last piece: still going on, ended.
_ANSWERS = {
    b"resp": [_http("200 OK", _RESPONSE | {"status": status}) for status in ("in_progress", "completed")],
    b"batc": [_http("200 OK", _BATCH | {"status": status}) for status in ("in_progress", "completed")],
    b"sess": [_http("200 OK", _SESSION | {"status": status}) for status in ("running", "idle")],
    b"turn": [_turns(status) for status in ("in_progress", "completed")],
}


@dataclass
class Counts:
    """What was asked; seconds count from the first request."""

    #: Seconds that every answer takes.
    delay: float
    #: From when until when nobody answers.
    away: tuple[float, float] | None = None
    #: From when on the ids count, in Unix seconds; None: no run ends before it is named.
    ends_from: float | None = 0.0
    #: When one poll is refused, and the seconds of its ``Retry-After``.
    busy: tuple[float, float] | None = None
    began: float = 0.0
    per_second: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    connections: int = 0
    opened: int = 0
    most: int = 0
    #: Polls between a 429 and the end of its ``Retry-After``, without those that were on their way.
    too_early: int = 0
    refused_at: float | None = None
    #: Unix seconds, by run.
    first_polls: dict[bytes, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the counts."""
        last = max(self.per_second, default=0)
        names = ("requests", "opened", "most", "too_early", "refused_at")
        return {name: getattr(self, name) for name in names} | {
            "per_second": [self.per_second[second] for second in range(last + 1)]
        }


class Connection(asyncio.Protocol):
    """One connection: GET requests without bodies, one after another."""

    def __init__(self, counts: Counts, connections: set[Connection]) -> None:
        self._counts = counts
        self._connections = connections
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self.transport: Any = transport
        self._connections.add(self)
        self._counts.opened += 1
        self._counts.most = max(self._counts.most, len(self._connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        del exc
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Answer a request after the delay."""
        self._received += data
        if not self._received.endswith(b"\r\n\r\n"):
            return
        path = self._received.split(b" ", 2)[1]
        self._received = b""
        if path.startswith((b"/ends_from/", b"/first_polls")):
            self._send(self._control(path))
            return
        answer = self._answer(path)
        asyncio.get_running_loop().call_later(self._counts.delay, self._send, answer)

    def _control(self, path: bytes) -> bytes:
        if path.startswith(b"/ends_from/"):
            self._counts.ends_from = float(path.rsplit(b"/", 1)[1])
        return _http("200 OK", {"first_polls": sorted(self._counts.first_polls.values())})

    def _answer(self, path: bytes) -> bytes:
        counts, now = self._counts, time.time()
        counts.began = counts.began or now
        second = now - counts.began
        counts.requests += 1
        counts.per_second[int(second)] += 1
        if counts.busy is not None:
            at, retry_after = counts.busy
            if counts.refused_at is None and second >= at:
                counts.refused_at = second
                return _http(
                    "429 Too Many Requests",
                    {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}},
                    f"retry-after: {retry_after:g}",
                )
            if counts.refused_at is not None:
                # Twice the delay: those that had left before the refusal arrived.
                since = second - counts.refused_at
                counts.too_early += 2 * counts.delay + 0.1 < since < retry_after
        pieces = path.partition(b"?")[0].split(b"/")
        run = pieces[-2] if pieces[-1] == b"turns" else pieces[-1]
        counts.first_polls.setdefault(run, now)
        ends_from = float("inf") if counts.ends_from is None else counts.ends_from
        return _ANSWERS[pieces[-1][:4]][now >= ends_from + int(run.rsplit(b"_", 1)[1]) / 1000]

    def _send(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


async def serve(counts: Counts) -> None:
    """Serve until standard input is closed."""
    loop = asyncio.get_running_loop()
    connections: set[Connection] = set()
    server = await loop.create_server(lambda: Connection(counts, connections), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    leaving = asyncio.create_task(_go_away(counts, connections, server, port))
    await loop.run_in_executor(None, sys.stdin.read)
    leaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving


async def _go_away(counts: Counts, connections: set[Connection], server: Any, port: int) -> None:
    if counts.away is None:
        return
    gone, back = counts.away
    while not counts.began or time.time() < counts.began + gone:  # noqa: ASYNC110 # it begins when it is asked
        await asyncio.sleep(0.1)
    server.close()
    for connection in list(connections):
        connection.transport.abort()
    await asyncio.sleep(counts.began + back - time.time())
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Connection(counts, connections), "127.0.0.1", port, backlog=4096)


def main() -> None:
    """Serve, then print the counts."""
    gc.disable()
    counts = Counts(**json.loads(sys.argv[1]))
    asyncio.run(serve(counts))
    print(json.dumps(counts.to_json()), flush=True)


if __name__ == "__main__":
    main()
