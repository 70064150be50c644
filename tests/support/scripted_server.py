# SPDX-License-Identifier: Apache-2.0
"""An HTTP server whose every answer a test writes: for manners, good and bad, that the simulator lacks."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

#: A status and a JSON body, or raw bytes in pieces.
Answer = tuple[int, Any] | Iterable[bytes]
_JSON = ("Content-Type: application/json", "Connection: close")
NO_ROUTE: Answer = (404, {"detail": "Not Found"})


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request; ``path`` is without its ``query``, ``body`` is JSON or None, ``key`` the bearer's."""

    method: str
    path: str
    body: Any
    query: str = ""
    key: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


#: Answers by "METHOD /path" (anything else is 404), or a function that answers every request.
Script = Mapping[str, Answer] | Callable[[Asked], Answer]


class ScriptedServer:
    """
    Plays one script after another, and keeps what it was asked.

    :ivar asked: the requests since the script began, oldest first.
    :ivar bytes_sent: how much has been sent since then, until the client hung up.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[Asked] = []
        self.bytes_sent = 0
        self._script: Script = {}

    @property
    def connection_json(self) -> str:
        """The Airflow connection to it, as text for an ``AIRFLOW_CONN_...`` variable."""
        return json.dumps({"conn_type": "openai", "password": "k", "host": self.url})

    def play(self, script: Script) -> None:
        """Answer as this script says from now on."""
        self._script, self.asked, self.bytes_sent = script, [], 0

    def count(self, request: str) -> int:
        """Count the requests that read so, as in "POST /responses"."""
        return [str(asked) for asked in self.asked].count(request)

    def bodies(self) -> list[Any]:
        """Return the JSON bodies that were sent."""
        return [asked.body for asked in self.asked if asked.body is not None]

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        script = self._script
        return script.get(str(asked), NO_ROUTE) if isinstance(script, Mapping) else script(asked)


def reply(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> Iterator[bytes]:
    """
    Yield a raw answer.

    :param headers: lines beside that of the length.
    :param length: what the answer claims to be long; the truth if it is None.
    """
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    yield "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def serve() -> Iterator[ScriptedServer]:
    """Serve on a free port, in threads."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            """Answer one request, and close the connection: no client has to be closed for it."""
            head = list(iter(lambda: self.rfile.readline().strip(), b""))
            if not head:
                return
            lengths = [line.partition(b":")[2] for line in head if line.lower().startswith(b"content-length")]
            keys = [line.split()[-1].decode() for line in head if line.lower().startswith(b"authorization")]
            read = self.rfile.read(int(lengths[0]) if lengths else 0)
            method, target = head[0].decode().split()[:2]
            body = json.loads(read) if read else None
            path, _, query = target.partition("?")
            asked = Asked(method=method, path=path, body=body, query=query, key="".join(keys))
            answer = server.answer(asked)
            if isinstance(answer, tuple):
                status, value = answer
                answer = reply(json.dumps(value).encode(), *_JSON, status=f"{status} As Scripted")
            with suppress(OSError):  # the client has hung up, as it may
                for piece in answer:
                    self.connection.sendall(piece)
                    server.bytes_sent += len(piece)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as listening:
        server = ScriptedServer(f"http://127.0.0.1:{listening.server_address[1]}")
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        listening.shutdown()
