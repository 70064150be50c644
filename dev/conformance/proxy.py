# SPDX-License-Identifier: Apache-2.0
"""Between the client and a server: counts what is asked, and loses an answer on demand."""

from __future__ import annotations

import re
import threading
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

_SECONDS = 120.0
#: These belong to one connection, and the body arrives here in one piece.
_NOT_PASSED_ON = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
)


class Proxy:
    """A context manager that serves on a port of its own; no server knows that it is being watched."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self._path = parts.path
        self._lock = threading.Lock()
        self._asked: list[str] = []
        self._lose: re.Pattern[str] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        """What a client is given in place of the server's own base URL."""
        return f"http://127.0.0.1:{self._server.server_port}{self._path}"

    def lose_next_answer(self, asked: str) -> None:
        """Let the next request that the expression matches reach the server, and nobody hear the answer."""
        with self._lock:
            self._lose = re.compile(asked)

    def note(self, asked: str) -> bool:
        """Note ``"METHOD /path"`` and tell whether its answer is to be lost."""
        with self._lock:
            self._asked.append(asked)
            if self._lose is None or not self._lose.search(asked):
                return False
            self._lose = None
            return True

    def count(self, asked: str) -> int:
        """Count the requests that the expression matches."""
        with self._lock:
            return sum(1 for line in self._asked if re.search(asked, line))


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, HTTPException):
                self.close_connection = True

        def _pass_on(self) -> None:
            lost = proxy.note(f"{self.command} {self.path.partition('?')[0]}")
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
            upstream = HTTPConnection(*proxy.upstream, timeout=_SECONDS)
            try:
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                found = answer.read()
            finally:
                upstream.close()
            if lost:
                self.close_connection = True
                return
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in _NOT_PASSED_ON:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        do_GET = do_POST = do_DELETE = _pass_on  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
            """Say nothing: the table says it all."""

    return Handler
