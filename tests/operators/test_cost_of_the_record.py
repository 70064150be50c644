# SPDX-License-Identifier: Apache-2.0
"""What the record costs in the worker, in requests to Airflow's store and polls of the run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Make, Scene

QUICK = Scenario(queued=0.02, in_progress=0.05)
LONG = Scenario(queued=0.02, in_progress=500)


@pytest.fixture
def calls(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of the store, each of which is a request to Airflow's API server."""
    counted: Counter[str] = Counter()

    def count(method: str) -> None:
        original = getattr(scene.store, method)

        def call(*arguments: Any, **options: Any) -> Any:
            counted[method] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(scene.store, method, call)

    for method in ("get", "set", "delete"):
        count(method)
    return counted


def test_a_first_attempt_costs_three_requests_to_the_store_and_no_poll_and_its_end_two_more(
    scene: Scene, create: Make, calls: Counter[str]
) -> None:
    def lookups_in_the_worker(context: dict[str, Any]) -> int:
        scene.simulator.script(QUICK)
        operator = create(deferrable=True)
        before = scene.simulator.count("GET", "")
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(context)
        polls = scene.simulator.count("GET", "") - before
        event = scene.fire(deferred.value.trigger)
        before = scene.simulator.count("GET", "")
        operator.execute_complete(context, event)
        return polls + scene.simulator.count("GET", "") - before

    assert lookups_in_the_worker(scene.kept) == lookups_in_the_worker(scene.context_of(None))
    assert calls == {"get": 2, "set": 3}


def test_an_attempt_that_waits_in_its_worker_reads_the_record_once(
    scene: Scene, create: Make, calls: Counter[str]
) -> None:
    scene.simulator.script(QUICK)
    create().execute(scene.kept)

    assert calls == {"get": 1, "set": 3}


def test_a_retry_that_goes_on_with_a_run_costs_two_requests_to_the_store_and_one_poll(
    scene: Scene, create: Make, calls: Counter[str]
) -> None:
    scene.simulator.script(LONG)
    operator = create(deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(scene.kept)
    calls.clear()
    before = scene.simulator.count("GET", "")
    with pytest.raises(TaskDeferred):
        operator.execute(scene.retry(scene.kept))

    assert calls == {"get": 1, "set": 1}
    assert scene.simulator.count("GET", "") - before == 1
