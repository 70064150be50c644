# SPDX-License-Identifier: Apache-2.0
"""Manners of servers that the simulator does not have, on a server of a few lines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import RunCallError, RunNotFoundError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook

REF = {"kind": "response", "id": "resp_1", "conn_id": "other"}
RUNNING = {"id": "resp_1", "status": "in_progress"}
NO_ROUTE = (404, {"detail": "Not Found"})

Answers = dict[str, tuple[int, Any]]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answers], list[str]]]:
    """Serve fixed answers to "METHOD /path", everything else is 404; return the list of what is asked."""
    answers: Answers = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            asked.append(f"{self.command} {self.path}")
            status, body = answers.get(asked[-1], NO_ROUTE)
            sent = json.dumps(body).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    connection = {"conn_type": "openai", "password": "k", "host": f"http://127.0.0.1:{server.server_port}"}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))

    def serve(given: Answers) -> list[str]:
        answers.update(given)
        return asked

    yield serve
    server.shutdown()
    server.server_close()


def test_a_refusal_names_the_wrong_fields_and_not_what_stood_in_them(
    answer: Callable[[Answers], list[str]],
) -> None:
    wrong = {"loc": ["body", "tools", 0, "function"], "msg": "Field required", "input": "A secret recipe"}
    answer({"POST /responses": (422, {"detail": [wrong, {"msg": "No."}]})})

    with pytest.raises(
        RunCallError, match=r"HTTP 422: body.tools.0.function: Field required; body: No\."
    ) as caught:
        OpenAIRunsHook("other").create_background_response(input="A secret recipe")
    assert "recipe" not in str(caught.value)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_run_that_its_server_cannot_cancel_is_not_taken_for_gone(
    answer: Callable[[Answers], list[str]], status: int
) -> None:
    refusal = (status, {"detail": "Not here"})
    asked = answer({"GET /responses/resp_1": (200, RUNNING), "POST /responses/resp_1/cancel": refusal})

    with pytest.raises(RunCallError, match=f"HTTP {status}.*status in_progress.*running and billing"):
        OpenAIRunsHook("other").cancel(REF, wait=3)
    assert asked.count("POST /responses/resp_1/cancel") == 1


def test_a_run_that_has_ended_counts_as_cancelled_where_nothing_can_be(
    answer: Callable[[Answers], list[str]],
) -> None:
    answer({"GET /responses/resp_1": (200, {**RUNNING, "status": "completed"})})
    assert OpenAIRunsHook("other").cancel(REF, wait=3).raw_status == "completed"


def test_a_run_that_is_unknown_to_its_server_is_told_as_such(
    answer: Callable[[Answers], list[str]],
) -> None:
    answer({})
    with pytest.raises(RunNotFoundError, match="resp_1"):
        OpenAIRunsHook("other").cancel(REF, wait=3)
