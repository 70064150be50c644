# SPDX-License-Identifier: Apache-2.0
"""What a task says it has paid for, over retries, clears and rounds, held against what the server billed."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunFailedError, RunTimeoutError
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene

LONG = Scenario(queued=0.02, in_progress=500, usage=(1000, 1))
FAILED = Scenario(queued=0, in_progress=0.06, ends="failed", usage=(100, 10))
SILENT = Scenario(queued=0, in_progress=0.06, ends="failed")
GOOD = Scenario(queued=0, in_progress=0.06, usage=(200, 20))
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])


def weather(city: str) -> str:
    """Say how the weather is."""
    return f"{city}: blue"


def billed(scene: Scene) -> tuple[int, int]:
    """Return the tokens that the server shows for all of its runs, and how many runs show none."""
    tokens = [0]
    for run in scene.simulator.runs():
        is_response = run["kind"] == "response"
        path = f"/responses/{run['id']}" if is_response else f"/threads/{run['thread_id']}/runs/{run['id']}"
        tokens.append((scene.get(path)["usage"] or {}).get("total_tokens", 0))
    return sum(tokens), tokens[1:].count(0)


def said(result: dict[str, Any]) -> tuple[int, int]:
    """Return what a result says of all runs of its task."""
    return (result["usage_total"] or {}).get("total_tokens", 0), result["runs_without_usage"]


@BOTH
def test_a_first_run_alone_is_all_that_was_spent(scene: Scene, create: Make, *, deferrable: bool) -> None:
    scene.simulator.script(GOOD)
    found = scene.run(create(deferrable=deferrable))

    assert found["usage_total"] == found["usage"]
    assert said(found) == billed(scene) == (220, 0)


@BOTH
def test_runs_that_failed_count_over_retries_and_clears(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    scene.simulator.script(FAILED, SILENT, GOOD, FAILED, GOOD)
    first = scene.kept
    with pytest.raises(RunFailedError):
        scene.run(create(deferrable=deferrable), first)
    assert said(first["ti"].xcoms["return_value"]) == (110, 0)
    second = scene.retry(first)
    with pytest.raises(RunFailedError):
        scene.run(create(deferrable=deferrable), second)
    assert said(second["ti"].xcoms["return_value"]) == (110, 1)
    third = scene.retry(second)
    found = scene.run(create(deferrable=deferrable), third)
    assert found["usage"]["total_tokens"] == 220
    assert said(found) == billed(scene) == (330, 1)

    cleared = scene.clear(third)
    with pytest.raises(RunFailedError):
        scene.run(create(deferrable=deferrable), cleared)
    found = scene.run(create(deferrable=deferrable), scene.retry(cleared))
    assert found["usage"]["total_tokens"] == 220
    assert said(found) == billed(scene) == (660, 1)
    # Nothing was asked twice for it: each run was read when its attempt had ended.
    assert len(scene.store.record["spending"]) <= 4


@BOTH
def test_a_run_that_was_cancelled_at_the_deadline_is_known_to_tell_nothing(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500), GOOD)
    with pytest.raises(RunTimeoutError):
        scene.run(create(completion_window=0.2, deferrable=deferrable), scene.kept)
    before = scene.simulator.count("GET", "")
    operator = create(completion_window=None)
    scene.run(operator, scene.retry(scene.kept))

    # Read at its end, it is not read again: one poll finds it cancelled.
    assert scene.simulator.count("GET", "") - before <= 1
    assert scene.store.record["spending"]["open"][0]["silent"] is True


@pytest.mark.parametrize("rounds", [1, 3])
@BOTH
def test_each_round_counts_once(scene: Scene, create: Make, rounds: int, *, deferrable: bool) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Oslo"})
    scene.simulator.script(
        Scenario(queued=0, in_progress=0.06, function_calls=[(call,)] * rounds, usage=(50, 5), times=None)
    )
    found = scene.run(create(functions=[weather], deferrable=deferrable), scene.kept)

    assert found["usage_total"] == found["usage"]
    assert said(found) == billed(scene)


def test_a_run_that_completed_and_was_never_read_counts_once_its_task_is_cleared(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(LONG, GOOD)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)
    scene.simulator.advance(550)
    found = scene.run(create(), scene.clear(scene.kept))

    assert said(found) == billed(scene) == (1221, 0)


def test_a_run_that_a_clear_cancels_is_known_to_tell_nothing(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500), GOOD)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)
    found = scene.run(create(), scene.clear(scene.kept))

    assert said(found) == billed(scene) == (220, 1)


def test_a_create_that_was_lost_is_one_that_may_have_been_paid_for(scene: Scene, respond: Make) -> None:
    scene.simulator.script(LONG, GOOD)
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost"))
    operator = respond(on_lost_create="resubmit")
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.RESUBMIT_PAUSE", 0.05)
    found = scene.run(operator, scene.kept)

    assert scene.creates() == 2
    assert said(found) == (220, 1)


@pytest.mark.usefixtures("quick_retries")
def test_a_create_that_was_not_accepted_costs_nothing_and_forgets_nothing(scene: Scene, create: Make) -> None:
    scene.simulator.script(FAILED, GOOD)
    with pytest.raises(RunFailedError):
        scene.run(create(), scene.kept)
    second = scene.retry(scene.kept)
    scene.simulator.fault(Fault(method="POST", path="(responses|runs)$", status=400, times=1))
    with pytest.raises(OpenAIRunError):
        scene.run(create(), second)
    assert scene.store.record["ended"]
    scene.simulator.fault(Fault(method="POST", path="(responses|runs)$", status=429, times=1))
    found = scene.run(create(), scene.retry(second))

    assert said(found) == billed(scene) == (330, 0)


def test_a_triggerer_that_ends_the_task_says_what_was_spent_before(scene: Scene, create: Make) -> None:
    scene.simulator.script(SILENT, FAILED, LONG)
    operator = create(deferrable=True, end_from_trigger=True)
    second = scene.retry(scene.kept)
    for context in (scene.kept, second):
        with pytest.raises(RunFailedError):
            scene.run(operator, context)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.retry(second))
    _, kwargs = deferred.value.trigger.serialize()

    assert kwargs["besides"] == {
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        "silent": 1,
    }


def test_the_finish_line_says_what_all_attempts_have_taken(scene: Scene, create: Make) -> None:
    scene.simulator.script(SILENT, FAILED, GOOD)
    second = scene.retry(scene.kept)
    for context in (scene.kept, second):
        with pytest.raises(RunFailedError):
            scene.run(create(), context)
    operator = create()
    lines = scene.log_of(operator)
    scene.run(operator, scene.retry(second))
    finished = next(line for line in lines if line.startswith("Finished"))

    assert (
        " and 20 completion tokens; over all attempts of the task 330 tokens, and 1 run that did not say"
        in finished
    )


def test_below_airflow_3_3_the_worker_says_what_it_knows(scene: Scene, create: Make) -> None:
    scene.simulator.script(GOOD)
    found = scene.run(create(deferrable=True), scene.context_of(None))

    assert said(found) == (220, 0)


def test_a_record_of_an_older_version_loses_no_run(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG)
    operator = create(deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(scene.kept)
    del scene.store.values["openai_run"]["spending"]
    scene.simulator.advance(550)

    assert said(operator.execute(scene.retry(scene.kept))) == (1001, 0)


def test_a_store_that_cannot_be_read_any_more_costs_the_sums_and_not_the_run(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=2, usage=(200, 20)))
    operator = create(deferrable=True)
    with scene.time_stands_still(), pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    event = scene.fire(deferred.value.trigger)
    scene.store.fail("get", ConnectionError("the API server is down"))

    assert said(operator.execute_complete(scene.kept, event)) == (220, 0)
