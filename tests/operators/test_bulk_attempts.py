# SPDX-License-Identifier: Apache-2.0
"""A bulk task over several attempts: a retry, a mark, a clear, a worker that goes away, a limit of time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import timeout

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunTimeoutError,
)
from tests.support import bulk_operators
from tests.support.bulk_operators import (
    LONG_OVER,
    Bulk,
    active,
    asked,
    left_going,
    quick,
    when,
    when_created,
)
from tests.support.scene import Scene

bulk = bulk_operators.bulk


def test_a_retry_goes_on_with_every_run_and_creates_only_what_was_never_sent(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(scene, in_progress=4)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.BULK_KILL_SECONDS", 0.5)
    scene.store.fail("set", ConnectionError("Airflow is away"), skip=3)
    task = bulk(max_unrecorded=5)
    killer = when(lambda: scene.creates() and scene.store.failed, task.on_kill)
    with pytest.raises(OpenAIRunError, match="killed"):
        task.execute(scene.kept)
    killer.join()
    before = scene.creates()
    assert 0 < before < 20
    scene.store.recover()
    result = scene.run(bulk(max_unrecorded=5), scene.retry(scene.kept))
    assert result["succeeded"] + result["lost"] == 20
    assert max(asked(scene).values()) == 1


def test_a_worker_that_goes_away_leaves_its_runs_to_the_retry(scene: Scene, bulk: Bulk) -> None:
    quick(scene, in_progress=60)
    task = bulk(items=["a", "b"])
    killer = when_created(scene, 2, task.on_kill)
    with pytest.raises(OpenAIRunError, match="2 runs may be running"):
        task.execute(scene.kept)
    killer.join()
    assert scene.simulator.count("POST", r"/cancel$") == 0
    scene.simulator.advance(60)
    result = scene.run(bulk(items=["a", "b"]), scene.retry(scene.kept))
    assert result["succeeded"] == 2
    assert scene.creates() == 2


def test_a_marked_task_ends_its_runs(scene: Scene, bulk: Bulk) -> None:
    quick(scene, in_progress=60)
    task = bulk(items=["a", "b"])

    def mark() -> None:
        scene.kept["ti"].state = "failed"
        task.on_kill()

    killer = when_created(scene, 2, mark)
    with pytest.raises(OpenAIRunError, match="No run of it is active"):
        task.execute(scene.kept)
    killer.join()
    assert not active(scene)


def test_a_mark_that_reaches_no_worker_is_found_by_the_worker(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.fence.FENCE_EVERY", 0.2)
    quick(scene, in_progress=60)
    ti = scene.kept["ti"]
    marking = when_created(scene, 2, lambda: setattr(ti, "state", "success"))
    with pytest.raises(OpenAIRunError, match="killed"):
        bulk(items=["a", "b"]).execute(scene.kept)
    marking.join()
    assert not active(scene)


def test_a_worker_whose_task_a_scheduler_has_reset_leaves_its_runs_to_the_next_attempt(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.fence.FENCE_EVERY", 0.2)
    quick(scene, in_progress=60)
    resetting = when_created(scene, 2, lambda: setattr(scene.kept["ti"], "state", None))
    with pytest.raises(OpenAIRunError, match="2 runs may be running"):
        bulk(items=["a", "b"]).execute(scene.kept)
    resetting.join()
    assert len(active(scene)) == 2
    scene.simulator.advance(60)
    assert scene.run(bulk(items=["a", "b"]), scene.retry(scene.kept, state="running"))["succeeded"] == 2
    assert scene.creates() == 2


def test_a_clear_ends_the_runs_of_before_and_begins_anew(scene: Scene, bulk: Bulk) -> None:
    quick(scene, in_progress=60)
    task = bulk(items=["a", "b"])
    killer = when_created(scene, 2, task.on_kill)
    with pytest.raises(OpenAIRunError):
        task.execute(scene.kept)
    killer.join()
    clock = when_created(scene, 4, lambda: scene.simulator.advance(60))
    result = scene.run(bulk(items=["a", "b"]), scene.clear(scene.kept))
    clock.join()
    assert result["succeeded"] == 2
    assert scene.simulator.count("POST", r"/cancel$") == 2
    assert asked(scene) == {"a": 2, "b": 2}


def test_an_attempt_that_was_replaced_ends_what_the_next_one_cannot_know(scene: Scene, bulk: Bulk) -> None:
    # Both creates are answered before the commit that fails, also on a slow machine.
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.dispatcher.COMMIT_EVERY", 0.5)
    quick(scene, in_progress=60)
    scene.store.fail("set", scene.gone, skip=1)
    with pytest.raises(OpenAIRunError, match="later attempt"):
        bulk(items=["a", "b"]).execute(scene.kept)
    assert scene.creates() == 2
    # Their segment was written within the seconds that the next attempt waits for, so it finds them.
    assert len(active(scene)) == 2
    scene.store.recover()
    with pytest.raises(RunTimeoutError):
        bulk(items=["a", "b"], completion_window=LONG_OVER).execute(scene.retry(scene.kept))
    assert scene.creates() == 2
    assert not active(scene)


def test_the_time_limit_of_airflow_ends_the_runs_and_a_retry_creates_others(scene: Scene, bulk: Bulk) -> None:
    quick(scene, in_progress=600)
    over = when_created(scene, 2, lambda: os.kill(os.getpid(), signal.SIGALRM))
    with pytest.raises(AirflowTaskTimeout), timeout(60):
        bulk(items=["a", "b"]).execute(scene.kept)
    over.join()
    assert scene.creates() == 2
    assert not active(scene)
    scene.simulator.reset()
    quick(scene)
    result = scene.run(bulk(items=["a", "b"], item_retries=0), scene.retry(scene.kept))
    assert (result["succeeded"], scene.creates()) == (2, 2)


def test_a_time_limit_that_is_over_while_the_task_is_deferred_leaves_its_items_to_a_retry(
    scene: Scene, bulk: Bulk
) -> None:
    quick(scene, in_progress=600)
    left_going(scene, bulk(items=["a", "b"]))
    over = {"reason": "time_is_over", "attempt_deadline": time.time()}
    with pytest.raises(RunTimeoutError, match=r"execution_timeout is over.*stop --path") as raised:
        bulk(items=["a", "b"], item_retries=0).execute_complete(scene.retry(scene.kept), over)
    assert raised.value.retryable
    assert not active(scene)
    scene.simulator.reset()
    quick(scene)
    result = scene.run(bulk(items=["a", "b"], item_retries=0), scene.retry(scene.kept, try_number=3))
    assert (result["succeeded"], scene.creates()) == (2, 2)


def test_a_time_limit_that_is_over_on_the_last_try_is_why_its_items_failed(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    quick(scene, in_progress=600)
    left_going(scene, bulk(items=["a", "b"]))
    over = {"reason": "time_is_over", "attempt_deadline": time.time()}
    with pytest.raises(RunTimeoutError):
        bulk(items=["a", "b"]).execute_complete(scene.retry(scene.kept, try_number=3), over)
    said = "".join(path.read_text() for path in tmp_path.rglob("results/*.jsonl"))
    assert said.count("cancelled by this task: execution_timeout is over") == 2
