# SPDX-License-Identifier: Apache-2.0
"""What a bulk task by batches has spent, held against the server's bill, and its ceilings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.exceptions import CeilingReachedError, RunConnectionError, RunRequestError
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import BatchScenario, Fault, Scenario
from tests.operators.test_bulk_costs import FIVE, PRICES
from tests.operators.test_ceilings import set_prices
from tests.operators.test_what_was_spent import said
from tests.support import batch_operators
from tests.support.scene import Scene

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = batch_operators.bulk
BY_BATCH: dict[str, Any] = {"gpt-4o*": {**PRICES["gpt-4o*"], "factors": {"batch": "0.5", "8h": "0.1"}}}


@pytest.fixture
def bounded(bulk: Bulk) -> Bulk:
    """Make an operator of five items, each of which may write 300 tokens, and read some 110."""
    return lambda **arguments: bulk(**{"items": FIVE, "max_output_tokens": 300, **arguments})


def _usage(scene: Scene, prompt: int, completion: int) -> None:
    scene.simulator.script(Scenario(usage=(prompt, completion), times=None))


def _billed(scene: Scene) -> int:
    """Return the tokens that the server shows for all batches."""
    ids = [run["id"] for run in scene.simulator.runs() if run["kind"] == "batch"]
    return sum(scene.get(f"/batches/{batch_id}")["usage"]["total_tokens"] for batch_id in ids)


def _sizes(scene: Scene) -> list[int]:
    return [len(batch.items) for batch in scene.simulator._store.batches.values()]


def _reached(scene: Scene, task: BulkCreateResponsesOperator, context: Any) -> tuple[str, dict[str, Any]]:
    with pytest.raises(CeilingReachedError) as caught:
        scene.run(task, context)
    assert isinstance(caught.value, AirflowFailException)
    return str(caught.value), context["ti"].xcoms["return_value"]


def test_sums_are_the_servers_bill_at_the_price_of_batches(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, BY_BATCH)
    scene.simulator.script(
        Scenario(when="Question 1", ends="failed", error={"code": "server_error"}, times=1)
    )
    _usage(scene, 200, 20)
    found = scene.run(bounded(), scene.kept)
    assert said(found) == (_billed(scene), 1) == (5 * 220, 1)
    assert found["cost"] == found["cost_total"] == str(5 * 1200)
    assert {item["cost"] for item in read_results(found)} == {"1200"}

    found = scene.run(bounded(), scene.clear(scene.kept))
    assert (found["cost"], found["cost_total"]) == (str(5 * 1200), str(10 * 1200))
    assert said(found) == (_billed(scene), 1)


def test_an_answer_that_is_refused_here_is_paid_for_and_counted(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, BY_BATCH)
    incomplete = Scenario(when="Question 1", ends="incomplete", usage=(100, 10), times=1)
    scene.simulator.script(incomplete)
    _usage(scene, 200, 20)
    found = scene.run(bounded(), scene.kept)
    assert said(found) == (_billed(scene), 0)
    assert found["cost_total"] == str(found["succeeded"] * 1200 + 600)


def test_a_ceiling_makes_batches_smaller_and_holds(scene: Scene, bounded: Bulk) -> None:
    _usage(scene, 300, 100)
    text, found = _reached(scene, bounded(max_total_tokens=1300), scene.kept)
    assert _billed(scene) == found["usage_total"]["total_tokens"] <= 1300
    assert (_sizes(scene), found["succeeded"], found["not_created"]) == ([3], 3, 2)
    assert "max_total_tokens=1300: 1200 tokens are used, and the next request may take" in text
    assert "Raise the ceiling, or clear the task to spend it again." in text
    # A retry knows; a clear may spend it again.
    _reached(scene, bounded(max_total_tokens=1300), scene.retry(scene.kept))
    assert _sizes(scene) == [3]
    _reached(scene, bounded(max_total_tokens=1300), scene.clear(scene.kept))
    assert _sizes(scene) == [3, 3]


def test_what_a_batch_leaves_of_a_ceiling_is_for_the_next_one(scene: Scene, bounded: Bulk) -> None:
    _usage(scene, 10, 1)
    found = scene.run(bounded(max_total_tokens=900, deferrable=True), scene.kept)
    assert (found["succeeded"], found["usage"]["total_tokens"]) == (5, 55)
    assert sum(_sizes(scene)) == 5
    assert max(_sizes(scene)) == 2


def test_a_trigger_waits_for_a_batch_that_leaves_something_of_the_ceiling(
    scene: Scene, bounded: Bulk
) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=600, times=None))
    with pytest.raises(TaskDeferred) as deferred:
        bounded(max_total_tokens=900, deferrable=True).execute(scene.kept)
    trigger: Any = deferred.value.trigger
    assert (trigger.count, trigger.ends, trigger.wake_at) == (1, 1, None)


def test_a_ceiling_of_cost_goes_by_the_price_of_batches(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, BY_BATCH)
    _usage(scene, 200, 20)
    # Some 110 to read at ten and 300 to write at twenty, and half of it: some 3,550 each; paid are 1,200.
    found = scene.run(bounded(items=FIVE[:2], max_cost=7200), scene.kept)
    assert (found["cost"], _sizes(scene)) == ("2400", [2])


def test_a_model_without_a_price_is_refused_before_anything_is_paid_for(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, {"other": BY_BATCH["gpt-4o*"]})
    with pytest.raises(RunRequestError, match="no price for model 'gpt-4o-mini'"):
        scene.run(bounded(max_cost=7200), scene.kept)
    assert _sizes(scene) == []


def test_prices_that_are_lost_let_batches_be_collected_and_none_be_created(
    scene: Scene, bounded: Bulk
) -> None:
    set_prices(scene, BY_BATCH)
    _usage(scene, 200, 20)
    scene.simulator.script_batches(BatchScenario(in_progress=600, times=None))
    with pytest.raises(TaskDeferred):
        bounded(max_cost=7200, deferrable=True).execute(scene.kept)
    [created] = _sizes(scene)
    scene.simulator.advance(700)
    set_prices(scene, {})
    with pytest.raises(RunRequestError, match="no price for model"):
        scene.run(bounded(max_cost=7200), again := scene.retry(scene.kept))
    found = again["ti"].xcoms["return_value"]
    assert (found["succeeded"], _sizes(scene)) == (created, [created])


def test_what_was_not_executed_leaves_the_ceiling_to_others(scene: Scene, bounded: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=8, expires_after=1))
    _usage(scene, 300, 60)
    found = scene.run(bounded(max_total_tokens=2000), scene.kept)
    assert said(found) == (_billed(scene), 0) == (5 * 360, 0)


def test_a_batch_that_was_lost_stays_reserved(scene: Scene, bounded: Bulk) -> None:
    """Nobody knows whether it was created: the server does not list batches."""
    scene.simulator.fault(
        Fault(method="POST", path="/batches$", kind="lost"),
        Fault(method="GET", path="/batches$", kind="status", status=404, times=None),
    )
    text, found = _reached(scene, bounded(max_total_tokens=1300), scene.kept)
    assert (found["lost"], found["not_created"], found["runs_without_usage"]) == (3, 2, 3)
    assert "may be by runs that have not said theirs" in text


def test_a_refused_key_leaves_nothing_reserved(
    scene: Scene, bounded: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.attempt.PERMANENT_FAILURE_BUDGET", 0)
    scene.simulator.fault(Fault(method="POST", path="/batches$", kind="status", status=401, times=2))
    with pytest.raises(RunConnectionError):
        scene.run(bounded(max_total_tokens=1900), scene.kept)
    assert scene.run(bounded(max_total_tokens=1900), scene.retry(scene.kept))["succeeded"] == 5
