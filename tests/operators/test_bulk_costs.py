# SPDX-License-Identifier: Apache-2.0
"""What a bulk task has spent, held against the server's bill; its ceilings, its windows, and who pays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.exceptions import (
    CeilingReachedError,
    OpenAIRunError,
    RunConnectionError,
    RunEndedError,
    RunRequestError,
)
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.operators.test_ceilings import set_prices
from tests.operators.test_what_was_spent import billed, said
from tests.support import bulk_operators
from tests.support.bulk_operators import quick, when_created
from tests.support.scene import Scene

if TYPE_CHECKING:
    from airflow_provider_openai_runs.triggers import BulkCompletionTrigger

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = bulk_operators.bulk
FIVE = [f"Question {number}" for number in range(5)]
#: Ten and twenty for a token, so that sums can be read.
PRICES: dict[str, Any] = {"gpt-4o*": {"input": "10000000", "output": 20000000, "factors": {"8h": "0.5"}}}


@pytest.fixture
def bounded(bulk: Bulk) -> Bulk:
    """Make an operator of five items, each of which may write 300 tokens, and read some 70 more."""
    return lambda **arguments: bulk(**{"items": FIVE, "max_output_tokens": 300, **arguments})


def _bad(scene: Scene, when: str, *, times: int | None = None, usage: tuple[int, int] | None = None) -> None:
    scene.simulator.script(
        Scenario(queued=0, in_progress=0.02, when=when, times=times, ends="failed", usage=usage)
    )


def _deferred(task: BulkCreateResponsesOperator, context: Any) -> BulkCompletionTrigger:
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    trigger: BulkCompletionTrigger = deferred.value.trigger
    return trigger


def _reached(scene: Scene, task: BulkCreateResponsesOperator, context: Any) -> tuple[str, dict[str, Any]]:
    with pytest.raises(CeilingReachedError) as caught:
        scene.run(task, context)
    assert isinstance(caught.value, AirflowFailException)
    found: dict[str, Any] = context["ti"].xcoms["return_value"]
    assert found["stopped"] == "ceiling"
    return str(caught.value), found


# -- sums ---------------------------------------------------------------------------------------------------


def test_sums_are_the_servers_bill_over_retries_of_items_and_clears(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, PRICES)
    _bad(scene, "Question 1", times=1, usage=(100, 10))
    _bad(scene, "Question 2", times=2)
    _bad(scene, "Other 3", times=3, usage=(7, 3))
    quick(scene, usage=(200, 20))
    found = scene.run(bounded(), scene.kept)
    assert found["usage"]["total_tokens"] == 5 * 220
    assert said(found) == billed(scene) == (5 * 220 + 110, 2)
    assert (found["cost"], found["cost_total"]) == (str(5 * 2400), str(5 * 2400 + 1200))
    assert len(json.dumps(found)) < 4096

    cleared = scene.clear(scene.kept)
    found = scene.run(bounded(items=[f"Other {number}" for number in range(5)]), cleared)
    assert (found["failed"], found["usage"]["total_tokens"]) == (1, 4 * 220 + 10)
    assert said(found) == billed(scene)
    manifest = json.loads(Path(found["manifest"].removeprefix("file://")).read_text())
    assert {name: manifest[name] for name in ("usage", "cost", "usage_total", "cost_total")} == {
        name: found[name] for name in ("usage", "cost", "usage_total", "cost_total")
    }
    progress = cleared["ti"].xcoms["progress"]
    assert (progress["cost"], progress["usage_total"]) == (found["cost"], found["usage_total"])


def test_runs_that_a_clear_has_cancelled_are_known_to_tell_nothing(scene: Scene, bounded: Bulk) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=600, times=2))
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    _deferred(bounded(items=FIVE[:2], deferrable=True), scene.kept)
    quick(scene, usage=(200, 20))
    found = scene.run(bounded(), scene.clear(scene.kept))

    assert said(found) == billed(scene) == (5 * 220, 2)
    assert scene.run(bounded(), scene.clear(scene.clear(scene.kept)))["runs_without_usage"] == 2


def test_a_worker_that_dies_loses_no_sum(scene: Scene, bounded: Bulk) -> None:
    _bad(scene, "Question 0", times=1, usage=(100, 10))
    quick(scene, usage=(200, 20), in_progress=2)
    task = bounded(max_active=2)
    killing = when_created(scene, 2, task.on_kill)
    with pytest.raises(OpenAIRunError, match="The task was killed"):
        task.execute(scene.kept)
    killing.join()
    found = scene.run(bounded(max_active=2), scene.retry(scene.kept))

    assert said(found) == billed(scene) == (5 * 220 + 110, 0)


def test_the_line_of_progress_says_what_was_spent(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, PRICES)
    _bad(scene, "Question 1", times=1, usage=(100, 10))
    quick(scene, usage=(200, 20))
    task = bounded()
    lines = scene.log_of(task)
    scene.run(task, scene.kept)

    spent = "1100 tokens (cost 12000), over all attempts 1210 tokens (cost 13200)"
    assert any(line.startswith("5 of 5 items done") and spent in line for line in lines), lines


# -- ceilings -----------------------------------------------------------------------------------------------


def test_a_ceiling_stops_the_creates_and_lets_what_is_active_finish(scene: Scene, bounded: Bulk) -> None:
    quick(scene, usage=(300, 100))
    context = scene.kept
    text, found = _reached(scene, bounded(max_total_tokens=1000), context)

    assert "max_total_tokens=1000: 800 tokens are used, and the next request may take" in text
    assert "2 of 5 items succeeded, 0 failed, 0 lost, 0 active, 3 not created; 800 tokens" in text
    assert "Raise the ceiling, or clear the task to spend it again." in text
    assert (found["succeeded"], found["not_created"], scene.creates()) == (2, 3, 2)
    assert len([*read_results(found)]) == 2
    assert scene.simulator.count("POST", "/cancel$") == 0
    # A retry knows; a clear may spend it again.
    _reached(scene, bounded(max_total_tokens=1000), scene.retry(context))
    assert scene.creates() == 2
    _, found = _reached(scene, bounded(max_total_tokens=1000), scene.clear(context))
    assert (scene.creates(), found["usage_total"]["total_tokens"]) == (4, 1600)


def test_items_wait_for_what_others_leave_of_a_ceiling(scene: Scene, bounded: Bulk) -> None:
    quick(scene, usage=(10, 1))
    found = scene.run(bounded(max_total_tokens=800), scene.kept)

    # All of them at once may take more than 1,800.
    assert (found["succeeded"], found["usage"]["total_tokens"]) == (5, 55)


def test_the_retry_of_an_item_is_paid_for_out_of_the_same_ceiling(scene: Scene, bounded: Bulk) -> None:
    _bad(scene, "Question", usage=(300, 100))
    _, found = _reached(scene, bounded(max_total_tokens=1000, items=FIVE[:1]), scene.kept)

    assert (scene.creates(), said(found)) == (2, (800, 0))
    [line] = Path(found["failed_path"].removeprefix("file://")).read_text().splitlines()
    assert "Its runs brought nothing, and no other followed." in line


def test_a_run_that_says_nothing_and_a_create_that_was_lost_stay_reserved(
    scene: Scene, bounded: Bulk
) -> None:
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost"))
    _bad(scene, "Question")
    task = bounded(max_total_tokens=1000, max_active=1, max_unrecorded=1, item_retries=0)
    text, found = _reached(scene, task, scene.kept)

    assert "0 tokens are used, " in text
    assert "may be by runs that have not said theirs" in text
    assert (scene.creates(), found["lost"], found["failed"], found["runs_without_usage"]) == (2, 1, 1, 2)


def test_a_task_that_has_reached_its_ceiling_leaves_its_worker_until_the_rest_has_ended(
    scene: Scene, bounded: Bulk
) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    scene.simulator.script(Scenario(queued=0, in_progress=0, usage=(300, 100), times=1))
    quick(scene, in_progress=4, usage=(300, 100))
    items = ["a", "b", "c" * 500, "d"]
    task = bounded(items=items, max_total_tokens=1000, deferrable=True)
    trigger = _deferred(task, scene.kept)
    assert trigger.ends is None
    event = scene.fire(trigger)
    with pytest.raises(CeilingReachedError, match=r"400 tokens are used.*2 of 4 items succeeded.*800 tokens"):
        task.execute_complete(scene.kept, event)
    assert scene.creates() == 2


@pytest.mark.parametrize("name", ["max_total_tokens", "max_cost"])
def test_a_ceiling_needs_a_bound_of_each_item(scene: Scene, bulk: Bulk, name: str) -> None:
    set_prices(scene, PRICES)
    quick(scene)
    with pytest.raises(RunRequestError, match=f"{name}: without max_output_tokens"):
        bulk(items=FIVE, **{name: 10_000_000})

    def request(row: Any) -> dict[str, Any]:
        return {"input": row["input"], "max_output_tokens": 16 if row["input"] == FIVE[0] else None}

    found = scene.run(bulk(items=FIVE, request=request, **{name: 10_000_000}), scene.kept)
    assert (found["succeeded"], found["failed"], scene.creates()) == (1, 4, 1)
    errors = {item["error"] for item in read_results(found, failed=True) if item["error"]}
    assert all("without max_output_tokens" in error for error in errors)


# -- prices -------------------------------------------------------------------------------------------------


def test_a_ceiling_of_cost_is_kept_by_the_prices_of_each_items_model(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, {"gpt-4o*": {"input": "10", "output": "10"}, "gpt-4.1": {"input": 20, "output": 20}})
    quick(scene, usage=(300, 100))
    items = ["a", {"input": "b", "model": "gpt-4.1"}, {"input": "c", "model": "o9"}]
    found = scene.run(bounded(items=items, max_cost="0.03"), scene.kept)
    assert (found["succeeded"], found["failed"], found["cost"]) == (2, 1, "0.012")
    assert {item["row"]: item["cost"] for item in read_results(found)} == {0: "0.004", 1: "0.008"}
    [error] = [item["error"] for item in read_results(found, failed=True) if item["state"] == "failed"]
    assert "has no price for model 'o9'" in error

    text, _ = _reached(scene, bounded(max_cost="0.008"), scene.clear(scene.kept))
    assert "max_cost=0.008: 0.004 is used, and the next request may cost 0.00" in text


def test_without_a_price_for_the_model_nothing_is_sent(scene: Scene, bounded: Bulk) -> None:
    with pytest.raises(RunRequestError, match="has no price for model 'gpt-4o-mini'"):
        scene.run(bounded(max_cost=1), scene.kept)
    set_prices(scene, {"gpt-4o*": {"input": "ten"}})
    with pytest.raises(RunConnectionError, match="prices"):
        scene.run(bounded(), scene.kept)

    assert scene.simulator.runs() == []


def test_prices_that_are_lost_meanwhile_cost_no_run(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, PRICES)
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    quick(scene, in_progress=3.2, usage=(200, 20))
    task = bounded(max_cost="100000", max_active=2, deferrable=True)
    event = scene.fire(_deferred(task, scene.kept))
    set_prices(scene, "{")
    again = bounded(max_cost="100000", max_active=2)
    with pytest.raises(RunConnectionError, match=r"2 of 5 items succeeded.*3 not created") as caught:
        again.execute_complete(scene.kept, event)
    assert not isinstance(caught.value, AirflowFailException)
    set_prices(scene, PRICES)
    found = scene.run(again, scene.retry(scene.kept))

    assert (found["succeeded"], scene.creates(), found["cost"]) == (5, 5, None)


def test_a_run_costs_what_it_was_asked_for_with_once_the_dag_was_edited(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, {**PRICES, "gpt-4.1": {"input": 40000000, "output": 40000000}})
    scene.monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    quick(scene, in_progress=6, usage=(200, 20))
    event = scene.fire(_deferred(bounded(deferrable=True, processing="8h"), scene.kept))
    found = bounded(model="gpt-4.1").execute_complete(scene.kept, event)

    assert (found["cost"], found["cost_total"]) == (str(5 * 1200),) * 2


# -- windows, and who pays ----------------------------------------------------------------------------------


def test_a_window_is_asked_for_by_each_item_and_its_price_counts(scene: Scene, bounded: Bulk) -> None:
    set_prices(scene, PRICES)
    quick(scene, usage=(200, 20))
    items = ["a", "b", {"input": "c", "service_tier": "flex"}]
    found = scene.run(bounded(items=items, processing="8h"), scene.kept)
    sent = [
        request.body["background_options"]
        for request in scene.simulator.requests
        if request.path == "/responses"
    ]

    assert [options["completion_window"] for options in sent] == ["8h", "8h"]
    assert len({options["continuation_id"] for options in sent}) == 1
    assert (found["succeeded"], found["failed"], found["cost"]) == (2, 1, "2400")
    [error] = [item["error"] for item in read_results(found, failed=True) if item["state"] == "failed"]
    assert "service_tier='flex' exclude each other" in error


@pytest.mark.parametrize(
    "arguments", [{"completion_window": 35_999}, {"service_tier": "flex"}, {"background": False}]
)
def test_a_window_that_cannot_be_waited_for_is_refused_when_the_dag_is_parsed(
    bulk: Bulk, arguments: dict[str, Any]
) -> None:
    with pytest.raises(RunRequestError, match="processing='8h'"):
        bulk(processing="8h", **arguments)


def test_who_pays_is_in_the_metadata_of_each_item(scene: Scene, bounded: Bulk) -> None:
    quick(scene)
    many = {f"own{number}": "x" for number in range(14)}
    task = bounded(items=["a", {"input": "b", "metadata": many}], provider_metadata=True, max_active=1)
    scene.run(task, scene.kept)
    first, second = [
        {name for name in request.body["metadata"] if name.startswith("airflow_")}
        for request in scene.simulator.requests
        if request.path == "/responses"
    ]

    assert first == {"airflow_dag_id", "airflow_task_id", "airflow_run_id", "airflow_token"}
    assert second == {"airflow_dag_id", "airflow_token"}


def test_a_task_without_a_success_says_what_it_has_spent(scene: Scene, bounded: Bulk) -> None:
    _bad(scene, "Question", usage=(100, 10))
    with pytest.raises(RunEndedError, match=r"550 tokens, over all attempts 1650 tokens"):
        scene.run(bounded(), scene.kept)
