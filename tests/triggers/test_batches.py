# SPDX-License-Identifier: Apache-2.0
"""A trigger that waits for the batches of a bulk task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_openai_runs.bulk.batch.lines import to_line
from airflow_provider_openai_runs.bulk.batch.requests import BatchRequests
from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.bulk.waiting import to_lines
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.simulator import BatchScenario, Fault, Scenario
from airflow_provider_openai_runs.triggers import BatchCompletionTrigger
from airflow_provider_openai_runs.wire.batches import Batch
from tests.support.scene import Scene

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

Waiting = Callable[..., BatchCompletionTrigger]


@pytest.fixture
def waiting(scene: Scene, tmp_path: Path) -> Waiting:
    """Create batches, each of its scenario, and make the trigger that waits for them."""

    def make(*scripts: BatchScenario, age: float = 0.0, **arguments: Any) -> BatchCompletionTrigger:
        scene.simulator.script_batches(*scripts)
        requests, runs = BatchRequests(runner=OpenAIRunsHook()), []
        (tmp_path / "up").write_bytes(
            b"".join(to_line(row, {"model": "m", "input": "Hi"}) for row in range(4))
        )
        for number, _ in enumerate(scripts):
            file_id = requests.uploaded(tmp_path / "up", "a.jsonl", since=0.0)
            batch = SentBatch(token=str(number), file_id=file_id, rows=((number, number),), at=0.0)
            created = requests.create(batch, leave_by=1e12)
            assert isinstance(created, Batch)
            runs.append(NewRun(row=number, id=created.id, created_at=time.time() - age))
        path = tmp_path / "waiting.jsonl"
        path.write_bytes(to_lines(runs))
        given = {"path": str(path), "conn_id": "openai_default", "count": len(runs), "poll_interval": 0.1}
        return BatchCompletionTrigger(**{**given, **arguments})

    return make


def _kill(trigger: BatchCompletionTrigger, state: Any, mocker: MockerFixture) -> None:
    trigger.task_instance = SimpleNamespace(  # type: ignore[assignment]
        dag_id="a_dag", run_id="a_run", task_id="ask", map_index=-1
    )
    answer = SimpleNamespace(task_states={"a_run": {"ask": state}})
    comms = SimpleNamespace(asend=mocker.AsyncMock(return_value=answer), send=mocker.Mock())
    mocker.patch("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", comms, create=True)
    asyncio.run(trigger.on_kill())


def _statuses(scene: Scene) -> list[str]:
    return [entry["status"] for entry in scene.simulator.runs() if entry["kind"] == "batch"]


def test_a_worker_is_woken_when_all_batches_have_ended(scene: Scene, waiting: Waiting) -> None:
    event = scene.fire(waiting(BatchScenario(), BatchScenario(in_progress=2)))
    assert (event["reason"], event["ended"], event["failed"]) == ("ended", 2, 0)


def test_a_wait_whose_polls_fail_says_so(
    scene: Scene, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.triggers.bulk.PROGRESS_EVERY", 0.2)
    trigger = waiting(BatchScenario(in_progress=60))
    scene.simulator.fault(Fault(method="GET", path="/batches/", status=503, times=5))
    log = scene.log_of(trigger)

    async def event() -> Any:
        firing = asyncio.ensure_future(anext(trigger.run()))
        while not any("polls failed" in line for line in log):  # noqa: ASYNC110 # another thread's
            await asyncio.sleep(0.05)
        scene.simulator.advance(60)
        return (await firing).payload

    assert asyncio.run(event())["reason"] == "ended"
    assert any("503" in line for line in log)


def test_a_worker_is_woken_by_the_first_end_where_more_is_to_be_created(
    scene: Scene, waiting: Waiting
) -> None:
    event = scene.fire(waiting(BatchScenario(), BatchScenario(in_progress=60), ends=1))
    assert (event["reason"], event["ended"]) == ("room", 1)


@pytest.mark.parametrize("scripts", [(), (BatchScenario(in_progress=60),)])
def test_a_worker_is_woken_when_it_may_try_again(
    scene: Scene, waiting: Waiting, scripts: tuple[BatchScenario, ...]
) -> None:
    wake_at = time.time() + 1
    assert scene.fire(waiting(*scripts, wake_at=wake_at))["reason"] == "again"
    assert time.time() >= wake_at


@pytest.mark.parametrize(
    ("first", "items"),
    [
        (BatchScenario(in_progress=8, expires_after=1), Scenario()),
        (BatchScenario(error={"code": "invalid_json_line"}), Scenario()),
        (BatchScenario(), Scenario(ends="failed", times=None)),
    ],
)
def test_a_worker_is_woken_while_there_is_time_to_send_again_what_an_early_batch_has_left(
    scene: Scene, waiting: Waiting, first: BatchScenario, items: Scenario
) -> None:
    scene.simulator.script(items)
    event = scene.fire(waiting(first, BatchScenario(in_progress=2400)))
    assert (event["reason"], event["ended"]) == ("again", 1)


def test_at_the_deadline_batches_are_asked_to_end_and_waited_for(scene: Scene, waiting: Waiting) -> None:
    trigger = waiting(
        BatchScenario(in_progress=60, cancelling=1),
        BatchScenario(in_progress=60, cancelling=0),
        deadline=time.time() + 1,
    )
    assert scene.fire(trigger)["reason"] == "time_is_over"
    assert _statuses(scene) == ["cancelled", "cancelled"]


@pytest.mark.parametrize("status", [502, 404])
def test_a_server_that_is_away_for_a_while_ends_no_wait(scene: Scene, waiting: Waiting, status: int) -> None:
    trigger = waiting(BatchScenario(in_progress=1), age=9_000)
    scene.simulator.fault(Fault(path="/batches/", kind="status", status=status, times=5))
    event = scene.fire(trigger)
    assert (event["reason"], event["failed"]) == ("ended", 0)


def test_a_marked_task_has_its_batches_asked_to_end_and_named_with_their_files(
    scene: Scene, waiting: Waiting, mocker: MockerFixture
) -> None:
    trigger = waiting(BatchScenario(in_progress=60, cancelling=600), BatchScenario(in_progress=0))
    scene.simulator.advance(5)
    log = scene.log_of(trigger)
    _kill(trigger, "failed", mocker)
    assert _statuses(scene) == ["cancelling", "completed"]
    [line] = [line for line in log if "stop --path" in line]
    assert line.count("batch_") == line.count("input file-") == 2
    assert "output file-" in line


def test_a_trigger_that_moves_ends_no_batch(scene: Scene, waiting: Waiting, mocker: MockerFixture) -> None:
    _kill(waiting(BatchScenario(in_progress=60)), "deferred", mocker)
    scene.simulator.advance(1)
    assert _statuses(scene) == ["in_progress"]


def test_a_marked_task_that_has_no_batch_says_nothing_of_answers(
    scene: Scene, waiting: Waiting, mocker: MockerFixture
) -> None:
    log = scene.log_of(trigger := waiting(wake_at=time.time() + 60))
    _kill(trigger, "failed", mocker)
    assert not [line for line in log if "Nobody has read" in line]
