# SPDX-License-Identifier: Apache-2.0
"""A bulk task ends a run; what it was paid for until then is kept."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from airflow_provider_openai_runs.bulk.commands import Send, Sent
from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.requests import BulkRequests
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.worker_io import WorkerIO
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.budgets import SEND_WITHIN
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.simulator import Fault, Scenario
from airflow_provider_openai_runs.transport.shared_client import shared
from airflow_provider_openai_runs.wire.protocol import ApiReply
from tests.support.scene import Scene


class Suspended:
    """The clock of a machine that is suspended, and resumes later: only the time of day goes on."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.monotonic = time.monotonic

    def time(self) -> float:
        return time.time() + self.seconds


def _created(scene: Scene, *, in_progress: float) -> NewRun:
    scene.simulator.script(Scenario(queued=0, in_progress=in_progress, times=None))
    created = scene.post("/responses", model="m", input="Why?", background=True)
    return NewRun(row=0, id=created["id"], created_at=time.time())


def _cancelled(scene: Scene, run: NewRun, *, after: str = "") -> Run | RequestFailure:
    """Cancel it, perhaps ``after`` a "poll", or after one since which it has "ended"."""

    async def cancelled() -> Run | RequestFailure:
        async with shared(OpenAIRunsHook()) as client:
            requests = BulkRequests(sender=client, conn_id="openai_default")
            if after:
                await requests.poll(run)
            if after == "ended":
                scene.simulator.advance(1000)
            return await requests.cancel(run)

    return asyncio.run(cancelled())


def _status(ended: Run | RequestFailure) -> RunStatus:
    assert not isinstance(ended, RequestFailure), ended
    return ended.status


def test_a_create_that_a_suspended_machine_holds_up_does_not_leave(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, client = Suspended(), cast("Any", None)
    monkeypatch.setattr("airflow_provider_openai_runs.transport.leaving.time", clock)

    class HeldUp:
        async def send(self, request: Any) -> Any:
            clock.seconds = 60
            return await client.send(request)

    async def created() -> Sent:
        nonlocal client
        async with shared(OpenAIRunsHook()) as client:
            requests = BulkRequests(sender=cast("Any", HeldUp()), conn_id="openai_default")
            io = WorkerIO(
                requests=requests, **dict.fromkeys(("journal", "folder", "reader", "ask"), cast("Any", None))
            )
            row = Row(number=0, values={"model": "m", "input": "x", "background": True})
            return await io.create(Send(row=row, token="t", until=time.time() + SEND_WITHIN))

    sent = asyncio.run(created())
    assert isinstance(sent.brought, RequestFailure)
    assert sent.brought.kind is FailureKind.NOT_SENT
    assert scene.creates() == 0


@pytest.mark.parametrize("status", ["queued", "in_progress", "Queued", "pondering", None, [], {}, 5, True])
def test_a_create_is_answered_with_a_run_whatever_its_status(status: Any) -> None:
    sent = _sent({"id": "resp_1", "status": status})
    assert (cast("NewRun", sent.brought).id, sent.ended) == ("resp_1", None)


@pytest.mark.parametrize("status", ["completed", "Failed", "incomplete", "canceled"])
def test_a_create_may_be_answered_with_a_run_that_has_ended(status: str) -> None:
    sent = _sent({"id": "resp_1", "status": status, "output": []})
    assert sent.ended is not None
    assert sent.ended.status.is_terminal
    assert isinstance(sent.brought, NewRun)


def _sent(answer: dict[str, Any]) -> Sent:
    class Answering:
        async def send(self, request: Any) -> Any:
            return request.read(ApiReply(data=answer))

    requests = BulkRequests(sender=cast("Any", Answering()), conn_id="openai_default")
    return asyncio.run(requests.create(0, {"model": "m"}, token="t", leave_by=time.time() + SEND_WITHIN))


def test_a_run_that_nobody_has_polled_lately_is_polled_before_it_is_cancelled(scene: Scene) -> None:
    run = _created(scene, in_progress=0)
    assert _status(_cancelled(scene, run)) is RunStatus.COMPLETED
    assert scene.simulator.count("POST", r"/cancel$") == 0


def test_a_run_that_was_seen_active_long_ago_is_polled_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.requests.SEEN_WITHIN", 0.0)
    run = _created(scene, in_progress=600)
    assert _status(_cancelled(scene, run, after="ended")) is RunStatus.COMPLETED
    assert scene.simulator.count("POST", r"/cancel$") == 0


def test_a_run_that_was_polled_lately_is_cancelled_at_once(scene: Scene) -> None:
    run = _created(scene, in_progress=600)
    assert _status(_cancelled(scene, run, after="poll")) is RunStatus.CANCELLED
    assert scene.simulator.count("GET") == 1


def test_a_poll_that_fails_keeps_no_run_from_being_cancelled(scene: Scene) -> None:
    run = _created(scene, in_progress=600)
    scene.simulator.fault(Fault(method="GET", status=500))
    assert _status(_cancelled(scene, run)) is RunStatus.CANCELLED


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_run_that_ends_before_its_cancel_arrives_is_read(scene: Scene, status: int) -> None:
    run = _created(scene, in_progress=600)
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=status, times=None))
    assert _status(_cancelled(scene, run, after="ended")) is RunStatus.COMPLETED


@pytest.mark.parametrize("status", [400, 401, 404, 405, 409, 422])
def test_a_refused_cancel_of_a_run_that_goes_on_is_no_end(scene: Scene, status: int) -> None:
    run = _created(scene, in_progress=600)
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=status, times=None))
    ended = _cancelled(scene, run)
    assert isinstance(ended, RequestFailure)
    assert ended.http_status == status
    assert ended.kind is FailureKind.NOT_ACCEPTED
