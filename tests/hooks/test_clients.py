# SPDX-License-Identifier: Apache-2.0
"""The asynchronous client that is shared, and the synchronous one that is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import openai
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.simulator import Scenario, Simulator
from airflow_provider_openai_runs.transport import shared_client

if TYPE_CHECKING:
    import pytest
    from pytest_mock import MockerFixture


def test_calls_that_overlap_share_one_client_and_the_last_one_closes_it(
    post: Callable[..., Any], openai_runs_simulator: Simulator, mocker: MockerFixture
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0))
    ref = {"kind": "response", "id": post("/responses", model="m", input="Why?", background=True)["id"]}
    closed = mocker.spy(openai.AsyncOpenAI, "close")
    built = mocker.spy(openai, "AsyncOpenAI")

    async def together() -> list[Any]:
        found = await asyncio.gather(*(OpenAIRunsHook().aretrieve(ref) for _ in range(20)))
        assert not shared_client._clients[asyncio.get_running_loop()]
        return found

    assert {run.raw_status for run in asyncio.run(together())} == {"completed"}
    assert (built.call_count, closed.call_count) == (1, 1)


def test_calls_in_a_row_share_one_client_as_long_as_the_hook_is_held(
    post: Callable[..., Any], openai_runs_simulator: Simulator, mocker: MockerFixture
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0))
    ref = {"kind": "response", "id": post("/responses", model="m", input="Why?", background=True)["id"]}
    closed = mocker.spy(openai.AsyncOpenAI, "close")
    built = mocker.spy(openai, "AsyncOpenAI")

    async def one_by_one() -> None:
        async with OpenAIRunsHook() as hook:
            for _ in range(3):
                assert (await hook.aretrieve(ref)).raw_status == "completed"
            assert closed.call_count == 0
        assert not shared_client._clients[asyncio.get_running_loop()]

    asyncio.run(one_by_one())
    assert (built.call_count, closed.call_count) == (1, 1)


def test_a_hook_reads_its_connection_once_and_keeps_its_client(
    post: Callable[..., Any], openai_runs_simulator: Simulator, mocker: MockerFixture
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0))
    ref = {"kind": "response", "id": post("/responses", model="m", input="Why?", background=True)["id"]}
    lookups = mocker.spy(BaseHook, "get_connection")
    hook = OpenAIRunsHook()
    for _ in range(3):
        assert hook.retrieve(ref).raw_status == "completed"

    assert lookups.call_count == 1
    assert hook.conn is hook.conn


def test_the_settings_of_the_connection_reach_the_client(
    openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"openai_client_kwargs": {"organization": "org-1", "default_headers": {"x-team": "data"}}}
    connection = {**openai_runs_simulator.connection, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_TUNED", json.dumps(connection))
    hook = OpenAIRunsHook("tuned")
    openai_runs_simulator.script(Scenario(times=None))
    hook.create_background_response(model="m", input="Why?")
    asyncio.run(hook.acreate_background_response(model="m", input="Why?"))

    sent = [request.headers for request in openai_runs_simulator.requests]
    assert [(h["openai-organization"], h["x-team"]) for h in sent] == [("org-1", "data")] * 2


def test_a_hook_for_another_connection_sleeps_the_same_way() -> None:
    def sleep(_seconds: float) -> None:
        """Do not."""

    other = OpenAIRunsHook("one", sleep=sleep).for_connection("two")

    assert (other.conn_id, other.sleep) == ("two", sleep)
