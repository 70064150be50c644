# SPDX-License-Identifier: Apache-2.0
"""Many waits in one triggerer share one lookup of the connection and one client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import openai
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_openai_runs.simulator import Scenario, Simulator
from airflow_provider_openai_runs.transport import shared_client
from airflow_provider_openai_runs.triggers import RunCompletionTrigger
from tests.support.scene import Scene
from tests.support.waiting import waited_for_the_cpu

if TYPE_CHECKING:
    import pytest
    from pytest_mock import MockerFixture


def start(post: Callable[..., Any], conn_id: str = "openai_default") -> RunCompletionTrigger:
    created = post("/responses", model="m", input="Why?", background=True)
    ref = {"kind": "response", "id": created["id"], "conn_id": conn_id}
    now = time.time()
    return RunCompletionTrigger(ref=ref, created_at=now, deadline=now + 30, poll_interval=0.3)


async def ends(trigger: RunCompletionTrigger) -> Any:
    return [event.payload["status"] async for event in trigger.run()]


async def longest_block(until: asyncio.Future[Any]) -> float:
    """Return for how long the loop was held up, but for what the machine did for others meanwhile."""
    longest, before = 0.0, time.monotonic() - waited_for_the_cpu()
    while not until.done():
        await asyncio.sleep(0.01)
        now = time.monotonic() - waited_for_the_cpu()
        longest, before = max(longest, now - before - 0.01), now
    return longest


def all_of_them(triggers: list[RunCompletionTrigger], simulator: Simulator) -> tuple[Any, float]:
    """Run the triggers in one loop to their end; return what they saw, and the loop's longest block."""

    async def run() -> tuple[Any, float]:
        waits = asyncio.gather(*map(ends, triggers))
        asked = simulator.count("GET", "^/responses/")
        while simulator.count("GET", "^/responses/") < asked + len(triggers):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        watch = asyncio.create_task(longest_block(waits))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(simulator.advance, 100)
        return await waits, await watch

    return asyncio.run(run())


def test_fifty_waits_read_the_connection_once_and_build_one_client(
    scene: Scene, mocker: MockerFixture
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=60, times=50))
    triggers = [start(scene.post) for _ in range(50)]
    # Airflow below 3.3.2 reads a connection in a thread.
    lookups = [mocker.spy(BaseHook, name) for name in ("aget_connection", "get_connection")]
    closed = mocker.spy(openai.AsyncOpenAI, "close")
    built = mocker.spy(openai, "AsyncOpenAI")

    assert all_of_them(triggers, scene.simulator)[0] == [["completed"]] * 50
    assert sum(lookup.call_count for lookup in lookups) == 1
    assert (built.call_count, closed.call_count) == (1, 1)


def test_fifty_waits_do_not_block_the_loop_for_as_long_as_airflow_warns_about(scene: Scene) -> None:
    blocks: list[float] = []
    # A busy machine holds a loop up now and then; what blocks it does so every time.
    while len(blocks) < 4 and min(blocks, default=1.0) >= 0.2:
        scene.simulator.script(Scenario(queued=0, in_progress=60, times=50))
        triggers = [start(scene.post) for _ in range(50)]
        blocks.append(all_of_them(triggers, scene.simulator)[1])

    assert min(blocks) < 0.2


def test_two_connections_have_two_clients(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", scene.simulator.connection_json)
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, times=4))
    triggers = [start(scene.post), start(scene.post, "other"), start(scene.post), start(scene.post, "other")]
    built = mocker.spy(openai, "AsyncOpenAI")

    async def all_of_them() -> Any:
        return await asyncio.gather(*map(ends, triggers))

    assert asyncio.run(all_of_them()) == [["completed"]] * 4
    assert built.call_count == 2


def test_a_rotated_key_is_read_from_the_connection_and_the_wait_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_client, "_FRESH_SECONDS", 0.0)
    with Simulator(require_key="sk-new-key") as strict:
        strict.script(Scenario(queued=0, in_progress=0.5))
        with openai.OpenAI(base_url=strict.base_url, api_key="sk-new-key") as client:
            created = client.responses.create(model="m", input="Why?", background=True)
        old = {**strict.connection, "password": "sk-old-key"}
        monkeypatch.setenv("AIRFLOW_CONN_ROTATED", json.dumps(old))
        ref = {"kind": "response", "id": created.id, "conn_id": "rotated"}
        now = time.time()
        trigger = RunCompletionTrigger(ref=ref, created_at=now, deadline=now + 20, poll_interval=0.1)

        async def rotate() -> Any:
            waits = asyncio.create_task(ends(trigger))
            while not [r for r in strict.requests if r.status == 401]:  # noqa: ASYNC110 - the simulator has no event
                await asyncio.sleep(0.01)
            monkeypatch.setenv("AIRFLOW_CONN_ROTATED", strict.connection_json)
            return await waits

        assert asyncio.run(rotate()) == ["completed"]


def test_loops_share_nothing(scene: Scene, mocker: MockerFixture) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, times=2))
    built = mocker.spy(openai, "AsyncOpenAI")

    assert [asyncio.run(ends(start(scene.post))) for _ in range(2)] == [["completed"]] * 2
    assert built.call_count == 2
