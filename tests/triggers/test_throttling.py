# SPDX-License-Identifier: Apache-2.0
"""What one wait hears from a server counts for all waits on the connection, and none of them ends of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator
from airflow_provider_openai_runs.triggers import RunCompletionTrigger
from tests.support.scene import Scene
from tests.support.waiting import until

WAITS = 20


def start(
    post: Callable[..., Any], simulator: Simulator, seconds: float, *, every: float = 0.2
) -> list[RunCompletionTrigger]:
    simulator.script(Scenario(queued=0, in_progress=seconds, times=WAITS))
    now = time.time()
    return [
        RunCompletionTrigger(
            ref={
                "kind": "response",
                "id": post("/responses", model="m", input="Why?", background=True)["id"],
                "conn_id": "openai_default",
            },
            created_at=now,
            deadline=now + 60,
            poll_interval=every,
        )
        for _ in range(WAITS)
    ]


def run(triggers: list[RunCompletionTrigger]) -> list[Any]:
    async def one(trigger: RunCompletionTrigger) -> Any:
        return [event.payload["status"] async for event in trigger.run()]

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*map(one, triggers))

    return asyncio.run(all_of_them())


def test_after_one_429_no_poll_leaves_before_the_time_it_names(scene: Scene) -> None:
    scene.simulator.fault(Fault(method="GET", status=429, retry_after=3, skip=WAITS))
    triggers = start(scene.post, scene.simulator, 500, every=0.5)

    def after() -> list[float]:
        polls = [request for request in scene.simulator.requests if request.method == "GET"]
        refused = [polled.at for polled in polls if polled.status == 429]
        # Those that were on their way when it was refused arrive up to two seconds later on a busy machine.
        return [polled.at - refused[0] for polled in polls if refused and polled.at > refused[0] + 2]

    def end_when_all_are_back() -> list[float]:
        until(lambda: len(after()) >= WAITS)
        seen = after()
        scene.simulator.advance(1000)
        return seen

    with ThreadPoolExecutor() as pool:
        found = pool.submit(end_when_all_are_back)
        assert run(triggers) == [["completed"]] * WAITS

    came_back = found.result()
    assert min(came_back) >= 2.9
    # They come back one after another, not all at once.
    assert came_back[WAITS - 6] - came_back[0] > 0.5


def test_a_server_that_answers_nobody_for_a_while_ends_no_wait(scene: Scene) -> None:
    triggers = start(scene.post, scene.simulator, 1)
    scene.simulator.fault(Fault(method="GET", kind="reset", times=12, skip=WAITS))
    assert run(triggers) == [["completed"]] * WAITS


def test_the_end_of_the_window_is_kept_while_polls_are_delayed(scene: Scene) -> None:
    triggers = start(scene.post, scene.simulator, 500)[:3]
    for trigger in triggers:
        trigger.tracked = replace(trigger.tracked, deadline=time.time() + 2)
    scene.simulator.fault(Fault(method="GET", status=429, retry_after=60, skip=3))
    began = time.monotonic()

    # A cancel is no poll: it leaves at once, and says how the run ended.
    assert run(triggers) == [["cancelled"]] * 3
    assert time.monotonic() - began < 30
