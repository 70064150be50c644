# SPDX-License-Identifier: Apache-2.0
"""
The ways to wait that are compared. Each starts its waits at once, in a process of its own.

    floor    a bare aiohttp session, one loop for each wait: the least that these polls cost
    heap     the same where Airflow and the SDK are imported, whose objects the garbage collector passes over
    ours     RunCompletionTrigger.run(), as a triggerer drives it
    sdk      one AsyncOpenAI client with 100 connections, shared by naive loops
    batch    the official provider's OpenAIBatchTrigger
    session  the official provider's OpenAIAgentSessionTrigger

Every wait is a coroutine that returns when it has noticed the end of its run. Connections come from the
environment; nothing else of Airflow is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

CONNECTIONS = 100
FAR = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    One wait.

    :param number: tells it from the others.
    :param age: seconds since the run's creation when the wait begins.
    :param ends_at: Unix seconds.
    :param interval: a fixed poll interval in seconds; None lets ours grow with the age.
    """

    number: int
    age: float
    ends_at: float
    interval: float | None

    def id(self, prefix: str) -> str:
        """Return the id that the server understands."""
        return f"{prefix}_{self.number}_{int(self.ends_at * 1000)}"


Wait = Callable[[Plan], Awaitable[None]]


@asynccontextmanager
async def floor(base_url: str) -> AsyncIterator[Wait]:
    """Poll with a bare aiohttp session."""
    aiohttp: Any = importlib.import_module("aiohttp")
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=120)
    headers = {"authorization": "Bearer sk-bench"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def wait(plan: Plan) -> None:
            url = f"{base_url}/responses/{plan.id('resp')}"
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(url) as reply:
                        if (await reply.json())["status"] == "completed":
                            return
                await asyncio.sleep(plan.interval or 10.0)

        yield wait


@asynccontextmanager
async def heap(base_url: str) -> AsyncIterator[Wait]:
    """Poll with a bare aiohttp session, in a process that holds what a triggerer holds."""
    for module in ("triggers", "hooks.openai_runs"):
        importlib.import_module(f"airflow_provider_openai_runs.{module}")
    async with floor(base_url) as wait:
        yield wait


@asynccontextmanager
async def ours(base_url: str) -> AsyncIterator[Wait]:
    """Drive our trigger as a triggerer does."""
    del base_url
    triggers = importlib.import_module("airflow_provider_openai_runs.triggers")
    await asyncio.to_thread(importlib.import_module, "airflow_provider_openai_runs.hooks.openai_runs")

    async def wait(plan: Plan) -> None:
        now = time.time()
        trigger = triggers.RunCompletionTrigger(
            ref={"kind": "response", "id": plan.id("resp"), "conn_id": "openai_default"},
            created_at=now - plan.age,
            deadline=now + FAR,
            poll_interval=plan.interval,
        )
        async for event in trigger.run():
            if event.payload["status"] != "completed":
                raise RuntimeError(f"The wait ended otherwise: {event.payload}")

    yield wait


@asynccontextmanager
async def sdk(base_url: str) -> AsyncIterator[Wait]:
    """Poll with one shared client of the SDK."""
    httpx2, openai = importlib.import_module("httpx2"), importlib.import_module("openai")
    limits = httpx2.Limits(
        max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=120
    )
    http_client = openai.DefaultAsyncHttpxClient(limits=limits)
    gate = asyncio.Semaphore(CONNECTIONS)
    async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-bench", http_client=http_client) as client:

        async def wait(plan: Plan) -> None:
            while True:
                with contextlib.suppress(openai.APIError):
                    async with gate:
                        response = await client.responses.retrieve(plan.id("resp"))
                    if response.status == "completed":
                        return
                await asyncio.sleep(plan.interval or 10.0)

        yield wait


@asynccontextmanager
async def batch(base_url: str) -> AsyncIterator[Wait]:
    """Drive the official trigger for batches."""
    del base_url
    official = importlib.import_module("airflow.providers.openai.triggers.openai")

    async def wait(plan: Plan) -> None:
        trigger = official.OpenAIBatchTrigger(
            conn_id="openai_default",
            batch_id=plan.id("batch"),
            poll_interval=plan.interval or 10.0,
            timeout=FAR,
        )
        async for event in trigger.run():
            _check(event)

    yield wait


@asynccontextmanager
async def session(base_url: str) -> AsyncIterator[Wait]:
    """Drive the official trigger for sessions."""
    del base_url
    official = importlib.import_module("airflow.providers.openai.triggers.agent")

    async def wait(plan: Plan) -> None:
        trigger = official.OpenAIAgentSessionTrigger(
            conn_id="openai_default",
            session_id=plan.id("session"),
            poll_interval=plan.interval or 10.0,
            end_time=time.time() + FAR,
        )
        async for event in trigger.run():
            _check(event)

    yield wait


def _check(event: Any) -> None:
    if event.payload["status"] != "success":
        raise RuntimeError(f"The wait ended otherwise: {event.payload}")


CONTENDERS: dict[str, Callable[[str], AbstractAsyncContextManager[Wait]]] = {
    "floor": floor,
    "heap": heap,
    "ours": ours,
    "sdk": sdk,
    "batch": batch,
    "session": session,
}
