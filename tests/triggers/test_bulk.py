# SPDX-License-Identifier: Apache-2.0
"""A trigger that waits for the runs of a bulk task, and its task is given up meanwhile."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.waiting import WakeUp, from_lines, to_lines
from airflow_provider_openai_runs.simulator import Fault, Scenario
from airflow_provider_openai_runs.triggers import BulkCompletionTrigger
from tests.support.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

COUNT = 150


@pytest.fixture
def trigger(scene: Scene, tmp_path: Path) -> BulkCompletionTrigger:
    scene.simulator.script(Scenario(queued=0, in_progress=500, times=None))
    ids = [scene.post("/responses", model="m", input="Why?", background=True)["id"] for _ in range(COUNT)]
    runs = [NewRun(row=row, id=run_id, created_at=time.time()) for row, run_id in enumerate(ids)]
    path = tmp_path / "waiting.jsonl"
    path.write_bytes(to_lines(runs))
    return BulkCompletionTrigger(path=str(path), conn_id="openai_default", count=COUNT)


def test_a_wait_whose_polls_fail_says_so_once_for_all_runs_and_goes_on(
    scene: Scene, trigger: BulkCompletionTrigger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.triggers.bulk.PROGRESS_EVERY", 0.5)
    monkeypatch.setattr("airflow_provider_openai_runs.triggers.bulk.FIRST_REMINDER", 1.0)
    scene.simulator.fault(Fault(method="GET", path="/responses/", status=503, times=COUNT))
    log = scene.log_of(trigger)
    trigger.deadline = time.time() + 3600
    _waits_until(trigger, lambda: any("have ended" in line for line in log))
    failed = [line for line in log if "polls failed, going on" in line]
    assert 1 <= len(failed) <= 4
    assert "503" in failed[0]
    assert any(f"0 of {COUNT} runs have ended, waiting until " in line for line in log)
    assert len(scene.simulator.active()) == COUNT


def _waits_until(trigger: BulkCompletionTrigger, is_enough: Callable[[], bool]) -> None:
    """Run the trigger, and cancel it then, as a triggerer does before ``on_kill``."""

    async def wait() -> None:
        waiting = asyncio.ensure_future(anext(trigger.run()))
        while not is_enough():  # noqa: ASYNC110 # the server is in another thread
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # for the answers
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(wait())


def _kill(
    trigger: BulkCompletionTrigger, state: Any, mocker: MockerFixture, *, tells_moves: bool = False
) -> None:
    runner = SimpleNamespace(**({"_REASSIGNED_CANCEL_MSG": "moved"} if tells_moves else {}))
    mocker.patch.dict(sys.modules, {"airflow.jobs.triggerer_job_runner": runner})
    trigger.task_instance = SimpleNamespace(  # type: ignore[assignment]
        dag_id="a_dag", run_id="a_run", task_id="ask", map_index=-1
    )
    answer = SimpleNamespace(task_states={"a_run": {"ask": state}})
    comms = SimpleNamespace(asend=mocker.AsyncMock(return_value=answer), send=mocker.Mock())
    mocker.patch("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", comms, create=True)
    asyncio.run(trigger.on_kill())


def test_a_marked_task_has_all_of_its_runs_ended(
    scene: Scene, trigger: BulkCompletionTrigger, mocker: MockerFixture
) -> None:
    _kill(trigger, "failed", mocker)
    assert scene.simulator.active() == []


def test_what_a_trigger_has_polled_lately_is_cancelled_at_once(
    scene: Scene, trigger: BulkCompletionTrigger, mocker: MockerFixture
) -> None:
    _waits_until(trigger, lambda: scene.simulator.count("GET") >= COUNT)
    count = scene.simulator.count("GET")
    _kill(trigger, "failed", mocker)
    assert scene.simulator.active() == []
    assert scene.simulator.count("GET") <= count + COUNT // 2, "few answers were under way"


def test_a_run_that_has_ended_before_the_mark_is_not_cancelled_and_named(
    scene: Scene, trigger: BulkCompletionTrigger, mocker: MockerFixture
) -> None:
    [ended, *_] = from_lines(Path(trigger.path).read_bytes(), count=COUNT)
    scene.simulator.advance(600)
    other = scene.post("/responses", model="m", input="Why?", background=True)["id"]
    runs = [ended, NewRun(row=1, id=other, created_at=time.time())]
    Path(trigger.path).write_bytes(to_lines(runs))
    trigger.count = len(runs)
    log = scene.log_of(trigger)
    _kill(trigger, "failed", mocker)
    assert scene.simulator.active() == []
    assert scene.simulator.count("POST", "/cancel$") == 1
    [line] = [line for line in log if ended.id in line]
    assert "what 1 of them had answered" in line
    assert "stop --path" in line


def test_a_mark_whose_runs_cannot_be_read_says_what_may_go_on(
    scene: Scene, trigger: BulkCompletionTrigger, mocker: MockerFixture
) -> None:
    Path(trigger.path).unlink()
    log = scene.log_of(trigger)
    _kill(trigger, "failed", mocker)
    [line] = log
    assert f"{COUNT} runs may go on and bill" in line
    assert "stop --path" in line


def test_a_trigger_that_moves_ends_nothing(
    scene: Scene, trigger: BulkCompletionTrigger, mocker: MockerFixture
) -> None:
    _kill(trigger, "deferred", mocker)
    assert len(scene.simulator.active()) == COUNT


def test_a_task_that_was_cleared_has_its_runs_ended_where_airflow_kills_no_trigger_that_moves(
    scene: Scene, trigger: BulkCompletionTrigger, mocker: MockerFixture
) -> None:
    _kill(trigger, "running", mocker, tells_moves=True)
    assert scene.simulator.active() == []


def test_a_file_that_is_cut_off_is_an_error_and_never_fewer_runs() -> None:
    runs = [NewRun(row=row, id=f"resp_{row}", created_at=1.5) for row in range(3)]
    content = to_lines(runs)
    assert from_lines(content, count=3) == runs
    for length in range(len(content) - 1):
        with pytest.raises(ValueError, match=r"runs of 3|cannot be read"):
            from_lines(content[:length], count=3)


@pytest.mark.parametrize(
    ("wake_up", "found", "reason"),
    [
        (WakeUp(), {"active": 0, "ended": 9}, "ended"),
        (WakeUp(), {"active": 1, "ended": 9}, None),
        (WakeUp(ends=5), {"active": 1, "ended": 5}, "room"),
        (WakeUp(ends=5), {"active": 1, "ended": 4}, None),
        (WakeUp(failures=2), {"active": 1, "ended": 3, "failed": 3}, "failures"),
        (WakeUp(failures=2), {"active": 1, "ended": 2, "failed": 2}, None),
        (WakeUp(), {"active": 1, "ended": 1, "first_end_ago": 300.0}, "collect"),
        (WakeUp(), {"active": 1, "ended": 1, "first_end_ago": 299.0}, None),
    ],
)
def test_a_worker_is_woken_for_a_reason(wake_up: WakeUp, found: dict[str, Any], reason: str | None) -> None:
    assert wake_up.reason(**{"failed": 0, "first_end_ago": None, **found}) == reason
