# SPDX-License-Identifier: Apache-2.0
"""A server that answers anything at all: the client goes on, or fails with an error of its own."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunCallError,
    RunConnectionError,
    RunNotFoundError,
)
from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import wire_of
from tests.support.scene import Scene
from tests.support.scripted_server import Answer, Asked, ScriptedServer, reply

pytestmark = pytest.mark.usefixtures("quick_retries")

MIB = 1024 * 1024
LIMIT = 16 * MIB
REFS = [
    {"kind": "response", "id": "resp_1", "conn_id": "scripted"},
    {"kind": "thread_run", "id": "run_1", "thread_id": "thread_1", "conn_id": "scripted"},
]
#: A reply: its pieces, which are sent until the client hangs up.
Pieces = Iterator[bytes]


def saying(value: Any) -> Pieces:
    return reply(json.dumps(value).encode())


def huge(status: str = "200 OK") -> Pieces:
    """A hundred megabytes of one string."""
    yield f"HTTP/1.1 {status}\r\nContent-Length: {100 * MIB + 9}\r\n\r\n".encode() + b'{"id": "'
    for _ in range(100):
        yield b"x" * MIB
    yield b"}"


def endless(status: str = "200 OK") -> Pieces:
    yield f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    while True:
        yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"


def bomb(status: str = "200 OK") -> Pieces:
    """One string that never ends, each megabyte of it packed into one kilobyte."""
    packer = zlib.compressobj(wbits=31)
    yield f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\n\r\n".encode() + packer.compress(b'{"id": "')
    while True:
        yield packer.compress(b"x" * MIB) + packer.flush(zlib.Z_SYNC_FLUSH)


def tailed(status: str = "200 OK") -> Pieces:
    """A packed object that ends, and whatever comes after it."""
    yield f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\n\r\n".encode() + gzip.compress(b"{}")
    for _ in range(60):
        yield b"x" * MIB


def dripping() -> Pieces:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        time.sleep(0.05)
        yield b"1\r\n \r\n"


def dripping_headers() -> Pieces:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        time.sleep(0.05)
        yield b"A: b\r\n"


def deep() -> Pieces:
    return reply(b'{"id":' * 200_000)


def deep_error() -> Pieces:
    return reply(b'{"error":' * 9_000, status="500 Oh")


GZIP = "Content-Encoding: gzip"
#: All of them make a poll fail, and none of them a paid run.
HOSTILE: dict[str, Callable[[], Pieces]] = {
    "huge": huge,
    "endless": endless,
    "bomb": bomb,
    "empty": lambda: reply(b""),
    "no content": lambda: iter([b"HTTP/1.1 204 No Content\r\n\r\n"]),
    "a page": lambda: reply(b"<html><body>It works!</body></html>", "Content-Type: text/html"),
    "not UTF-8": lambda: reply(b'{"id": "\xff\xfe\x00", "status": "\xc3\x28"}'),
    "deep lists": lambda: reply(b"[" * 200_000),
    "deep objects": deep,
    "a list": lambda: saying([]),
    "null": lambda: saying(None),
    "a number": lambda: reply(b"1e999"),
    "a long number": lambda: reply(b'{"id": ' + b"9" * 100_000 + b"}"),
    "no status": lambda: saying({"id": "resp_1"}),
    "wrong types": lambda: saying({"id": ["resp_1"], "status": {"a": 1}, "output": 5, "usage": "much"}),
    "half": lambda: reply(b'{"id": "resp_1", "sta', length=500),
    "not packed": lambda: reply(b'{"id": "resp_1"}', GZIP),
    "half packed": lambda: reply(gzip.compress(b'{"id": "resp_1"}' * 99)[:30], GZIP),
    "packed unknown": lambda: reply(b'{"id": "resp_1"}', "Content-Encoding: br"),
    "no HTTP": lambda: iter([b"220 mail.example.com ESMTP\r\n"]),
    "nothing": lambda: iter([]),
    "endless headers": lambda: iter([b"HTTP/1.1 200 OK\r\n", *[b"A: " + b"b" * 9999 + b"\r\n"] * 999]),
    "nowhere": lambda: reply(b"", "Location: http://127.0.0.1:1/v1", status="302 Found"),
    "unavailable, huge": lambda: huge("500 Oh"),
    "unavailable, bomb": lambda: bomb("502 Oh"),
    "unavailable, endless": lambda: endless("504 Oh"),
    "unavailable, deep": deep_error,
    "unavailable, other": lambda: reply(b'{"error": {"message": 5, "code": []}}', status="500 Oh"),
}
GOOD: dict[str, Any] = {
    "POST /responses": {"id": "resp_1", "status": "queued"},
    "GET /responses/resp_1": {"id": "resp_1", "status": "completed", "output_text": "Because."},
    "POST /threads/thread_1/runs": {"id": "run_1", "status": "queued"},
    "GET /threads/thread_1/runs/run_1": {"id": "run_1", "status": "completed"},
    "GET /threads/thread_1/messages": {"data": []},
    "GET /threads/thread_1/runs/run_1/steps": {"data": []},
    "GET /threads/thread_1/runs": {"data": []},
}


@dataclass
class Hostile:
    """The next requests of a method are answered so; all others well."""

    server: ScriptedServer
    method: str = ""
    answers: list[Callable[[], Pieces]] = field(default_factory=list)

    def plan(self, method: str, *answers: Callable[[], Pieces]) -> None:
        self.method, self.answers = method, list(answers)
        self.server.play(self._answer)

    @property
    def asked(self) -> list[str]:
        return [str(asked) for asked in self.server.asked]

    @property
    def sent(self) -> int:
        return self.server.bytes_sent

    def _answer(self, asked: Asked) -> Answer:
        if asked.method == self.method and self.answers:
            return self.answers.pop(0)()
        return saying(GOOD.get(str(asked)))


@pytest.fixture
def hostile(scripted: ScriptedServer) -> Hostile:
    return Hostile(scripted)


@pytest.fixture
def hook() -> Any:
    """A hook that does not wait before it tries again."""
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 - Airflow is set up by then

    return OpenAIRunsHook("scripted", sleep=lambda _: None)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("ref", REFS, ids=["response", "thread run"])
def test_a_read_goes_on_after_any_answer(hostile: Hostile, hook: Any, ref: dict[str, Any], name: str) -> None:
    hostile.plan("GET", HOSTILE[name])
    assert hook.retrieve(ref, include_steps=True).raw_status == "completed"
    assert hostile.sent < 2 * LIMIT


@pytest.mark.parametrize("name", sorted(set(HOSTILE) - {"no status"}))
def test_a_create_with_any_answer_is_an_error_of_ours_and_is_not_sent_again(
    hostile: Hostile, hook: Any, name: str
) -> None:
    hostile.plan("POST", HOSTILE[name])
    with pytest.raises(OpenAIRunError):
        hook.create_background_response(model="m", input="Why?")
    assert [asked for asked in hostile.asked if asked.startswith("POST")] == ["POST /responses"]
    assert hostile.sent < 2 * LIMIT


@pytest.mark.parametrize("answer", [huge, endless, bomb])
@pytest.mark.parametrize(
    ("status", "kind"),
    [("401 No", RunConnectionError), ("404 No", RunNotFoundError), ("400 No", RunCallError)],
)
def test_a_status_counts_however_much_is_said_with_it(
    hostile: Hostile, hook: Any, answer: Callable[[str], Pieces], status: str, kind: type[Exception]
) -> None:
    hostile.plan("GET", lambda: answer(status))
    with pytest.raises(kind):
        hook.retrieve(REFS[0])
    assert len(hostile.asked) == 1


@pytest.mark.parametrize("status", ["200 OK", "404 No"])
@pytest.mark.parametrize("answer", [huge, endless, bomb, tailed])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_memory_stays_bounded(
    hostile: Hostile, hook: Any, answer: Callable[[str], Pieces], status: str, way: str
) -> None:
    hostile.plan("GET", lambda: answer(status), lambda: answer(status))
    hook.conn  # noqa: B018 - to build a client takes memory, too
    tracemalloc.start()
    try:
        if way == "sync":
            hook.retrieve(REFS[0])
        else:
            asyncio.run(hook.aretrieve(REFS[0]))
    except RunNotFoundError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Of this, the server of this test needs some megabytes itself.
    assert peak < 5 * LIMIT
    assert hostile.sent < 3 * LIMIT


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | st.text().map(lambda text: json.dumps({"id": text}).encode()))
def test_any_bytes_are_read_or_asked_for_again(hostile: Hostile, hook: Any, body: bytes) -> None:
    hostile.plan("GET", lambda: reply(body))
    assert hook.retrieve(REFS[0]).ref.kind == "response"


@pytest.mark.parametrize(
    ("odd", "read"), [(b"\xff", "\ufffd"), (b"\xe2\x82", "\ufffd"), (b"\x01", "\x01"), (b"\n", "\n")]
)
def test_an_answer_with_a_byte_that_json_forbids_is_read_all_the_same(
    hostile: Hostile, hook: Any, odd: bytes, read: str
) -> None:
    body = b'{"id": "resp_1", "status": "completed", "output_text": "Be' + odd + b'cause."}'
    hostile.plan("GET", lambda: reply(body))
    assert hook.retrieve(REFS[0]).output_text == f"Be{read}cause."
    assert len(hostile.asked) == 1


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@pytest.mark.parametrize("name", ["huge", "bomb", "wrong types", "unavailable, endless"])
@pytest.mark.parametrize("kind", ["response", "thread run"])
def test_a_wait_goes_on_after_any_answer(
    scene: Scene, hostile: Hostile, kind: str, name: str, *, deferrable: bool
) -> None:
    hostile.plan("GET", HOSTILE[name])
    waiting: dict[str, Any] = {
        "task_id": "ask",
        "conn_id": "scripted",
        "completion_window": 60,
        "poll_interval": 0.04,
    }
    operator = (
        CreateResponseOperator(**waiting, deferrable=deferrable, model="m", input="Why?")
        if kind == "response"
        else CreateRunOperator(**waiting, deferrable=deferrable, thread_id="thread_1", assistant_id="a")
    )
    assert scene.run(operator)["status"] == "completed"


def test_an_event_can_be_encoded_whatever_the_server_says(
    scene: Scene, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot kills the triggerer, with every wait in it."""
    from airflow_provider_openai_runs.triggers import RunCompletionTrigger, completion  # noqa: PLC0415

    monkeypatch.setattr(completion, "CANCEL_WAIT", 0.1)
    half_an_emoji = {"id": "resp_1", "status": "thinking \ud83d\0"}
    monkeypatch.setitem(GOOD, "GET /responses/resp_1", half_an_emoji)
    refusal = json.dumps({"error": {"message": "cannot cancel \ud83d\0"}}).encode()
    hostile.plan("POST", *[lambda: reply(refusal, status="500 Oh")] * 50)

    event = scene.fire(RunCompletionTrigger(ref=REFS[0], deadline=1.0, rounds={"errors": ["half \ud83d"]}))

    json.dumps(event, ensure_ascii=False).encode()
    assert "cannot cancel" in event["trouble"]
    assert event["status"].startswith("thinking ")


def as_large_as_can_be() -> Pieces:
    """Just within the limit, and of many small things."""
    item = b'{"type": "message", "content": [{"type": "output_text", "text": "x"}]},'
    listed = item * ((LIMIT - 100) // len(item))
    return reply(b'{"id": "resp_1", "status": "in_progress", "output": [' + listed[:-1] + b"]}")


@pytest.mark.parametrize("answer", [as_large_as_can_be, huge, endless, bomb, deep, deep_error])
def test_the_event_loop_is_never_held_for_long(
    hostile: Hostile, hook: Any, answer: Callable[[], Pieces]
) -> None:
    """What is read at the most, 16 MiB, takes seconds to parse on a busy machine; the bound is generous."""
    from airflow_provider_openai_runs.wire import flows  # noqa: PLC0415 - Airflow is set up by then

    hostile.plan("GET", answer, answer)

    async def longest_gap() -> float:
        beats = [time.monotonic()]

        async def beat() -> None:
            while True:
                await asyncio.sleep(0.01)
                beats.append(time.monotonic())

        beating = asyncio.create_task(beat())
        polled = wire_of(RunKind.RESPONSE).poll(RunRef.from_json(REFS[0]))
        await hook.arun_flow(flows.with_retries(flows.single(polled), budget=60))
        beating.cancel()
        beats.append(time.monotonic())
        return max(after - before for before, after in pairwise(beats))

    assert asyncio.run(longest_gap()) < 10


@pytest.mark.parametrize("answer", [dripping, dripping_headers])
def test_an_answer_that_never_ends_is_given_up_in_time(
    scene: Scene, hostile: Hostile, answer: Callable[[], Pieces]
) -> None:
    hostile.plan("POST", answer)
    operator = CreateResponseOperator(
        task_id="ask", conn_id="scripted", model="m", input="Why?", timeouts={"create": 1}
    )
    with pytest.raises(OpenAIRunError, match="has not ended after"):
        scene.run(operator)
