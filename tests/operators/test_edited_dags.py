# SPDX-License-Identifier: Apache-2.0
"""A Dag that a user has edited between two attempts: what was paid for before is still found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import LostCreateError, OpenAIRunError, RunRequestError
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator
from tests.support.scene import CREATES, Make, Scene

QUICK = Scenario(queued=0.01, in_progress=0.3)
LONG = Scenario(queued=0.02, in_progress=500)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Another server, which the connection ``elsewhere`` leads to."""
    with Simulator() as server:
        monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", server.connection_json)
        yield server


def lose_the_create(scene: Scene, operator: Any) -> None:
    """Let the server take the create, its answer be lost, and the worker die: only an intent is left."""
    scene.simulator.script(QUICK)
    scene.simulator.fault(Fault(method="POST", path=CREATES, kind="lost"))
    scene.store.fail("set", KeyboardInterrupt(), skip=1)
    with pytest.raises(KeyboardInterrupt):
        operator.execute(scene.kept)
    scene.store.recover()
    assert len(scene.simulator.runs()) == 1


def test_a_lost_create_is_searched_for_by_the_connection_that_it_was_sent_with(
    scene: Scene, run_on: Make, elsewhere: Simulator
) -> None:
    lose_the_create(scene, run_on())
    found = scene.run(run_on(conn_id="elsewhere"), scene.retry(scene.kept))

    assert found["ref"]["conn_id"] == "openai_default"
    assert found["id"] == scene.simulator.runs()[0]["id"]
    assert (scene.creates(), elsewhere.count("POST", CREATES)) == (1, 0)


def test_a_thread_run_whose_answer_was_lost_is_found_by_a_task_that_creates_responses_now(
    scene: Scene, run_on: Make, respond: Make
) -> None:
    lose_the_create(scene, run_on())
    found = scene.run(respond(), scene.retry(scene.kept))

    assert found["id"] == scene.simulator.runs()[0]["id"]
    assert scene.creates() == 1


def test_a_list_of_thread_runs_proves_nothing_about_a_response_whose_answer_was_lost(
    scene: Scene, run_on: Make, respond: Make
) -> None:
    lose_the_create(scene, respond())
    with pytest.raises(LostCreateError, match="may be running and billing"):
        scene.run(run_on(), scene.retry(scene.kept))

    assert scene.creates() == 1


def test_a_create_of_a_kind_that_this_version_does_not_know_is_not_forgotten(
    scene: Scene, run_on: Make
) -> None:
    lose_the_create(scene, run_on())
    scene.store.values["openai_run"] |= {"kind": "a kind of a later version", "token": "of it/1"}
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.SEARCH_SECONDS", 0.3)
    scene.monkeypatch.setattr("airflow_provider_openai_runs.attempts.acquire.SEARCH_PAUSE", 0.1)
    with pytest.raises(OpenAIRunError, match="cannot be read"):
        scene.run(run_on(), scene.retry(scene.kept))

    assert scene.creates() == 1


@pytest.mark.parametrize("changed", [{"deferrable": True}, {"functions": []}], ids=str)
def test_a_retry_goes_on_with_the_run_whatever_else_was_edited(
    scene: Scene, create: Make, changed: dict[str, Any]
) -> None:
    scene.simulator.script(QUICK)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)

    assert scene.run(create(**changed), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 1


def test_a_window_that_was_removed_leaves_the_run_going_and_a_clear_ends_it(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(LONG, LONG)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)
    second = scene.retry(scene.kept)
    found = create(completion_window=None).execute(second)
    assert [run["id"] for run in scene.simulator.active()] == [found["id"]]
    create(completion_window=None).execute(scene.clear(second))

    assert scene.creates() == 2
    assert len(scene.simulator.active()) == 1


def test_a_window_that_was_added_waits_for_the_run_that_was_not_waited_for(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(QUICK)
    first = create(completion_window=None).execute(scene.kept)
    found = scene.run(create(), scene.retry(scene.kept))

    assert (found["id"], found["status"]) == (first["id"], "completed")


#: Arguments that no API takes; the sort that a template may bring in a retry only.
UNSENDABLE: dict[str, Any] = {"temperature": 7}


def begin(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)


def test_a_retry_finishes_from_its_run_though_its_arguments_cannot_be_sent_any_more(
    scene: Scene, create: Make
) -> None:
    begin(scene, create)
    scene.simulator.advance(1000)
    operator = create(deferrable=True, **UNSENDABLE)
    lines = scene.log_of(operator)

    assert scene.run(operator, scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 1
    assert any("temperature" in line and "finished all the same" in line for line in lines)


def test_a_clear_whose_arguments_cannot_be_sent_ends_the_old_run_first(scene: Scene, create: Make) -> None:
    begin(scene, create)
    with pytest.raises(RunRequestError, match="temperature"):
        create(deferrable=True, **UNSENDABLE).execute(scene.clear(scene.kept))

    assert (scene.creates(), scene.simulator.active()) == (1, [])


def test_a_retry_without_a_run_fails_by_its_arguments_and_sends_nothing(scene: Scene, create: Make) -> None:
    scene.simulator.fault(Fault(method="POST", path=CREATES, status=401, times=None))
    with pytest.raises(OpenAIRunError):
        create().execute(scene.kept)
    refused = scene.creates()
    with pytest.raises(RunRequestError, match="temperature"):
        create(**UNSENDABLE).execute(scene.retry(scene.kept))

    assert scene.creates() == refused
    assert scene.simulator.runs() == []


def test_a_lost_create_is_searched_for_though_the_arguments_cannot_be_sent_any_more(
    scene: Scene, run_on: Make
) -> None:
    lose_the_create(scene, run_on())
    found = scene.run(run_on(**UNSENDABLE), scene.retry(scene.kept))

    assert found["id"] == scene.simulator.runs()[0]["id"]
    assert scene.creates() == 1
