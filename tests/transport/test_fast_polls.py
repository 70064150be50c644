# SPDX-License-Identifier: Apache-2.0
"""Polls that go past the SDK's client are the ones that it would have sent, and end as they would have."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.simulator import Fault, Simulator
from airflow_provider_openai_runs.transport import limits
from airflow_provider_openai_runs.transport.fast_polls import FastPolls
from airflow_provider_openai_runs.transport.shared_client import shared
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply
from tests.transport.scripted_server import ScriptedServer, serving

BODY = json.dumps({"id": "resp_1", "status": "in_progress"}).encode()
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
RESPONSE = RunRef(kind=RunKind.RESPONSE, id="resp_1/ä ?", conn_id="raw")
SIMULATED = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="openai_default")
THREAD_RUN = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="raw")


@pytest.fixture
def raw() -> Iterator[ScriptedServer]:
    """Serve bytes over HTTP."""
    with serving(PLAIN) as server:
        yield server


@pytest.fixture
def connection(raw: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Point the connection to the raw server, with more settings if given."""

    def connect(extra: dict[str, Any] | None = None, **fields: Any) -> None:
        where = {"conn_type": "openai", "password": "sk-raw", "host": f"http://127.0.0.1:{raw.port}/v1"}
        monkeypatch.setenv("AIRFLOW_CONN_RAW", json.dumps({**where, "extra": extra or {}, **fields}))

    connect()
    return connect


def poll(*refs: RunRef, pause: float = 0.0, conn_id: str = "raw") -> list[Any]:
    """Poll runs, one after the other, with one client; a poll that fails gives its failure."""

    async def all_of_them() -> list[Any]:
        found: list[Any] = []
        async with shared(OpenAIRunsHook(conn_id)) as client:
            for ref in refs:
                try:
                    found.append(await client.send(wire_of(ref.kind).poll(ref)))
                except ApiRequestFailed as failed:
                    found.append(failed.failure)
                await asyncio.sleep(pause)
        return found

    return asyncio.run(all_of_them())


#: How long the SDK would wait.
SAID_BY_THE_SDK = "x-stainless-read-timeout"


def by_the_sdk(head: str) -> bool:
    return SAID_BY_THE_SDK in head.lower()


def without_fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FastPolls, "can_serve", staticmethod(lambda _client: False))


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
def test_a_poll_sends_what_the_sdk_sends(
    raw: ScriptedServer,
    connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    ref: RunRef,
    extra: dict[str, Any],
) -> None:
    connection(extra)
    poll(ref)
    without_fast_polls(monkeypatch)
    poll(ref)

    ours, sdks = ([line for line in head.splitlines() if line] for head in raw.heads)
    assert ours[0] == sdks[0]
    assert "accept-encoding: gzip, deflate" in {line.lower() for line in ours}
    assert [by_the_sdk(head) for head in raw.heads] == [False, True]

    def others(lines: list[str]) -> set[str]:
        split = (line.partition(": ") for line in lines[1:])
        return {f"{name.lower()}: {value}" for name, _, value in split if name.lower() != SAID_BY_THE_SDK}

    assert others(ours) == others(sdks)


def test_polls_use_one_connection_again(raw: ScriptedServer, connection: Callable[..., None]) -> None:
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 5)] == ["in_progress"] * 5
    assert raw.connections == 1


def test_a_connection_that_the_server_has_closed_is_replaced_without_a_failure(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    raw.hangs_up = True
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 3, pause=0.05)] == ["in_progress"] * 3
    assert len(raw.heads) == 3


def test_a_connection_that_was_reset_while_idle_is_replaced_without_a_failure(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    raw.resets = True
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 3, pause=0.05)] == ["in_progress"] * 3
    assert len(raw.heads) == 3


def test_after_a_failure_no_poll_uses_the_idle_connections_which_may_have_broken_with_it(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    async def poll_after_a_failure() -> list[int]:
        async with shared(OpenAIRunsHook("raw")) as client:
            request = wire_of(RESPONSE.kind).poll(RESPONSE)
            await asyncio.gather(*(client.send(request) for _ in range(3)))
            found = [raw.connections]
            raw.replies = [b"no HTTP\r\n\r\n", PLAIN]
            with pytest.raises(ApiRequestFailed):
                await client.send(request)
            found.append(raw.connections)
            await client.send(request)
            return [*found, raw.connections]

    assert asyncio.run(poll_after_a_failure()) == [3, 3, 4]


def test_a_failure_leaves_the_polls_alone_that_are_under_way(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    def slow() -> Iterator[bytes]:
        time.sleep(0.5)
        yield PLAIN

    raw.replies = [slow, b"no HTTP\r\n\r\n"]

    async def fail_beside() -> Any:
        async with shared(OpenAIRunsHook("raw")) as client:
            request = wire_of(RESPONSE.kind).poll(RESPONSE)
            under_way = asyncio.create_task(client.send(request))
            while not raw.heads:  # noqa: ASYNC110 - the server has no event
                await asyncio.sleep(0.01)
            with pytest.raises(ApiRequestFailed):
                await client.send(request)
            return await under_way

    assert asyncio.run(fail_beside()).raw_status == "in_progress"


@pytest.mark.parametrize("together", [True, False], ids=["with the reply", "after it"])
def test_what_a_server_says_unasked_is_not_the_answer_to_the_next_poll(
    raw: ScriptedServer, connection: Callable[..., None], *, together: bool
) -> None:
    unasked = PLAIN.replace(b"in_progress", b"cancelled!!")
    if together:
        raw.replies = [PLAIN + unasked]
    else:
        raw.last_words = unasked
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 3, pause=0.2)] == ["in_progress"] * 3
    assert raw.connections == 3


def test_a_goodbye_to_an_idle_connection_is_no_failed_poll(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    raw.last_words = b"HTTP/1.1 408 Request Time-out\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    raw.hangs_up = True
    assert [observed.raw_status for observed in poll(*[RESPONSE] * 3, pause=0.2)] == ["in_progress"] * 3


def test_headers_are_read_that_the_sdk_would_read(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    raw.replies = [PLAIN.replace(b"\r\n", b"\r\nx-long: " + b"x" * 80_000 + b"\r\n", 1)]
    assert poll(RESPONSE)[0].raw_status == "in_progress"


def test_an_address_that_does_not_answer_does_not_hide_one_that_does(
    raw: ScriptedServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection(host=f"http://two-addresses.test:{raw.port}/v1")
    request = replace(wire_of(RESPONSE.kind).poll(RESPONSE), timeout=5)
    dead, alive = ((socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", raw.port)) for n in (2, 1))

    async def resolve(*_args: Any, **_kwargs: Any) -> list[Any]:
        return [dead, alive]

    async def find() -> Any:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        async with shared(OpenAIRunsHook("raw")) as client:
            return await client.send(request)

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


def test_a_body_in_chunks_is_read(raw: ScriptedServer, connection: Callable[..., None]) -> None:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:]))
    raw.replies = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"]
    assert [observed.raw_status for observed in poll(RESPONSE, RESPONSE)] == ["in_progress"] * 2


def test_a_redirect_is_left_to_the_sdk_which_follows_it_and_makes_all_polls_from_then_on(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    moved = b"HTTP/1.1 307 Moved\r\nlocation: /v1/elsewhere\r\ncontent-length: 0\r\n\r\n"
    raw.replies = [moved, moved, PLAIN, moved, PLAIN]
    assert [observed.raw_status for observed in poll(RESPONSE, RESPONSE)] == ["in_progress"] * 2
    asked, elsewhere = "/v1/responses/resp_1%2F%C3%A4%20%3F", "/v1/elsewhere"
    assert [head.split()[1] for head in raw.heads] == [asked, asked, elsewhere, asked, elsewhere]
    assert [by_the_sdk(head) for head in raw.heads] == [False, True, True, True, True]


def test_a_packed_body_is_read_without_the_sdk(raw: ScriptedServer, connection: Callable[..., None]) -> None:
    for coding, body in ("gzip", gzip.compress(BODY)), ("deflate", zlib.compress(BODY)):
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(body)}\r\n\r\n"
        raw.replies = [head.encode() + body]
        assert [observed.raw_status for observed in poll(RESPONSE, RESPONSE)] == ["in_progress"] * 2
    assert len(raw.heads) == 4
    assert not any(by_the_sdk(head) for head in raw.heads)


def test_a_packed_error_is_described_in_the_servers_own_text(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    body = gzip.compress(b'{"error": {"message": "The stars are wrong."}}')
    head = f"HTTP/1.1 400 No\r\ncontent-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n"
    raw.replies = [head.encode() + body]
    (failure,) = poll(RESPONSE)
    assert (failure.http_status, failure.text) == (400, "The stars are wrong.")


def test_a_body_packed_in_a_way_that_was_not_asked_for_is_a_failure_and_not_asked_for_again(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    raw.replies = [PLAIN.replace(b"\r\n", b"\r\ncontent-encoding: br\r\n", 1)]
    (failure,) = poll(RESPONSE)
    assert (failure.kind, failure.is_transient) == ("outcome_unknown", True)
    assert "packed as 'br'" in failure.text
    assert len(raw.heads) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_that_does_not_change_is_sent_once_a_poll(
    raw: ScriptedServer, connection: Callable[..., None], status: int
) -> None:
    raw.replies = [b"HTTP/1.1 %d No\r\ncontent-length: 2\r\n\r\n{}" % status]
    assert {failure.kind for failure in poll(*[RESPONSE] * 5)} == {"access_denied"}
    assert (len(raw.heads), raw.connections) == (5, 1)


def test_a_provided_key_is_asked_for_once_more_however_many_polls_are_refused(
    raw: ScriptedServer,
    connection: Callable[..., None],
    company_keys: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    connection({"api_key_provider": "company_keys.token"}, password=None)

    def token() -> str:
        asked.append("")
        return "sk-same"

    monkeypatch.setattr(company_keys, "token", token)
    raw.replies = [b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\n{}"]

    async def together() -> None:
        async with shared(OpenAIRunsHook("raw")) as client:
            request = wire_of(RESPONSE.kind).poll(RESPONSE)
            for _ in range(3):
                await asyncio.gather(*(client.send(request) for _ in range(20)), return_exceptions=True)

    asyncio.run(together())
    assert (len(raw.heads), len(asked)) == (60, 2)


def test_credentials_and_a_query_in_the_host_are_sent_as_the_sdk_sends_them_and_never_shown(
    raw: ScriptedServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"openai_client_kwargs": {"default_query": {"sig": "secret-sig"}}}
    connection(extra, host=f"http://user:secret-word@127.0.0.1:{raw.port}/v1")
    poll(RESPONSE)
    raw.replies = [b"no HTTP\r\n\r\n"]
    (failure,) = poll(RESPONSE)
    assert "secret" not in failure.text
    raw.replies = [PLAIN]
    without_fast_polls(monkeypatch)
    poll(RESPONSE)

    def what_counts(head: str) -> list[str]:
        lines = head.splitlines()
        return [lines[0], *(line[1:] for line in lines if line.lower().startswith("authorization"))]

    assert what_counts(raw.heads[0]) == what_counts(raw.heads[-1])
    assert [by_the_sdk(head) for head in raw.heads] == [False, False, True]


def test_a_body_that_is_too_large_is_not_read_to_its_end(
    raw: ScriptedServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BODY", 100)
    # More is announced than ever comes: whoever waits for it waits for long.
    raw.replies = [b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n" + b" " * 1000]
    (failure,) = poll(RESPONSE)
    assert (failure.kind, failure.is_transient) == ("outcome_unknown", True)
    assert "more than 100 bytes" in failure.text


def test_the_status_of_an_error_counts_however_large_it_is(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    raw.replies = [b"HTTP/1.1 404 No\r\ncontent-length: 100000000\r\n\r\n" + b" " * 100_000]
    (failure,) = poll(RESPONSE)
    assert (failure.kind, failure.http_status) == ("not_found", 404)


def test_behind_a_proxy_the_sdk_polls(
    raw: ScriptedServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection(host="http://far-away.invalid/v1")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{raw.port}")
    assert poll(RESPONSE)[0].raw_status == "in_progress"
    assert raw.heads[0].startswith("GET http://far-away.invalid/v1/responses/")


def test_a_server_that_no_proxy_excepts_is_asked_directly(
    raw: ScriptedServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert poll(RESPONSE)[0].raw_status == "in_progress"
    assert not by_the_sdk(raw.heads[0])


def test_a_provided_key_is_asked_for_again_when_it_is_refused(
    raw: ScriptedServer,
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
def test_failure_is_the_same_as_with_the_sdk(
    openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    openai_runs_simulator.fault(*[fault] * 3)
    ours = poll(SIMULATED, conn_id="openai_default")
    without_fast_polls(monkeypatch)
    assert ours == poll(SIMULATED, conn_id="openai_default")


@pytest.mark.parametrize("kind", ["reset", "lost", "cut"])
def test_a_broken_answer_is_no_answer(openai_runs_simulator: Simulator, kind: str) -> None:
    openai_runs_simulator.fault(Fault(kind=kind, times=2))
    (failure,) = poll(SIMULATED, conn_id="openai_default")
    assert failure.kind == "outcome_unknown"


def test_a_server_that_is_not_there_was_not_reached(
    connection: Callable[..., None],
) -> None:
    connection(host="http://127.0.0.1:9/v1")
    (failure,) = poll(RESPONSE)
    assert failure.kind == "not_sent"
    assert "ConnectError" in failure.text


def test_white_space_around_a_key_is_not_part_of_it(
    raw: ScriptedServer,
    connection: Callable[..., None],
    company_keys: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection(password=" sk-stray\n")
    assert poll(RESPONSE)[0].raw_status == "in_progress"
    monkeypatch.setattr(company_keys, "token", lambda: "sk-stray\n")
    connection({"api_key_provider": "company_keys.token"})
    assert poll(RESPONSE)[0].raw_status == "in_progress"
    assert all("bearer sk-stray\r\n" in head.lower() for head in raw.heads)


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "by the SDK"])
@pytest.mark.parametrize("settings", UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_header_that_cannot_be_written_is_failure_that_does_not_show_it(
    raw: ScriptedServer,
    connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    *,
    is_fast: bool,
) -> None:
    connection(**settings)
    if not is_fast:
        without_fast_polls(monkeypatch)
    (failure,) = poll(RESPONSE)
    assert (failure.kind, failure.http_status) == ("access_denied", None)
    assert "Fix the connection" in failure.text
    assert "secret" not in failure.text
    assert not raw.heads

    with pytest.raises(ApiRequestFailed) as caught:
        OpenAIRunsHook("raw").run_flow(flows.single(wire_of(RESPONSE.kind).poll(RESPONSE)))
    assert caught.value.failure == failure
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "by the SDK"])
def test_an_error_that_nobody_expects_is_no_answer_and_logged_once_without_its_text(
    raw: ScriptedServer,
    connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    is_fast: bool,
) -> None:
    if not is_fast:
        without_fast_polls(monkeypatch)

    def read(_reply: ApiReply) -> Any:
        raise KeyError("secret")

    request = replace(wire_of(RESPONSE.kind).poll(RESPONSE), read=read)

    async def twice() -> list[ApiRequestFailed]:
        found = []
        async with shared(OpenAIRunsHook("raw")) as client:
            for _ in range(2):
                with pytest.raises(ApiRequestFailed) as caught:
                    await client.send(request)
                found.append(caught.value)
        return found

    for failed in asyncio.run(twice()):
        assert failed.failure.kind == "outcome_unknown"
        assert "KeyError" in failed.failure.text
        assert "secret" not in "".join(traceback.format_exception(failed))
    (line,) = [record.getMessage() for record in caplog.records if "KeyError" in record.getMessage()]
    assert "test_fast_polls.py" in line
    assert "secret" not in line.replace('KeyError("secret")', "")
