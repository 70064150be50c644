# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import RunCallError
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.scene import Make, Scene

LONG = Scenario(queued=0.02, in_progress=500)
QUICK = Scenario(queued=0.02, in_progress=0.05)


def test_a_clear_ends_the_old_run_before_exactly_one_new_run_is_created(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG, QUICK)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)
    found = scene.run(create(), scene.clear(scene.kept))

    old, new = scene.simulator.runs()
    assert (old["status"], found["id"]) == ("cancelled", new["id"])
    posted = [r.path.rpartition("/")[2] for r in scene.simulator.requests if r.method == "POST"][-2:]
    assert posted[0] == "cancel"
    assert scene.creates() == 2


def test_a_clear_of_a_task_that_succeeded_wants_a_new_run(scene: Scene, create: Make) -> None:
    scene.simulator.script(QUICK, QUICK)
    first = scene.run(create(), scene.kept)
    second = scene.run(create(), scene.clear(scene.kept))

    assert first["id"] != second["id"]
    assert scene.creates() == 2


def test_a_clear_ends_the_run_of_fire_and_forget_too(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG, LONG)
    create(completion_window=None).execute(scene.kept)
    second = create(completion_window=None).execute(scene.clear(scene.kept))

    assert [run["id"] for run in scene.simulator.active()] == [second["id"]]


def test_a_clear_creates_nothing_when_the_old_run_cannot_be_ended(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG, QUICK)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=500, times=None))
    with pytest.raises(RunCallError, match=r"could not be ended.*may be running and billing.*Nothing new"):
        create(timeouts={"delete": 0.5}, on_unendable="fail").execute(scene.clear(scene.kept))

    assert scene.creates() == 1


def test_a_clear_gives_up_a_run_that_its_server_has_lost_and_names_it(
    scene: Scene, respond: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.acquire.END_PAUSE", 0.1)
    scene.simulator.script(LONG, QUICK)
    with pytest.raises(TaskDeferred):
        respond(deferrable=True).execute(scene.kept)
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=404, times=None))
    operator = respond(timeouts={"delete": 0.4})
    lines = scene.log_of(operator)
    began = time.monotonic()
    assert operator.execute(scene.clear(scene.kept))["status"] == "completed"

    assert time.monotonic() - began > 0.4
    old = scene.simulator.runs()[0]["id"]
    named = [line for line in lines if old in line and "may be running and billing" in line]
    assert len(named) == 1
    assert all(word in named[0] for word in ("HTTP 404", "on_unendable='give_up'"))


def test_a_clear_of_a_task_that_has_ended_needs_nothing_of_the_old_run(
    scene: Scene, create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RETIRED", scene.simulator.connection_json)
    scene.simulator.script(QUICK, QUICK)
    first = scene.run(create(conn_id="retired", deferrable=True), scene.kept)
    monkeypatch.delenv("AIRFLOW_CONN_RETIRED")
    before = len(scene.simulator.requests)
    second = scene.run(create(), scene.clear(scene.kept))

    assert first["id"] != second["id"]
    assert not [r for r in list(scene.simulator.requests)[before:] if first["id"] in r.path]


def test_a_clear_does_not_cancel_what_has_completed(scene: Scene, create: Make) -> None:
    scene.simulator.script(LONG, QUICK)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)
    scene.simulator.advance(550)
    scene.run(create(), scene.clear(scene.kept))

    assert scene.simulator.count("POST", "/cancel$") == 0


def test_a_clear_after_a_lost_create_finds_the_thread_run_and_ends_it_first(
    scene: Scene, run_on: Make
) -> None:
    scene.simulator.script(LONG, QUICK)
    with pytest.raises(TaskDeferred):
        run_on(deferrable=True).execute(scene.kept)
    for name in ("ref", "deadline", "created_at"):
        del scene.store.values["openai_run"][name]
    assert scene.run(run_on(), scene.clear(scene.kept))["status"] == "completed"

    assert [run["status"] for run in scene.simulator.runs()] == ["cancelled", "completed"]
    assert scene.creates() == 2


def test_a_clear_after_a_lost_create_of_a_response_starts_anew_with_a_warning(
    scene: Scene, respond: Make
) -> None:
    scene.simulator.script(LONG, QUICK)
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost"))
    with pytest.raises(Exception, match="Clear the task to start anew"):
        respond().execute(scene.kept)
    operator = respond()
    lines = scene.log_of(operator)
    found = operator.execute(scene.clear(scene.kept))

    assert found["status"] == "completed"
    assert [line for line in lines if "may be running and billing" in line]
    assert scene.creates() == 2


def test_a_clear_does_not_need_for_ever_the_connection_of_a_run_whose_end_is_not_on_record(
    scene: Scene, create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after ``end_from_trigger``: a triggerer cannot reach the record."""
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.acquire.END_PAUSE", 0.1)
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.create.LAST_READ_BUDGET", 0.5)
    monkeypatch.setenv("AIRFLOW_CONN_RETIRED", scene.simulator.connection_json)
    scene.simulator.script(QUICK, QUICK)
    with pytest.raises(TaskDeferred):
        create(conn_id="retired", deferrable=True).execute(scene.kept)
    old = scene.store.record["ref"]["id"]
    monkeypatch.delenv("AIRFLOW_CONN_RETIRED")
    operator = create(timeouts={"delete": 0.4})
    lines = scene.log_of(operator)

    assert scene.run(operator, scene.clear(scene.kept))["status"] == "completed"
    (named,) = [line for line in lines if old in line and "may be running and billing" in line]
    assert "'retired'" in named
