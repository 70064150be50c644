# SPDX-License-Identifier: Apache-2.0
"""Clients follow their connection, and go when nobody needs them."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import psutil
import pytest

from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.polling import WaitLimits
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator
from airflow_provider_openai_runs.transport import api_key, fast_polls, shared_client
from airflow_provider_openai_runs.transport.fast_polls import FastPolls
from airflow_provider_openai_runs.wire import wait as waits
from airflow_provider_openai_runs.wire import wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


@pytest.fixture
def ref(post: Callable[..., Any], openai_runs_simulator: Simulator) -> RunRef:
    """Start a run that goes on."""
    openai_runs_simulator.script(Scenario(queued=0, in_progress=500))
    created = post("/responses", model="m", input="Why?", background=True)
    return RunRef(kind=RunKind.RESPONSE, id=created["id"], conn_id="openai_default")


def connect(monkeypatch: pytest.MonkeyPatch, simulator: Simulator, conn_id: str, **headers: str) -> None:
    extra = {"openai_client_kwargs": {"default_headers": headers}}
    connection = json.dumps({**simulator.connection, "extra": extra})
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)


async def read_again(client: shared_client.SharedClient) -> None:
    """Read the connection as a poll would begin to do whose settings are old."""
    await client._current()
    assert client._refreshing is not None
    await client._refreshing


def test_a_changed_connection_is_picked_up_and_the_old_client_closed(
    ref: RunRef,
    openai_runs_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    mocker: MockerFixture,
) -> None:
    monkeypatch.setattr(shared_client, "SETTINGS_SECONDS", 0.0)
    closed = mocker.spy(openai.AsyncOpenAI, "close")
    polled = wire_of(ref.kind).poll(ref)

    async def change() -> int:
        async with shared_client.shared(OpenAIRunsHook("changing")) as client:
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "old"})
            await client.send(polled)
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "new"})
            await read_again(client)
            await client.send(polled)
            return closed.call_count

    assert asyncio.run(change()) == 1
    polls = [request for request in openai_runs_simulator.requests if request.method == "GET"]
    assert [polled.headers["x-team"] for polled in polls] == ["old", "new"]
    assert closed.call_count == 2


def test_a_client_whose_settings_have_changed_finishes_its_calls_before_it_closes(
    ref: RunRef,
    openai_runs_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_client, "SETTINGS_SECONDS", 0.0)
    openai_runs_simulator.fault(Fault(method="GET", kind="slow", delay=1))
    polled = wire_of(ref.kind).poll(ref)

    async def change() -> list[str]:
        async with shared_client.shared(OpenAIRunsHook("changing")) as client:
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "old"})
            slow = asyncio.create_task(client.send(polled))
            while not openai_runs_simulator.count("GET"):  # noqa: ASYNC110 - the simulator has no event
                await asyncio.sleep(0.01)
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "new"})
            await read_again(client)
            quick = await client.send(polled)
            return [quick.raw_status, (await slow).raw_status]

    assert asyncio.run(change()) == ["in_progress"] * 2


def test_connections_used_one_after_another_leave_nothing_behind(
    ref: RunRef, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        connect(monkeypatch, openai_runs_simulator, f"one_of_many_{number}")
    polled = wire_of(ref.kind).poll(ref)

    async def use(conn_id: str) -> None:
        async with shared_client.shared(OpenAIRunsHook(conn_id)) as client:
            await client.send(polled)

    def count_what_is_kept() -> tuple[int, int]:
        gc.collect()
        # By its type: to ask a lazy object of Airflow's for its class makes it import what is not there.
        kept = sum(issubclass(type(thing), openai.AsyncOpenAI) for thing in gc.get_objects())
        return psutil.Process().num_fds(), kept

    async def one_after_another() -> dict[int, tuple[int, int]]:
        found = {}
        for number in range(20):
            await use(f"one_of_many_{number}")
            await asyncio.sleep(0.01)  # a transport closes in the turn of the loop after
            if number in {1, 19}:
                found[number] = count_what_is_kept()
        assert not shared_client._clients[asyncio.get_running_loop()]
        return found

    # Fewer is well: on a slow machine the simulator closes what is older than the test.
    (files_first, clients_first), (files_last, clients_last) = asyncio.run(one_after_another()).values()
    assert files_last <= files_first
    assert clients_last <= clients_first


class SlowHook(OpenAIRunsHook):
    """Reads its connection when it may."""

    def __init__(self, conn_id: str) -> None:
        super().__init__(conn_id)
        self.may_read = asyncio.Event()
        self.reads = 0

    async def aread_connection(self) -> tuple[Any, dict[str, Any]]:
        """Wait first."""
        self.reads += 1
        await self.may_read.wait()
        return await super().aread_connection()


def test_a_slow_lookup_delays_no_poll_that_has_a_client(
    ref: RunRef, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled = wire_of(ref.kind).poll(ref)

    async def slow() -> tuple[list[str], int]:
        hook = SlowHook("openai_default")
        hook.may_read.set()
        async with shared_client.shared(hook) as client:
            await client.send(polled)
            monkeypatch.setattr(shared_client, "SETTINGS_SECONDS", 0.0)
            hook.may_read.clear()
            async with asyncio.timeout(60):
                found = [(await client.send(polled)).raw_status for _ in range(3)]
            return found, hook.reads

    assert asyncio.run(slow()) == (["in_progress"] * 3, 2)


def test_the_last_wait_leaves_nothing_open_while_the_settings_are_being_read(
    ref: RunRef, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    """An unclosed session would be a warning, and so an error."""
    polled = wire_of(ref.kind).poll(ref)
    closed = mocker.spy(openai.AsyncOpenAI, "close")
    hook: SlowHook

    async def leave() -> None:
        nonlocal hook
        hook = SlowHook("openai_default")
        hook.may_read.set()
        async with shared_client.shared(hook) as client:
            await client.send(polled)
            monkeypatch.setattr(shared_client, "SETTINGS_SECONDS", 0.0)
            hook.may_read.clear()
            await client.send(polled)
            while hook.reads < 2:  # noqa: ASYNC110 - the hook has no event for it
                await asyncio.sleep(0.01)

    asyncio.run(leave())
    gc.collect()
    assert hook.reads == 2
    assert closed.call_count == 1


def test_a_wait_that_is_cancelled_while_it_leaves_closes_its_client_all_the_same(
    ref: RunRef, openai_runs_simulator: Simulator, mocker: MockerFixture
) -> None:
    closed = mocker.spy(openai.AsyncOpenAI, "close")

    async def wait(left: asyncio.Event) -> None:
        async with shared_client.shared(OpenAIRunsHook("openai_default")) as client:
            await client.send(wire_of(ref.kind).poll(ref))
            left.set()

    async def cancel() -> None:
        left = asyncio.Event()
        waiting = asyncio.create_task(wait(left))
        await left.wait()
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(cancel())
    gc.collect()
    assert closed.call_count == 1


def test_after_a_refused_key_the_next_poll_waits_for_the_fresh_one(
    ref: RunRef, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_client, "_FRESH_SECONDS", 0.0)

    async def rotate() -> Any:
        connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "old"})
        hook = SlowHook("changing")
        hook.may_read.set()
        async with shared_client.shared(hook) as client:
            await client.send(wire_of(ref.kind).poll(ref))
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "new"})
            hook.may_read.clear()
            openai_runs_simulator.fault(Fault(method="GET", status=401))
            limits = WaitLimits(created_at=0.0, deadline=time.time() + 2, poll_interval=0.1)
            flow = waits.wait(ref, limits, cancel_on_timeout=False, cancel_wait=0, note=lambda *_: None)
            waiting = asyncio.create_task(client.run_flow(flow))
            while hook.reads < 2:  # noqa: ASYNC110 - the hook has no event for it
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            hook.may_read.set()
            await waiting

    asyncio.run(rotate())
    teams = [sent.headers["x-team"] for sent in openai_runs_simulator.requests if sent.method == "GET"]
    assert teams[:2] == ["old"] * 2
    assert set(teams[2:]) == {"new"}


def test_a_lookup_that_does_not_end_is_a_failure_that_says_so(
    ref: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_client, "_SETTINGS_WITHIN", 0.1)

    async def first() -> None:
        async with asyncio.timeout(60), shared_client.shared(SlowHook("openai_default")) as client:
            await client.send(wire_of(ref.kind).poll(ref))

    with pytest.raises(ApiRequestFailed) as caught:
        asyncio.run(first())
    assert caught.value.failure.kind == "not_sent"
    assert "TimeoutError" in caught.value.failure.text


@pytest.fixture
def never_closes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the SDK's clients and aiohttp's sessions close only when they are made to; note which began."""
    begun: list[str] = []

    def slowly(closes: type[Any]) -> None:
        close = closes.close

        async def wait_first(closing: Any) -> None:
            begun.append(closes.__name__)
            try:
                await asyncio.Event().wait()
            finally:
                await close(closing)

        monkeypatch.setattr(closes, "close", wait_first)

    slowly(openai.AsyncOpenAI)
    slowly(aiohttp.ClientSession)
    monkeypatch.setattr(fast_polls, "_CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(shared_client, "_CLOSE_SECONDS", 0.1)
    return begun


@pytest.mark.usefixtures("never_closes")
def test_the_new_client_is_in_place_before_the_old_one_closes(
    ref: RunRef, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_client, "SETTINGS_SECONDS", 0.0)
    polled = wire_of(ref.kind).poll(ref)

    async def change() -> str | None:
        async with shared_client.shared(OpenAIRunsHook("changing")) as client:
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "old"})
            await client.send(polled)
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "new"})
            while (team := openai_runs_simulator.requests[-1].headers["x-team"]) == "old":
                await client.send(polled)
        return team

    assert asyncio.run(asyncio.wait_for(change(), 60)) == "new"


def test_a_close_that_does_not_end_holds_no_poll_that_was_under_way(
    ref: RunRef, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, never_closes: list[str]
) -> None:
    """The last poll of a retired client is the one that has it closed."""
    monkeypatch.setattr(shared_client, "SETTINGS_SECONDS", 0.0)
    polled = wire_of(ref.kind).poll(ref)

    async def change() -> None:
        async with shared_client.shared(OpenAIRunsHook("changing")) as client:
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "old"})
            await client.send(polled)
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "new"})
            openai_runs_simulator.fault(Fault(method="GET", kind="slow", delay=0.5))
            await client.send(polled)
            assert openai_runs_simulator.requests[-1].headers["x-team"] == "old"
            while "ClientSession" not in never_closes:
                await client.send(polled)

    asyncio.run(asyncio.wait_for(change(), 60))


def test_a_server_that_does_not_let_go_of_a_connection_holds_no_poll(
    ref: RunRef, openai_runs_simulator: Simulator, never_closes: list[str]
) -> None:
    polled = wire_of(ref.kind).poll(ref)

    async def after_a_cut() -> None:
        async with shared_client.shared(OpenAIRunsHook("openai_default")) as client:
            openai_runs_simulator.fault(Fault(method="GET", kind="cut"))
            with pytest.raises(ApiRequestFailed):
                await client.send(polled)
            await client.send(polled)

    asyncio.run(asyncio.wait_for(after_a_cut(), 60))
    assert never_closes[0] == "ClientSession"


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "by the SDK"])
def test_a_key_that_does_not_come_is_a_call_that_was_not_sent(
    ref: RunRef, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, *, is_fast: bool
) -> None:
    if not is_fast:
        monkeypatch.setattr(FastPolls, "can_serve", staticmethod(lambda _client: False))
    monkeypatch.setattr(api_key, "_KEY_SECONDS", 0.2)
    end = threading.Event()
    slow_keys = ModuleType("slow_keys")
    monkeypatch.setattr(slow_keys, "token", lambda: end.wait(60) and "", raising=False)
    monkeypatch.setitem(sys.modules, "slow_keys", slow_keys)
    where = {**openai_runs_simulator.connection, "extra": {"api_key_provider": "slow_keys.token"}}
    monkeypatch.setenv("AIRFLOW_CONN_SLOW_KEYS", json.dumps(where))

    async def first() -> ApiRequestFailed:
        async with asyncio.timeout(60), shared_client.shared(OpenAIRunsHook("slow_keys")) as client:
            with pytest.raises(ApiRequestFailed) as caught:
                await client.send(wire_of(ref.kind).poll(ref))
            assert not end.is_set()
            end.set()
            return caught.value

    assert asyncio.run(first()).failure.kind == "not_sent"


def test_a_create_whose_key_comes_too_late_does_not_leave(
    openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    late_keys = ModuleType("late_keys")
    leave_by = time.time() + 0.5

    def token() -> str:
        while time.time() < leave_by:
            time.sleep(0.05)
        return "sk-late"

    monkeypatch.setattr(late_keys, "token", token, raising=False)
    monkeypatch.setitem(sys.modules, "late_keys", late_keys)
    where = {**openai_runs_simulator.connection, "extra": {"api_key_provider": "late_keys.token"}}
    monkeypatch.setenv("AIRFLOW_CONN_LATE_KEYS", json.dumps(where))
    body = {"model": "m", "input": "Why?", "background": True}
    create = wire_of(RunKind.RESPONSE).create(
        RunRequest(kind=RunKind.RESPONSE, body=body), token="t", conn_id="late_keys"
    )

    async def send(by: float | None) -> Any:
        async with shared_client.shared(OpenAIRunsHook("late_keys")) as client:
            return await client.send(replace(create, leave_by=by))

    with pytest.raises(ApiRequestFailed) as caught:
        asyncio.run(send(leave_by))
    assert caught.value.failure.kind == "not_sent"
    assert openai_runs_simulator.runs() == []
    asyncio.run(send(time.time() + 60))
    assert len(openai_runs_simulator.runs()) == 1


def test_a_cancel_has_the_headers_of_the_sdk(
    ref: RunRef, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers refuse a POST that says another type of content."""

    async def cancel() -> None:
        async with shared_client.shared(OpenAIRunsHook("openai_default")) as client:
            await client.send(wire_of(ref.kind).cancel(ref))

    asyncio.run(cancel())
    monkeypatch.setattr(FastPolls, "can_serve", staticmethod(lambda _client: False))
    asyncio.run(cancel())
    fast, sdk = ({**sent.headers} for sent in openai_runs_simulator.requests if sent.path.endswith("/cancel"))
    assert fast["content-type"] == "application/json"
    assert {name for name in fast.keys() | sdk.keys() if fast.get(name) != sdk.get(name)} <= {
        "host",
        "x-stainless-read-timeout",
        "accept-encoding",
    }
