# SPDX-License-Identifier: Apache-2.0
"""A request ends in its time, whichever way it goes and whatever its server does in small steps."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.transport.fast_polls import FastPolls
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest
from tests.transport.scripted_server import Answer, ScriptedServer, serving

if TYPE_CHECKING:
    from pathlib import Path

#: What a request is given that does not end.
SECONDS = 0.3
REF = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="slow")
BODY = json.dumps({"id": "resp_1", "status": "in_progress"}).encode()
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


def headers() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        time.sleep(0.05)
        yield b"x-more: y\r\n"


def status_line() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 "
    while True:
        time.sleep(0.05)
        yield b"O"


def informational() -> Iterator[bytes]:
    while True:
        time.sleep(0.05)
        yield b"HTTP/1.1 103 Early Hints\r\n\r\n"


def body() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    while True:
        time.sleep(0.05)
        yield b"1\r\n \r\n"


def error() -> Iterator[bytes]:
    yield b"HTTP/1.1 500 Oh\r\ncontent-length: 10000\r\n\r\n"
    while True:
        time.sleep(0.05)
        yield b" "


def redirect() -> Iterator[bytes]:
    time.sleep(0.2)
    yield b"HTTP/1.1 307 Moved\r\nlocation: /v1/responses/resp_1\r\n"
    yield b"connection: close\r\ncontent-length: 0\r\n\r\n"


SLOW: list[Callable[[], Iterator[bytes]]] = [headers, status_line, informational, body, error, redirect]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with serving(GOOD) as scripted:
        connect(monkeypatch, f"http://127.0.0.1:{scripted.port}/v1")
        yield scripted


def connect(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_SLOW", json.dumps({"conn_type": "openai", "password": "k", "host": host})
    )


Polls = Callable[..., list[tuple[Any, float]]]


@pytest.fixture(params=["sync", "async by the SDK", "fast"])
def polls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Polls:
    """Poll twice with one client, in one of the three ways: what came of it, or its failure, and seconds."""
    from airflow_provider_openai_runs.transport.shared_client import shared  # noqa: PLC0415

    if request.param == "async by the SDK":
        monkeypatch.setattr(FastPolls, "can_serve", staticmethod(lambda _client: False))
    # The first is answered, however busy the machine is.
    requests = [replace(wire_of(REF.kind).poll(REF), timeout=seconds) for seconds in (30.0, SECONDS)]

    async def twice(send: Callable[[ApiRequest[Any]], Awaitable[Any]]) -> list[tuple[Any, float]]:
        found: list[tuple[Any, float]] = []
        for poll in requests:
            began = time.monotonic()
            try:
                came: Any = (await send(poll)).raw_status
            except ApiRequestFailed as failed:
                came = failed.failure
            found.append((came, time.monotonic() - began))
        return found

    async def sync_polls(_port: int | None) -> list[tuple[Any, float]]:
        hook = OpenAIRunsHook("slow")

        async def send(poll: ApiRequest[Any]) -> Any:
            return hook.run_flow(flows.single(poll))

        return await twice(send)

    async def async_polls(port: int | None) -> list[tuple[Any, float]]:
        async with shared(OpenAIRunsHook("slow")) as client:
            found = await twice(client.send)
        while port and is_connected(port):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        return found

    poll_twice = sync_polls if request.param == "sync" else async_polls
    return lambda closes=None: asyncio.run(poll_twice(closes))


def is_connected(port: int) -> bool:
    return any(each.raddr[1:] == (port,) for each in psutil.Process().net_connections())


def check(found: list[tuple[Any, float]]) -> None:
    (first, _), (second, seconds) = found
    assert first == "in_progress"
    assert (second.kind, second.is_transient) == ("outcome_unknown", True)
    assert "has not ended after" in second.text
    # Generous: a busy machine must not fail it, and without a limit it would be for ever.
    assert seconds < 30


@pytest.mark.parametrize("answer", SLOW, ids=lambda answer: answer.__name__)
@pytest.mark.parametrize("is_closed", [False, True], ids=["the same connection", "a new connection"])
def test_a_server_that_goes_on_for_ever_is_given_up_in_time(
    server: ScriptedServer, polls: Polls, answer: Answer, *, is_closed: bool
) -> None:
    first = GOOD.replace(b"\r\n", b"\r\nconnection: close\r\n", 1) if is_closed else GOOD
    server.hangs_up = is_closed
    server.replies = [first, answer]
    check(polls())


def test_a_proxy_that_goes_on_for_ever_is_given_up_in_time(
    server: ScriptedServer, polls: Polls, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, "http://far-away.invalid/v1")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    server.replies = [GOOD, headers]
    check(polls())


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return what a server of 127.0.0.1 needs that this process trusts by ``SSL_CERT_FILE``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(pem) + private)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_the_limit_holds_over_tls_whose_authority_the_environment_names(
    polls: Polls, monkeypatch: pytest.MonkeyPatch, certificate: ssl.SSLContext
) -> None:
    def headers_for_a_while() -> Iterator[bytes]:
        yield from islice(headers(), 20)

    with serving(GOOD, headers_for_a_while, tls=certificate) as scripted:
        connect(monkeypatch, f"https://127.0.0.1:{scripted.port}/v1")
        # A TLS connection is closed when the server has agreed; until then it would be a warning.
        check(polls(closes=scripted.port))
        assert scripted.connections == 1


# The SDK's asynchronous client leaves a transport unclosed then, which is an error here.
@pytest.mark.parametrize("polls", ["sync", "fast"], indirect=True)
def test_a_server_whose_certificate_is_not_trusted_is_not_asked(
    polls: Polls, monkeypatch: pytest.MonkeyPatch, certificate: ssl.SSLContext
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with serving(GOOD, tls=certificate) as scripted:
        connect(monkeypatch, f"https://127.0.0.1:{scripted.port}/v1")
        for failure, _ in polls():
            assert failure.kind == "not_sent"
            assert "certificate verify failed" in failure.text.lower()
        assert not scripted.heads
