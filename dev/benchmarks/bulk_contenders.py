# SPDX-License-Identifier: Apache-2.0
"""
The ways to get thousands of answers that are compared, each in a process of its own, without Airflow.

    ours     a bulk task's session, as a worker runs it, with its journal and results in a folder
    bare     one aiohttp session, a semaphore, our intervals, and none of the guarantees
    openai   the same with one AsyncOpenAI, for information
    trigger  the wait of a trigger for so many active runs, for its memory

    python -m dev.benchmarks.bulk_contenders '{"contender": "ours", "items": 500, ...}'

Prints its figures as JSON: seconds, CPU seconds, bytes above the start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
import logging
import os
import sys
import time
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dev.benchmarks.measuring import resident

CONNECTIONS = 100
_BODY = {"model": "gpt-6-luna", "background": True, "store": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    What a contender is to do.

    :param folder: of its input, its output and its state.
    :param attempt: the first one is 1; a later one goes on from the journal.
    """

    contender: str
    items: int
    base_url: str
    folder: str
    max_active: int = 2_000
    max_unrecorded: int = 100
    polls_per_second: float = 200.0
    attempt: int = 1
    seconds: float = 20.0


def prompt(number: int) -> str:
    """Return the input of an item, as the server reads it."""
    return f"Item {number}: what is late, and why?"


def interval(age: float, active: int, polls_per_second: float) -> float:
    """Return the seconds between two polls of a run, as a bulk task has them, without jitter."""
    return max(1.0, min(30.0, age / 10), active / polls_per_second)


# -- ours ----------------------------------------------------------------------------------------------------


class FileStore:
    """Stands for Airflow's task state store: it outlives the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Mapping[str, Any] | None:
        """Return what is stored."""
        return dict(json.loads(self._path.read_text())) if self._path.exists() else None

    def save(self, value: Mapping[str, Any]) -> None:
        """Store a value."""
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(value))
        part.replace(self._path)


def ours(job: Job) -> Callable[[], dict[str, Any]]:
    """Run the session of a bulk task."""
    from airflow_provider_openai_runs.bulk.dispatcher import Limits  # noqa: PLC0415 # brings Airflow
    from airflow_provider_openai_runs.bulk.inputs import open_input  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.item_request import ItemRequest  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.session import BulkSession  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.settings import BulkSettings  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.work import Concluded  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.end_of_attempt import TaskState  # noqa: PLC0415

    folder = Path(job.folder)
    path = folder / "in.jsonl"
    if not path.exists():
        path.write_text("".join(json.dumps({"input": prompt(n)}) + "\n" for n in range(job.items)))
    log: Any = logging.getLogger("bulk")
    settings = BulkSettings(
        conn_id="openai_default",
        output_path=f"file://{folder}/out",
        request_of=ItemRequest(arguments=_BODY, names=frozenset({"input"})),
        limits=Limits(max_active=job.max_active, max_unrecorded=job.max_unrecorded),
        completion_window=86400.0,
        polls_per_second=job.polls_per_second,
    )
    task = {"dag_id": "bench", "run_id": "manual", "task_id": "ask", "map_index": -1}
    tries = {"max_tries": 2, "try_number": job.attempt}
    ti = SimpleNamespace(id=str(uuid.uuid4()), xcom_push=lambda **_: None, **task, **tries)
    session = BulkSession(
        settings,
        ti=ti,
        store=FileStore(folder / "store.json"),
        ask=lambda: TaskState("running"),
        open_input=partial(open_input, input_path=f"file://{path}", log=log),
        log=log,
    )

    def run() -> dict[str, Any]:
        concluded = session.run(may_defer=False)
        assert isinstance(concluded, Concluded)  # noqa: S101 # for mypy
        return {"counts": dict(concluded.manifest.counts)}

    return run


# -- the others ----------------------------------------------------------------------------------------------

Create = Callable[[int], Awaitable[str]]
#: Returns the answer of a run, by its id; None as long as it has not ended.
Retrieve = Callable[[str], Awaitable[str | None]]


@asynccontextmanager
async def bare(base_url: str) -> AsyncIterator[tuple[Create, Retrieve]]:
    """Send requests with a bare aiohttp session."""
    aiohttp: Any = importlib.import_module("aiohttp")
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=120)
    headers = {"authorization": "Bearer sk-bench"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def create(number: int) -> str:
            body = {**_BODY, "input": prompt(number)}
            async with session.post(f"{base_url}/responses", json=body) as reply:
                return str((await reply.json())["id"])

        async def retrieve(name: str) -> str | None:
            async with session.get(f"{base_url}/responses/{name}") as reply:
                found = await reply.json()
                return text_of(found["output"]) if found["status"] == "completed" else None

        yield create, retrieve


@asynccontextmanager
async def openai(base_url: str) -> AsyncIterator[tuple[Create, Retrieve]]:
    """Send requests with the SDK's client."""
    httpx2, sdk = importlib.import_module("httpx2"), importlib.import_module("openai")
    limits = httpx2.Limits(
        max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=120
    )
    gate = asyncio.Semaphore(CONNECTIONS)
    http_client = sdk.DefaultAsyncHttpxClient(limits=limits)
    async with sdk.AsyncOpenAI(base_url=base_url, api_key="sk-bench", http_client=http_client) as client:

        async def create(number: int) -> str:
            async with gate:
                return str((await client.responses.create(**_BODY, input=prompt(number))).id)

        async def retrieve(name: str) -> str | None:
            async with gate:
                found = await client.responses.retrieve(name)
                return str(found.output_text) if found.status == "completed" else None

        yield create, retrieve


def text_of(output: list[dict[str, Any]]) -> str:
    """Return the text of an answer."""
    return "".join(part["text"] for item in output for part in item["content"])


Script = Callable[[str], AbstractAsyncContextManager[tuple[Create, Retrieve]]]


def scripted(script: Script, job: Job, *modules: str) -> Callable[[], dict[str, Any]]:
    """
    Run a script of a loop an item, behind a semaphore; its results are lines of a file.

    :param modules: what it imports.
    """
    for name in modules:
        importlib.import_module(name)

    async def run() -> dict[str, Any]:
        slots, active = asyncio.Semaphore(job.max_active), 0
        async with script(job.base_url) as (create, retrieve):
            with (Path(job.folder) / "out.jsonl").open("w", encoding="utf-8") as file:

                async def one(number: int) -> None:
                    nonlocal active
                    async with slots:
                        name, began = await create(number), time.time()
                        active += 1
                        while True:
                            age = time.time() - began
                            await asyncio.sleep(interval(age, active, job.polls_per_second))
                            if (text := await retrieve(name)) is not None:
                                break
                        active -= 1
                        file.write(json.dumps({"item": number, "id": name, "text": text}) + "\n")

                await asyncio.gather(*map(one, range(job.items)))
        return {}

    return lambda: asyncio.run(run())


# -- the trigger's wait --------------------------------------------------------------------------------------


def trigger(job: Job) -> Callable[[], dict[str, Any]]:
    """Wait for runs that are active, as a trigger does."""
    from airflow_provider_openai_runs.bulk import waiting  # noqa: PLC0415 # brings Airflow
    from airflow_provider_openai_runs.bulk.events import NewRun  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.many_runs import ManyRuns  # noqa: PLC0415

    async def run() -> dict[str, Any]:
        async with bare(job.base_url) as (create, _):
            gate = asyncio.Semaphore(CONNECTIONS)

            async def one(number: int) -> NewRun:
                async with gate:
                    return NewRun(row=number, id=await create(number), created_at=time.time())

            runs = await asyncio.gather(*map(one, range(job.items)))
        lines, found = waiting.to_lines(runs), {}
        for name, count in (("few", 100), ("all", job.items)):
            # Not what is resident: there is room left of what has created them.
            tracemalloc.start()
            many = ManyRuns(
                waiting.from_lines(lines, count=job.items)[:count],
                conn_id="openai_default",
                polls_per_second=job.polls_per_second,
                poll_interval=None,
                seen={},
            )
            async with many:
                await many.wait(waiting.WakeUp(), until=time.time() + job.seconds)
                found[name], _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return {"bytes_a_run": (found["all"] - found["few"]) / (job.items - 100)}

    return lambda: asyncio.run(run())


CONTENDERS: dict[str, Callable[[Job], Callable[[], dict[str, Any]]]] = {
    "ours": ours,
    "bare": lambda job: scripted(bare, job, "aiohttp"),
    "openai": lambda job: scripted(openai, job, "httpx2", "openai"),
    "trigger": trigger,
}


def main() -> None:
    """Be a contender."""
    job = Job(**json.loads(sys.argv[1]))
    run = CONTENDERS[job.contender](job)
    # Imports are not what is measured.
    before, cpu, began = resident(), time.process_time(), time.time()
    print(json.dumps({"began": began}), flush=True)
    found = run()
    seconds, cpu = time.time() - began, time.process_time() - cpu
    peak = _peak() - before
    figures = {"seconds": seconds, "cpu": cpu, "peak_bytes": peak, "began": began, **found}
    print(json.dumps({**dataclasses.asdict(job), **figures}), flush=True)
    os._exit(0)


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise KeyError("VmHWM")


if __name__ == "__main__":
    main()
