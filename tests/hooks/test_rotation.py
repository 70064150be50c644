# SPDX-License-Identifier: Apache-2.0
"""Clients follow their connection, and go when nobody needs them."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import openai
import psutil
import pytest

from airflow_provider_openai_runs.hooks import OpenAIRunsHook, clients
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator
from airflow_provider_openai_runs.wire import wire_of

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


def test_a_changed_connection_is_picked_up_and_the_old_client_closed(
    ref: RunRef,
    openai_runs_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    mocker: MockerFixture,
) -> None:
    monkeypatch.setattr(clients, "SETTINGS_SECONDS", 0.0)
    closed = mocker.spy(openai.AsyncOpenAI, "close")
    look = wire_of(ref.kind).look(ref)

    async def change() -> int:
        async with clients.shared(OpenAIRunsHook("changing")) as client:
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "old"})
            await client.send(look)
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "new"})
            await client.send(look)
            return closed.call_count

    assert asyncio.run(change()) == 1
    looks = [request for request in openai_runs_simulator.requests if request.method == "GET"]
    assert [look.headers["x-team"] for look in looks] == ["old", "new"]
    assert closed.call_count == 2


def test_a_client_whose_settings_have_changed_finishes_its_calls_before_it_closes(
    ref: RunRef,
    openai_runs_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "SETTINGS_SECONDS", 0.0)
    openai_runs_simulator.fault(Fault(method="GET", kind="slow", delay=1))
    look = wire_of(ref.kind).look(ref)

    async def change() -> list[str]:
        async with clients.shared(OpenAIRunsHook("changing")) as client:
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "old"})
            slow = asyncio.create_task(client.send(look))
            while not openai_runs_simulator.count("GET"):  # noqa: ASYNC110 - the simulator has no event
                await asyncio.sleep(0.01)
            connect(monkeypatch, openai_runs_simulator, "changing", **{"X-Team": "new"})
            quick = await client.send(look)
            return [quick.word, (await slow).word]

    assert asyncio.run(change()) == ["in_progress"] * 2


def test_connections_used_one_after_another_leave_nothing_behind(
    ref: RunRef, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        connect(monkeypatch, openai_runs_simulator, f"one_of_many_{number}")
    look = wire_of(ref.kind).look(ref)

    async def use(conn_id: str) -> None:
        async with clients.shared(OpenAIRunsHook(conn_id)) as client:
            await client.send(look)

    async def one_after_another() -> list[tuple[int, int]]:
        found = []
        for number in range(20):
            await use(f"one_of_many_{number}")
            await asyncio.sleep(0.01)  # a transport closes in the turn of the loop after
            gc.collect()
            kept = sum(isinstance(thing, openai.AsyncOpenAI) for thing in gc.get_objects())
            found.append((psutil.Process().num_fds(), kept))
        assert not clients._clients[asyncio.get_running_loop()]
        return found

    found = asyncio.run(one_after_another())
    assert found[-1] == found[1]
