# SPDX-License-Identifier: Apache-2.0
"""Creates that go past the SDK's client are those that it would have sent, end as those, and leave once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.simulator import Fault, Simulator
from airflow_provider_openai_runs.transport.failures import UseSdkInsteadError
from airflow_provider_openai_runs.transport.fast_polls import FastPolls, written
from airflow_provider_openai_runs.transport.shared_client import SharedClient, shared
from airflow_provider_openai_runs.wire import wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest
from tests.transport.scripted_server import ScriptedServer, serving

ANSWER = json.dumps({"id": "resp_1", "object": "response", "status": "queued", "created_at": 1}).encode()
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
MOVED = b"HTTP/1.1 307 Moved\r\nlocation: /v1/elsewhere\r\ncontent-length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\n{}"
SAID_BY_THE_SDK = "x-stainless-read-timeout"


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


@pytest.fixture
def company_keys(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Be the module of a company that provides keys."""
    module = ModuleType("company_keys")
    monkeypatch.setattr(module, "token", lambda: "sk-provided", raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def creation(conn_id: str = "raw", **body: Any) -> ApiRequest[Run]:
    asked = RunRequest(
        kind=RunKind.RESPONSE, body={"model": "m", "input": "Why? ß", "background": True, **body}
    )
    return wire_of(asked.kind).create(asked, token="t", conn_id=conn_id)


async def sent(client: SharedClient, request: ApiRequest[Run]) -> Run | RequestFailure:
    try:
        return await client.send(request)
    except ApiRequestFailed as failed:
        return failed.failure


def create(
    *requests: ApiRequest[Run], conn_id: str = "raw", pause: float = 0.0
) -> list[Run | RequestFailure]:
    """Send creates, one after the other, with one client; the first one is the SDK's."""

    async def all_of_them() -> list[Run | RequestFailure]:
        found = []
        async with shared(OpenAIRunsHook(conn_id)) as client:
            for request in requests:
                found.append(await sent(client, request))
                await asyncio.sleep(pause)
        return found

    return asyncio.run(all_of_them())


def create_at_once(count: int) -> list[Run | RequestFailure]:
    async def all_of_them() -> list[Run | RequestFailure]:
        async with shared(OpenAIRunsHook("raw")) as client:
            return await asyncio.gather(*(sent(client, creation()) for _ in range(count)))

    return asyncio.run(all_of_them())


def by_the_sdk(head: str) -> bool:
    return SAID_BY_THE_SDK in head.lower()


def kinds(found: list[Run | RequestFailure]) -> list[str]:
    return [one.kind.value if isinstance(one, RequestFailure) else "created" for one in found]


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
    "a key that a function provides": {"api_key_provider": "company_keys.token"},
}


@pytest.mark.usefixtures("company_keys")
@pytest.mark.parametrize("extra", SETTINGS.values(), ids=SETTINGS)
def test_a_create_is_what_the_sdk_sends(
    raw: ScriptedServer, connection: Callable[..., None], extra: dict[str, Any]
) -> None:
    connection(extra)
    assert kinds(create(creation(), creation())) == ["created"] * 2

    def lines(head: str) -> set[str]:
        pairs = (line.partition(": ") for line in head.splitlines())
        return {f"{name.lower()}: {value}" for name, _, value in pairs if name.lower() != SAID_BY_THE_SDK}

    assert [by_the_sdk(head) for head in raw.heads] == [True, False]
    assert lines(raw.heads[0]) == lines(raw.heads[1])
    assert raw.bodies[0] == raw.bodies[1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(body=st.dictionaries(st.text(), JSON))
def test_a_body_is_what_the_sdk_writes_or_is_left_to_it(body: Mapping[str, Any]) -> None:
    client = openai.OpenAI(
        api_key="sk", http_client=openai.DefaultHttpxClient(transport=Capturing(), trust_env=False)
    )
    try:
        ours = written(body)
    except UseSdkInsteadError:
        with pytest.raises((ValueError, UnicodeError)):
            client.post("/responses", body=body, cast_to=httpx2.Response)
        return
    assert client.post("/responses", body=body, cast_to=httpx2.Response).request.content == ours


class Capturing(httpx2.BaseTransport):
    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, request=request)


FAULTS = [
    Fault(status=400, message="No."),
    Fault(status=403),
    Fault(status=404),
    Fault(status=408),
    Fault(status=409),
    Fault(status=429, retry_after=7),
    Fault(status=429, code="insufficient_quota"),
    Fault(status=500),
    Fault(status=503, message=""),
    Fault(kind="garbage"),
    Fault(kind="reset"),
    Fault(kind="lost"),
    Fault(kind="cut"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.code}")
def test_a_failure_is_the_same_as_with_the_sdk_and_the_create_leaves_once(
    openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    def second() -> tuple[str, int | None, float | None, int]:
        """Tell of a create after one that went well."""

        async def both() -> Run | RequestFailure:
            async with shared(OpenAIRunsHook()) as client:
                await client.send(creation("openai_default"))
                openai_runs_simulator.fault(replace(fault, method="POST"))
                return await sent(client, creation("openai_default"))

        before = openai_runs_simulator.count("POST")
        failure = asyncio.run(both())
        assert isinstance(failure, RequestFailure)
        made = openai_runs_simulator.count("POST") - before
        return failure.kind.value, failure.http_status, failure.retry_after, made

    ours = second()
    assert not any(SAID_BY_THE_SDK in request.headers for request in openai_runs_simulator.requests[1:2])
    monkeypatch.setattr(FastPolls, "can_serve", staticmethod(lambda _client: False))
    assert ours == second()
    assert ours[-1] == 2


def test_a_create_is_not_sent_again_where_the_server_has_closed_its_connection(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    def nothing() -> Iterator[bytes]:
        yield from ()

    raw.replies = [PLAIN, PLAIN, nothing]
    raw.hangs_up = True
    assert kinds(create(creation(), creation(), creation(), pause=0.05)) == [
        "created",
        "created",
        "outcome_unknown",
    ]
    assert len(raw.heads) == 3


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
def test_a_create_takes_no_connection_that_was_closed_while_the_loop_was_busy(
    raw: ScriptedServer, connection: Callable[..., None], *, resets: bool
) -> None:
    async def after_a_block() -> list[Run | RequestFailure]:
        async with shared(OpenAIRunsHook("raw")) as client:
            found = [await sent(client, creation()), await sent(client, creation())]
            # Nothing is heard of the end of the connection until after the next create.
            time.sleep(0.3)  # noqa: ASYNC251
            return [*found, await sent(client, creation())]

    raw.resets = resets
    raw.hangs_up = True
    assert kinds(asyncio.run(after_a_block())) == ["created"] * 3
    assert len(raw.heads) == 3


def test_where_a_server_redirects_the_sdk_creates(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    raw.replies = [MOVED, PLAIN]
    assert kinds(create(creation(), creation())) == ["created"] * 2
    assert all(by_the_sdk(head) for head in raw.heads)
    assert [head.split()[1] for head in raw.heads] == ["/v1/responses", "/v1/elsewhere", "/v1/responses"]


def test_of_creates_at_once_the_first_is_the_sdks_and_the_others_wait_for_it(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    assert kinds(create_at_once(10)) == ["created"] * 10
    assert [by_the_sdk(head) for head in raw.heads] == [True, *[False] * 9]


def test_creates_do_not_wait_long_for_a_first_one_that_takes_its_time(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    def late() -> Iterator[bytes]:
        time.sleep(3)
        answered.append(len(raw.heads))
        yield PLAIN

    answered: list[int] = []
    raw.replies = [late, PLAIN]
    assert kinds(create_at_once(10)) == ["created"] * 10
    assert answered == [10]


def test_creates_at_once_follow_where_the_server_redirects(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    raw.replies = [MOVED, PLAIN]
    assert kinds(create_at_once(10)) == ["created"] * 10
    assert all(by_the_sdk(head) for head in raw.heads)


def test_a_create_that_is_redirected_all_of_a_sudden_is_not_sent_again(
    raw: ScriptedServer, connection: Callable[..., None]
) -> None:
    raw.replies = [PLAIN, MOVED, PLAIN]
    found = create(creation(), creation(), creation())
    assert kinds(found) == ["created", "outcome_unknown", "created"]
    assert [by_the_sdk(head) for head in raw.heads] == [True, False, True]


def test_after_a_refused_key_the_next_create_has_the_key_of_now(
    raw: ScriptedServer,
    connection: Callable[..., None],
    company_keys: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw.replies = [PLAIN, REFUSED, PLAIN]
    connection({"api_key_provider": "company_keys.token"}, password=None)
    keys = iter(["sk-1", "sk-2", "sk-3"])
    monkeypatch.setattr(company_keys, "token", lambda: next(keys))
    assert kinds(create(creation(), creation(), creation())) == ["created", "access_denied", "created"]
    sent_keys = [line for head in raw.heads for line in head.splitlines() if line.lower().startswith("auth")]
    assert [line.split()[-1] for line in sent_keys] == ["sk-1", "sk-2", "sk-3"]


def test_a_body_of_megabytes_is_left_to_the_sdk(raw: ScriptedServer, connection: Callable[..., None]) -> None:
    assert kinds(create(creation(), creation(input="x" * 2**20))) == ["created"] * 2
    assert [by_the_sdk(head) for head in raw.heads] == [True, True]


def test_a_create_that_is_late_does_not_leave(raw: ScriptedServer, connection: Callable[..., None]) -> None:
    late = replace(creation(), leave_by=time.time() - 1)
    assert kinds(create(creation(), late, creation())) == ["created", "not_sent", "created"]
    assert len(raw.heads) == 2


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="aiohttp writes at once from Python 3.12 on: the loop does not turn"
)
def test_a_create_does_not_leave_that_a_blocked_loop_has_held_up(
    raw: ScriptedServer, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the connection and the first byte the loop may turn once more."""

    async def held_up() -> Run | RequestFailure:
        async with shared(OpenAIRunsHook("raw")) as client:
            await client.send(creation())
            await client.send(creation())
            leave_by = time.time() + 0.5
            connected = FastPolls._send_once

            async def send_once(*args: Any) -> Any:
                asyncio.get_running_loop().call_soon(time.sleep, 0.8)
                return await connected(*args)

            monkeypatch.setattr(FastPolls, "_send_once", send_once)
            return await sent(client, replace(creation(), leave_by=leave_by))

    assert kinds([asyncio.run(held_up())]) == ["not_sent"]
    assert len(raw.heads) == 2
