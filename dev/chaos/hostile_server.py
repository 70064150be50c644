# SPDX-License-Identifier: Apache-2.0
"""A server of responses that says whatever a text, a number or a key can do harm with, at each place."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "hostile-connection-key-1234"
"""Quoted in whatever it says, and never to be seen in a log."""
FORGED = "2026-01-01 00:00:00 ERROR forged"
NASTY = (
    f"a\ud83d\0\x1b[31m\x1b]0;title\x07\u202e\u2028\r\n{FORGED} key {KEY} Authorization: Bearer {KEY} "
    "{run_id} %s {{ dag }} <script>"
)
UNSEEN = re.compile("[\0\x1b\x07\x85\u2028\u202e\ud800-\udfff]")
RESERVED = ("__classname__", "__version__", "__data__", "__id__", "__var", "__type", "__source")
PLACES = ("create", "wait", "read", "cancel", "fail")
"""Where it is hostile; the name is in the prompt, and in the id of the response."""
ENDS = {"create": "failed", "wait": "success", "read": "success", "cancel": "failed", "fail": "failed"}
LARGE = "x" * 3_000_000


class HostileServer:
    """Listens on this machine from its making until ``close``."""

    def __init__(self) -> None:
        polls: Counter[str] = Counter()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # the name is the library's
                asked = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.path.endswith("/cancel"):
                    return self._say(500, {"error": {"message": NASTY, "code": NASTY, "type": None}})
                place = next(place for place in PLACES if f"hostile_{place}-" in asked.decode())
                if place == "create":
                    return self._say(400, {"error": {"message": NASTY, "code": NASTY, "param": NASTY}})
                run_id = f"resp_{place}_{time.monotonic_ns()}"
                return self._say(200, {"id": run_id, "status": NASTY, "model": NASTY, "metadata": NASTY})

            def do_GET(self) -> None:
                run_id = self.path.rpartition("/")[2]
                polls[run_id] += 1
                return self._say(*answer(run_id, polls[run_id]))

            def _say(self, status: int, body: Any) -> None:
                written = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status, "As said")
                self.send_header("Content-Type", "text/html" if written[:1] == b"<" else "application/json")
                self.send_header("Content-Length", str(len(written)))
                self.send_header("Retry-After", "-5")
                self.end_headers()
                self.wfile.write(written)

            def log_message(self, *_: object) -> None:
                """Say nothing here."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def connection(self) -> str:
        """Return the Airflow connection to it, as JSON."""
        address = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        template = {"run_url_template": "javascript:alert('{id}')"}
        return json.dumps({"conn_type": "openai", "password": KEY, "host": address, "extra": template})

    def close(self) -> None:
        """Hang up."""
        self._server.shutdown()
        self._server.server_close()


def answer(run_id: str, poll: int) -> tuple[int, Any]:
    """Answer a poll of a response, the first time or later."""
    place = run_id.split("_")[1]
    if place == "cancel":
        return 200, {"id": NASTY, "status": NASTY}
    if place == "fail":
        return 200, {**whole(), "status": "failed", "error": {"code": NASTY, "message": NASTY + LARGE}}
    if place == "read":
        return 200, whole()
    before: list[tuple[int, Any]] = [
        (200, {"id": NASTY, "status": NASTY + LARGE}),
        (500, {"error": {"message": NASTY, "code": NASTY}}),
        (200, b"<html>\xff\xfe " + KEY.encode()),
        (200, {"error": {"message": NASTY, "code": None}}),
        (200, b"[" * 100_000),
        (403, {"error": {"message": f"Incorrect API key provided: {KEY} {NASTY}", "code": NASTY}}),
    ]
    return before[poll - 1] if poll <= len(before) else (200, whole())


def whole() -> dict[str, Any]:
    """Return a response that has completed, with everything that is hard to carry."""
    odd: Any = {"big": 10**30, "nan": float("nan"), "inf": float("-inf"), NASTY: NASTY}
    odd |= {key: {key: "airflow.models.Variable", "__data__": NASTY} for key in RESERVED}
    text = {
        "type": "output_text",
        "text": NASTY,
        "annotations": [{"type": NASTY, "url": "javascript:1", **odd}],
    }
    return {
        "id": NASTY,
        "object": NASTY,
        "status": "completed",
        "created_at": float("inf"),
        "model": NASTY,
        "instructions": NASTY,
        "conversation": {"id": NASTY},
        "metadata": {NASTY: NASTY, **odd},
        "usage": {"input_tokens": 10**30, "output_tokens": -1, "total_tokens": NASTY, **odd},
        "tools": [{"type": NASTY, "name": NASTY, "headers": {"a": KEY}, **odd}],
        "output": [
            {"type": "message", "id": NASTY, "content": [text, {"type": "refusal", "refusal": NASTY}], **odd},
            {"type": NASTY, "id": NASTY, "status": NASTY, **odd},
            {"type": "file_search_call", "id": "fs_1", "results": [{"attributes": odd}]},
        ],
    }
