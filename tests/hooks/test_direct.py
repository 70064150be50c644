# SPDX-License-Identifier: Apache-2.0
"""Looks that go past the SDK's client are the ones that it would have sent, and end as they would have."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import socketserver
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import pytest

from airflow_provider_openai_runs.hooks import OpenAIRunsHook, clients, direct
from airflow_provider_openai_runs.hooks.direct import DirectGets
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.simulator import Fault, Simulator
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply

BODY = json.dumps({"id": "resp_1", "status": "in_progress"}).encode()
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
RESPONSE = RunRef(kind=RunKind.RESPONSE, id="resp_1/ä ?", conn_id="raw")
SIMULATED = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="openai_default")
THREAD_RUN = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="raw")


@dataclass
class RawServer:
    """Answers with given bytes, in turn and the last ones for ever, and keeps what it was sent."""

    replies: list[bytes] = field(default_factory=lambda: [PLAIN])
    #: Close the connection after each reply, without having said so.
    hangs_up: bool = False
    #: Hang up with a reset in place of an orderly end.
    resets: bool = False
    #: Say this some time after a reply, without having been asked.
    last_words: bytes = b""
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    port: int = 0


@pytest.fixture
def raw() -> Iterator[RawServer]:
    """Serve bytes over HTTP."""
    server = RawServer()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            server.connections += 1
            while head := self._head():
                server.heads.append(head)
                reply = server.replies.pop(0) if len(server.replies) > 1 else server.replies[0]
                self.wfile.write(reply)
                if server.last_words:
                    time.sleep(0.05)  # not together with the reply
                    self.wfile.write(server.last_words)
                if server.resets:
                    at_once = struct.pack("ii", 1, 0)
                    self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                    self.request.close()
                if server.hangs_up or server.resets:
                    return

        def _head(self) -> str:
            lines = b""
            while not lines.endswith(b"\r\n\r\n"):
                if not (line := self.rfile.readline()):
                    return ""
                lines += line
            return lines.decode()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as listening:
        server.port = listening.server_address[1]
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        listening.shutdown()


@pytest.fixture
def connection(raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Point the connection to the raw server, with more settings if given."""

    def connect(extra: dict[str, Any] | None = None, **fields: Any) -> None:
        where = {"conn_type": "openai", "password": "sk-raw", "host": f"http://127.0.0.1:{raw.port}/v1"}
        monkeypatch.setenv("AIRFLOW_CONN_RAW", json.dumps({**where, "extra": extra or {}, **fields}))

    connect()
    return connect


def poll(*refs: RunRef, pause: float = 0.0, conn_id: str = "raw") -> list[Any]:
    """Look at runs, one after the other, with one client; a look that fails gives its trouble."""

    async def all_of_them() -> list[Any]:
        found: list[Any] = []
        async with clients.shared(OpenAIRunsHook(conn_id)) as client:
            for ref in refs:
                try:
                    found.append(await client.send(wire_of(ref.kind).poll(ref)))
                except ApiRequestFailed as failed:
                    found.append(failed.failure)
                await asyncio.sleep(pause)
        return found

    return asyncio.run(all_of_them())


def without_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DirectGets, "can_serve", staticmethod(lambda _client: False))


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        "openai_client_kwargs": {
            "organization": "org-1",
            "project": "proj_1",
            "default_headers": {"api-key": "azure", "X-Team": "data"},
            "default_query": {"api-version": "v1", "more": "ä&b"},
        }
    },
    "a key without a password": {"openai_client_kwargs": {"api_key": "sk-other"}},
    "a key that a function provides": {"api_key_provider": "company_keys.token"},
}

UNWRITABLE: dict[str, dict[str, Any]] = {
    "a key with a line break": {"password": "sk-one\nsecret"},
    "a key with a curly quote": {"password": "secret\u2019"},
    "a header with a line break": {
        "extra": {"openai_client_kwargs": {"default_headers": {"key": "secret\n"}}}
    },
}


@pytest.fixture(autouse=True)
def company_keys(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Be the module of a company that provides keys."""
    module = ModuleType("company_keys")
    monkeypatch.setattr(module, "token", lambda: "sk-provided", raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize("ref", [RESPONSE, THREAD_RUN], ids=["response", "thread run"])
@pytest.mark.parametrize("extra", SETTINGS.values(), ids=SETTINGS)
def test_a_look_sends_what_the_sdk_sends(
    raw: RawServer,
    connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    ref: RunRef,
    extra: dict[str, Any],
) -> None:
    connection(extra)
    poll(ref)
    without_direct(monkeypatch)
    poll(ref)

    ours, sdks = ([line for line in head.splitlines() if line] for head in raw.heads)
    assert ours[0] == sdks[0]
    assert "accept-encoding: identity" in {line.lower() for line in ours}

    def others(lines: list[str]) -> set[str]:
        # The SDK asks for compressed bodies, and says how long it would wait.
        own = {"accept-encoding", "x-stainless-read-timeout"}
        split = (line.partition(": ") for line in lines[1:])
        return {f"{name.lower()}: {value}" for name, _, value in split if name.lower() not in own}

    assert others(ours) == others(sdks)


def test_looks_use_one_connection_again(raw: RawServer, connection: Callable[..., None]) -> None:
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 5)] == ["in_progress"] * 5
    assert raw.connections == 1


def test_a_connection_that_the_server_has_closed_is_replaced_without_trouble(
    raw: RawServer, connection: Callable[..., None]
) -> None:
    raw.hangs_up = True
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 3, pause=0.05)] == ["in_progress"] * 3
    assert len(raw.heads) == 3


def test_a_connection_that_was_reset_while_idle_is_replaced_without_trouble(
    raw: RawServer, connection: Callable[..., None]
) -> None:
    raw.resets = True
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 3, pause=0.05)] == ["in_progress"] * 3
    assert len(raw.heads) == 3


def test_a_failure_closes_the_idle_connections_which_may_have_broken_with_it(
    raw: RawServer, connection: Callable[..., None]
) -> None:
    async def idle_after_a_failure() -> list[int]:
        async with clients.shared(OpenAIRunsHook("raw")) as client:
            call = wire_of(RESPONSE.kind).poll(RESPONSE)
            await asyncio.gather(*(client.send(call) for _ in range(3)))
            assert client._client is not None
            assert client._client._direct is not None
            idle = client._client._direct._idle
            found = [len(idle)]
            raw.replies = [b"no HTTP\r\n\r\n"]
            with pytest.raises(ApiRequestFailed):
                await client.send(call)
            return [*found, len(idle)]

    assert asyncio.run(idle_after_a_failure()) == [3, 0]


@pytest.mark.parametrize("together", [True, False], ids=["with the reply", "after it"])
def test_what_a_server_says_unasked_is_not_the_answer_to_the_next_look(
    raw: RawServer, connection: Callable[..., None], *, together: bool
) -> None:
    unasked = PLAIN.replace(b"in_progress", b"cancelled!!")
    if together:
        raw.replies = [PLAIN + unasked]
    else:
        raw.last_words = unasked
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 3, pause=0.2)] == ["in_progress"] * 3
    assert raw.connections == 3


def test_a_goodbye_to_an_idle_connection_is_no_failed_look(
    raw: RawServer, connection: Callable[..., None]
) -> None:
    raw.last_words = b"HTTP/1.1 408 Request Time-out\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    raw.hangs_up = True
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 3, pause=0.2)] == ["in_progress"] * 3


def test_headers_are_read_that_the_sdk_would_read(raw: RawServer, connection: Callable[..., None]) -> None:
    raw.replies = [PLAIN.replace(b"\r\n", b"\r\nx-long: " + b"x" * 80_000 + b"\r\n", 1)]
    assert poll(RESPONSE)[0].raw_status == "in_progress"


def test_an_address_that_does_not_answer_does_not_hide_one_that_does(
    raw: RawServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection(host=f"http://two-addresses.test:{raw.port}/v1")
    call = replace(wire_of(RESPONSE.kind).poll(RESPONSE), timeout=5)
    dead, alive = ((socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", raw.port)) for n in (2, 1))

    async def resolve(*_args: Any, **_kwargs: Any) -> list[Any]:
        return [dead, alive]

    async def find() -> Any:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        async with clients.shared(OpenAIRunsHook("raw")) as client:
            return await client.send(call)

    with contextlib.ExitStack() as stack:
        # A listener whose queue is full leaves who knocks without an answer.
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.2", raw.port))
        full.listen(0)
        for _ in range(4):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(full.getsockname())
        assert asyncio.run(find()).raw_status == "in_progress"


def test_a_body_in_chunks_is_read(raw: RawServer, connection: Callable[..., None]) -> None:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:]))
    raw.replies = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"]
    assert [observed.raw_status for observed in poll(RESPONSE, RESPONSE)] == ["in_progress"] * 2


def test_a_redirect_is_left_to_the_sdk_which_follows_it(
    raw: RawServer, connection: Callable[..., None]
) -> None:
    moved = b"HTTP/1.1 307 Moved\r\nlocation: /v1/elsewhere\r\ncontent-length: 0\r\n\r\n"
    raw.replies = [moved, moved, PLAIN]
    assert poll(RESPONSE)[0].raw_status == "in_progress"
    assert [head.split()[1] for head in raw.heads][-1] == "/v1/elsewhere"


def test_a_body_that_is_too_large_is_not_read_to_its_end(
    raw: RawServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "MAX_BODY", 100)
    # More is announced than ever comes: whoever waits for it waits for long.
    raw.replies = [b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n" + b" " * 1000]
    (failure,) = poll(RESPONSE)
    assert (failure.kind, failure.is_transient) == ("no_answer", True)
    assert "more than 100 bytes" in failure.text


def test_the_status_of_an_error_counts_however_large_it_is(
    raw: RawServer, connection: Callable[..., None]
) -> None:
    raw.replies = [b"HTTP/1.1 404 No\r\ncontent-length: 100000000\r\n\r\n" + b" " * 100_000]
    (failure,) = poll(RESPONSE)
    assert (failure.kind, failure.http_status) == ("not_found", 404)


def test_behind_a_proxy_the_sdk_looks(
    raw: RawServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection(host="http://far-away.invalid/v1")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{raw.port}")
    assert poll(RESPONSE)[0].raw_status == "in_progress"
    assert raw.heads[0].startswith("GET http://far-away.invalid/v1/responses/")


def test_a_server_that_no_proxy_excepts_is_asked_directly(
    raw: RawServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert poll(RESPONSE)[0].raw_status == "in_progress"
    assert "accept-encoding: identity" in raw.heads[0].lower()


def test_a_provided_key_is_asked_for_again_when_it_is_refused(
    raw: RawServer,
    connection: Callable[..., None],
    company_keys: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\n{}"
    raw.replies = [PLAIN, refused, PLAIN]
    keys = iter(["sk-1", "sk-2", "sk-3"])
    connection({"api_key_provider": "company_keys.token"}, password=None)
    monkeypatch.setattr(company_keys, "token", lambda: next(keys))

    assert [observed.raw_status for observed in poll(RESPONSE, RESPONSE)] == ["in_progress"] * 2
    sent = [line for head in raw.heads for line in head.splitlines() if line.lower().startswith("authori")]
    assert [line.split()[-1] for line in sent] == ["sk-1", "sk-1", "sk-2"]


FAULTS = [
    Fault(status=400, message="No."),
    Fault(status=403),
    Fault(status=404),
    Fault(status=409),
    Fault(status=429, retry_after=7),
    Fault(status=429, code="insufficient_quota"),
    Fault(status=500),
    Fault(status=503, message=""),
    Fault(kind="garbage"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.code}")
def test_trouble_is_the_same_as_with_the_sdk(
    openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    openai_runs_simulator.fault(*[fault] * 3)
    ours = poll(SIMULATED, conn_id="openai_default")
    without_direct(monkeypatch)
    assert ours == poll(SIMULATED, conn_id="openai_default")


@pytest.mark.parametrize("kind", ["reset", "lost", "cut"])
def test_a_broken_answer_is_no_answer(openai_runs_simulator: Simulator, kind: str) -> None:
    openai_runs_simulator.fault(Fault(kind=kind, times=2))
    (failure,) = poll(SIMULATED, conn_id="openai_default")
    assert failure.kind == "no_answer"


def test_a_server_that_is_not_there_was_not_reached(
    connection: Callable[..., None],
) -> None:
    connection(host="http://127.0.0.1:9/v1")
    (failure,) = poll(RESPONSE)
    assert failure.kind == "not_sent"
    assert "ConnectError" in failure.text


def test_white_space_around_a_key_is_not_part_of_it(
    raw: RawServer, connection: Callable[..., None], company_keys: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection(password=" sk-stray\n")
    assert poll(RESPONSE)[0].raw_status == "in_progress"
    monkeypatch.setattr(company_keys, "token", lambda: "sk-stray\n")
    connection({"api_key_provider": "company_keys.token"})
    assert poll(RESPONSE)[0].raw_status == "in_progress"
    assert all("bearer sk-stray\r\n" in head.lower() for head in raw.heads)


@pytest.mark.parametrize("directly", [True, False], ids=["directly", "by the SDK"])
@pytest.mark.parametrize("settings", UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_header_that_cannot_be_written_is_trouble_that_does_not_show_it(
    raw: RawServer,
    connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    *,
    directly: bool,
) -> None:
    connection(**settings)
    if not directly:
        without_direct(monkeypatch)
    (failure,) = poll(RESPONSE)
    assert (failure.kind, failure.http_status) == ("key_refused", None)
    assert "Mend the connection" in failure.text
    assert "secret" not in failure.text
    assert not raw.heads

    with pytest.raises(ApiRequestFailed) as caught:
        OpenAIRunsHook("raw").run_flow(flows.single(wire_of(RESPONSE.kind).poll(RESPONSE)))
    assert caught.value.failure == failure
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("directly", [True, False], ids=["directly", "by the SDK"])
def test_an_error_that_nobody_expects_is_no_answer_and_logged_once_without_its_text(
    raw: RawServer,
    connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    directly: bool,
) -> None:
    if not directly:
        without_direct(monkeypatch)

    def read(_reply: ApiReply) -> Any:
        raise KeyError("secret")

    call = replace(wire_of(RESPONSE.kind).poll(RESPONSE), read=read)

    async def twice() -> list[ApiRequestFailed]:
        found = []
        async with clients.shared(OpenAIRunsHook("raw")) as client:
            for _ in range(2):
                with pytest.raises(ApiRequestFailed) as caught:
                    await client.send(call)
                found.append(caught.value)
        return found

    for failed in asyncio.run(twice()):
        assert failed.failure.kind == "no_answer"
        assert "KeyError" in failed.failure.text
        assert "secret" not in "".join(traceback.format_exception(failed))
    (line,) = [record.getMessage() for record in caplog.records if "KeyError" in record.getMessage()]
    assert "test_direct.py" in line
    assert "secret" not in line.replace('KeyError("secret")', "")
