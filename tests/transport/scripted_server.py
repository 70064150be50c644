# SPDX-License-Identifier: Apache-2.0
"""A server that answers with the bytes that a test gives it, and keeps what it was sent."""

from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

#: A whole reply, or its pieces, which are sent until the client hangs up.
Answer = bytes | Callable[[], Iterator[bytes]]


@dataclass
class ScriptedServer:
    """Answers in turn, and with the last answer for ever."""

    replies: list[Answer] = field(default_factory=list)
    #: Close the connection after each reply, without having said so.
    hangs_up: bool = False
    #: Hang up with a reset in place of an orderly end.
    resets: bool = False
    #: Say this some time after a reply, without having been asked.
    last_words: bytes = b""
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, script: ScriptedServer, tls: ssl.SSLContext | None) -> None:
        self.script, self.tls = script, tls
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        approval_request, address = super().get_request()
        if self.tls is not None:
            approval_request = self.tls.wrap_socket(approval_request, server_side=True)
        return approval_request, address


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        script = self.server.script
        script.connections += 1
        while head := self._head():
            script.heads.append(head)
            reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
            try:
                for piece in [reply] if isinstance(reply, bytes) else reply():
                    self.connection.sendall(piece)
            except OSError:
                return  # the client has hung up
            if script.last_words:
                time.sleep(0.05)  # not together with the reply
                self.wfile.write(script.last_words)
            if script.resets:
                at_once = struct.pack("ii", 1, 0)
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                self.request.close()
            if script.hangs_up or script.resets:
                return

    def _head(self) -> str:
        """Read a request, with its body if it has one."""
        lines: list[bytes] = []
        while line := self.rfile.readline().strip():
            lines.append(line)
        lengths = [line.partition(b":")[2] for line in lines if line.lower().startswith(b"content-length")]
        self.server.script.bodies.append(self.rfile.read(int(lengths[0]) if lengths else 0))
        return "".join(f"{line.decode()}\r\n" for line in lines)


@contextmanager
def serving(*replies: Answer, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """Serve until the end of the block."""
    script = ScriptedServer(list(replies))
    with _Server(script, tls) as listening:
        script.port = listening.server_address[1]
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield script
        listening.shutdown()
