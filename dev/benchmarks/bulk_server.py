# SPDX-License-Identifier: Apache-2.0
"""
A bare server of background responses that knows how long each takes, and counts: cheap, as ``server`` is.

The first number in a response's input is its item, and says how long it takes. ``GET /counts`` tells what was
asked so far.

    python -m dev.benchmarks.bulk_server '{"shortest": 10, "longest": 60, "port": 0}'

It prints its port, and ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_NUMBER = re.compile(rb'"input":\s*"\D*(\d+)')
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_TEXT = "The disk of the node that loads the orders is full. " * 10
_RESPONSE = {
    "object": "response",
    "created_at": 1795305600,
    "background": True,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "model": "gpt-6-luna",
    "parallel_tool_calls": True,
    "metadata": {},
    "tool_choice": "auto",
    "tools": [],
}
_OUTPUT = {
    "type": "message",
    "id": "msg_0",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": _TEXT, "annotations": []}],
}
_USAGE = {"input_tokens": 200, "output_tokens": 120, "total_tokens": 320}


def seconds_of(number: int, *, shortest: float, longest: float) -> float:
    """Return how long an item takes: whoever asks."""
    return random.Random(number).uniform(shortest, longest)  # noqa: S311 # the same for every contender


@dataclass(slots=True)
class Job:
    """A response; times are Unix seconds."""

    number: int
    created_at: float
    ends_at: float
    polls: int = 0
    seen_at: float | None = None
    cancelled: bool = False


@dataclass(kw_only=True)
class Service:
    """All responses, and what was asked; ``delay`` is of every answer, in seconds."""

    shortest: float
    longest: float
    delay: float = 0.05
    port: int = 0
    jobs: list[Job] = field(default_factory=list)
    requests: int = 0

    def answer(self, head: bytes, body: bytes) -> tuple[float, bytes]:
        """Return the delay of an answer, and the answer."""
        method, path = head.split(b" ", 2)[:2]
        if path == b"/counts":
            return 0.0, _http(self.counts())
        self.requests += 1
        if method == b"POST" and path.endswith(b"/responses"):
            return self.delay, _http(self._create(body))
        pieces = path.partition(b"?")[0].split(b"/")
        index = int(pieces[-2 if method == b"POST" else -1].partition(b"_")[2])
        job = self.jobs[index]
        if method == b"POST":
            job.cancelled = job.cancelled or time.time() < job.ends_at
        else:
            job.polls += 1
        return self.delay, _http({**_RESPONSE, "id": f"resp_{index}", **self._shown(job)})

    def _create(self, body: bytes) -> dict[str, Any]:
        found = _NUMBER.search(body)
        number, now = int(found[1]) if found else 0, time.time()
        self.jobs.append(Job(number, now, now + self._seconds(number)))
        return {**_RESPONSE, "id": f"resp_{len(self.jobs) - 1}", "status": "queued", "output": []}

    def _seconds(self, number: int) -> float:
        return seconds_of(number, shortest=self.shortest, longest=self.longest)

    def _shown(self, job: Job) -> dict[str, Any]:
        now = time.time()
        if job.cancelled or now < job.ends_at:
            return {"status": "cancelled" if job.cancelled else "in_progress", "output": []}
        job.seen_at = job.seen_at or now
        return {"status": "completed", "output": [_OUTPUT], "usage": _USAGE}

    def counts(self) -> dict[str, Any]:
        """Tell what was asked so far."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        per_item = Counter(job.number for job in self.jobs)
        return {
            "requests": self.requests,
            "created": len(self.jobs),
            "items": len(per_item),
            "twice": sum(count - 1 for count in per_item.values()),
            "seen": sum(job.seen_at is not None for job in self.jobs),
            "cancelled": sum(job.cancelled for job in self.jobs),
            "cpu": used.ru_utime + used.ru_stime,
            "jobs": [[job.number, job.created_at, job.ends_at, job.polls, job.seen_at] for job in self.jobs],
        }


def _http(body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    return head.encode() + text


class Connection(asyncio.Protocol):
    """One connection: requests one after another."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request when it is whole."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        delay, answer = self._service.answer(head, body)
        asyncio.get_running_loop().call_later(delay, self._send, answer)

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def serve(service: Service) -> None:
    """Serve until standard input is closed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", service.port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve."""
    gc.disable()
    asyncio.run(serve(Service(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
