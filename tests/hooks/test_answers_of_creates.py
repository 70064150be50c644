# SPDX-License-Identifier: Apache-2.0
"""What the answer to a create proves, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.response_request import response_request
from airflow_provider_openai_runs.wire import flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from tests.support.scripted_server import ScriptedServer, reply, serve

OWN = {"error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}}
NO_MODEL = {"error": {"message": "Not for your project.", "code": "model_not_found"}}
QUOTA = {"error": {"message": "Pay.", "type": "billing_not_active", "code": "billing_not_active"}}
LONG = {"error": {"message": "Too long.", "type": "server_error", "code": "context_length_exceeded"}}
DONE = {"id": "resp_1", "object": "response", "status": "completed", "output_text": "Hi"}


@pytest.fixture(name="server")
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with serve() as server:
        monkeypatch.setenv("AIRFLOW_CONN_SCRIPTED", server.connection_json)
        yield server


def create(server: ScriptedServer, status: int | str, body: bytes | Any, *headers: str) -> Any:
    written = body if isinstance(body, bytes) else json.dumps(body).encode()
    line = status if isinstance(status, str) else f"{status} As Scripted"
    server.play(lambda _: reply(written, *headers, "Connection: close", status=line))
    flow = flows.create(response_request(model="m", input="Hi"), token=None, conn_id="scripted")
    try:
        return OpenAIRunsHook("scripted").run_flow(flow)
    except ApiRequestFailed as failed:
        return failed.failure


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        (429, b"slow down", [], FailureKind.RETRY_LATER),
        (424, OWN, [], FailureKind.RETRY_LATER),
        (425, OWN, [], FailureKind.RETRY_LATER),
        (409, OWN, [], FailureKind.RETRY_LATER),
        (503, OWN, [], FailureKind.RETRY_LATER),
        (503, b"busy", ["Retry-After: 3"], FailureKind.RETRY_LATER),
        (503, b"upstream connect error", [], FailureKind.OUTCOME_UNKNOWN),
        (503, {"message": "no healthy upstream"}, [], FailureKind.OUTCOME_UNKNOWN),
        (409, b"conflict", [], FailureKind.NOT_ACCEPTED),
        (529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}, [], FailureKind.RETRY_LATER),
        (529, b"site is overloaded", [], FailureKind.OUTCOME_UNKNOWN),
        (503, {"error": "Model m is currently loading"}, [], FailureKind.RETRY_LATER),
        (503, {"error": "A tool of the model is still loading"}, [], FailureKind.OUTCOME_UNKNOWN),
        (504, {"error": {"type": "overloaded_error", "message": "late"}}, [], FailureKind.OUTCOME_UNKNOWN),
        (500, {"error": {"code": "rate_limit_exceeded", "message": "x"}}, [], FailureKind.OUTCOME_UNKNOWN),
        (500, {"error": {"code": "500", "message": "prompt is too long: 9"}}, [], FailureKind.REJECTED),
        (429, {"error": {"type": "budget_exceeded", "message": "x"}}, [], FailureKind.NO_QUOTA),
        (403, {"message": "Out of call volume quota."}, ["Retry-After: 3"], FailureKind.RETRY_LATER),
        (403, {"message": "Access denied."}, [], FailureKind.ACCESS_DENIED),
        (408, OWN, [], FailureKind.OUTCOME_UNKNOWN),
        (499, OWN, [], FailureKind.OUTCOME_UNKNOWN),
        (500, OWN, [], FailureKind.OUTCOME_UNKNOWN),
        (502, b"<html><title>Bad gateway</title></html>", [], FailureKind.OUTCOME_UNKNOWN),
        (504, OWN, [], FailureKind.OUTCOME_UNKNOWN),
        (400, OWN, [], FailureKind.REJECTED),
        (418, b"I am a teapot", [], FailureKind.REJECTED),
        (400, {"error": {"message": "x", "code": "rate_limit_exceeded"}}, [], FailureKind.NOT_ACCEPTED),
        (429, QUOTA, [], FailureKind.NO_QUOTA),
        (403, QUOTA, [], FailureKind.NO_QUOTA),
        (403, NO_MODEL, [], FailureKind.REJECTED),
        (404, NO_MODEL, [], FailureKind.REJECTED),
        (403, OWN, [], FailureKind.ACCESS_DENIED),
        (404, OWN, [], FailureKind.NOT_FOUND),
        (500, LONG, [], FailureKind.REJECTED),
        (429, LONG, [], FailureKind.REJECTED),
        (200, {"error": {"code": 402, "message": "No credits."}}, [], FailureKind.NO_QUOTA),
        (200, {"error": {"code": 429, "message": "Slow."}}, [], FailureKind.NOT_ACCEPTED),
        (200, {"error": "upstream is away"}, [], FailureKind.NOT_ACCEPTED),
        (200, {"object": "error", "message": "bad", "code": 400}, [], FailureKind.REJECTED),
        (200, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, [], "not_accepted"),
        (200, {"id": None, "status": "error", **OWN}, [], FailureKind.REJECTED),
        (200, [{"error": {"code": 400, "message": "x", "status": "INVALID_ARGUMENT"}}], [], "rejected"),
        (200, {"code": 401, "msg": "invalid api key", "data": None}, [], FailureKind.REJECTED),
        (200, {"code": "InvalidApiKey", "message": "Invalid API-key provided"}, [], FailureKind.REJECTED),
        (200, {"statusCode": 404, "message": "no Route matched"}, [], FailureKind.REJECTED),
        (200, {"error_code": 110, "error_msg": "Access token invalid"}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"errors": [{"message": "quota"}]}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"success": False, "message": "timed out"}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"detail": "Invalid token"}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"code": 504, "message": "upstream request timeout"}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"code": 409, "message": "conflict"}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"code": "INVALID_UPSTREAM_RESPONSE", "message": "x"}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"code": "BackendNotFound", "message": "x"}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"message": "Endpoint request timed out"}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"code": 0, "message": "ok", "data": {}}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"code": "SUCCESS", "message": "success", "data": DONE}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"code": 500, "message": "late", "data": DONE}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"status": "ok", "detail": "accepted"}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {"code": "Accepted", "message": "The request was queued."}, [], FailureKind.OUTCOME_UNKNOWN),
        (202, {"success": False, "message": "Queued."}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, {**DONE, "detail": "x", "success": False, "id": None}, [], FailureKind.OUTCOME_UNKNOWN),
        (200, b"<!DOCTYPE html><title>Sign in</title>", [], FailureKind.OUTCOME_UNKNOWN),
        (200, b"", [], FailureKind.OUTCOME_UNKNOWN),
    ],
)
def test_what_an_answer_proves(
    server: ScriptedServer, status: int, body: Any, headers: list[str], kind: FailureKind
) -> None:
    failure = create(server, status, body, *headers)
    assert isinstance(failure, RequestFailure)
    assert failure.kind == kind


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"error": {"code": 402, "message": "No credits."}}, "No credits"),
        ({"error": "upstream is away"}, "upstream is away"),
        (b"<!DOCTYPE html>\n<title>Sign\n in &amp; go</title>", "a web page ('Sign in & go')"),
        (b"data: {}\n\ndata: [DONE]\n\n", "the server streams"),
        (b"", "its body is empty"),
        (b"OK", "no JSON"),
        (b"upstream connect error", "begins 'upstream connect error'"),
        ({"message": "Limit exceeded"}, "it says: Limit exceeded"),
        ({"code": 401, "msg": "invalid api key"}, "invalid api key"),
        ({"error_code": 110, "error_msg": "Access token invalid"}, "Access token invalid"),
    ],
)
def test_an_answer_that_is_no_run_is_called_what_it_is(
    server: ScriptedServer, body: Any, sentence: str
) -> None:
    assert sentence in str(create(server, 200, body))


def events(*written: Any) -> bytes:
    return "".join(f"event: x\ndata: {json.dumps(event)}\n\n" for event in written).encode()


def test_a_server_that_always_streams_has_said_the_run_in_its_last_event(server: ScriptedServer) -> None:
    queued = {**DONE, "status": "queued"}
    sent = events({"type": "response.created", "response": queued}, {"response": DONE}, {"type": "done"})
    run = create(server, 200, b": hello\n\n" + sent + b"data: [DONE]\n\n")
    assert (run.ref.id, run.raw_status, run.output_text) == ("resp_1", "completed", "Hi")


def test_an_error_in_a_stream_is_the_streams_sentence(server: ScriptedServer) -> None:
    failure = create(server, 200, events({"type": "error", "code": "server_error", "message": "Oh no."}))
    assert failure.kind is FailureKind.NOT_ACCEPTED
    assert "Oh no" in failure.text


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        ("502 Bad Gateway", FailureKind.NOT_SENT, "502"),
        ("407 Proxy Authentication Required", FailureKind.ACCESS_DENIED, "refuses to connect: 407"),
        ("403 Forbidden", FailureKind.ACCESS_DENIED, "NO_PROXY"),
    ],
)
def test_a_proxy_that_refuses_to_connect_has_sent_nothing(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, status: str, kind: FailureKind, words: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url.removesuffix("/v1"))
    host = {"conn_type": "openai", "password": "sk-1", "host": "https://api.example.test/v1"}
    monkeypatch.setenv("AIRFLOW_CONN_SCRIPTED", json.dumps(host))
    failure = create(server, status, b"")
    assert (failure.kind, failure.not_accepted) == (kind, True)
    assert words in str(failure)
    assert [asked.method for asked in server.asked] == ["CONNECT"]
