# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_openai_runs.exceptions import (
    RunCallError,
    RunCancelledError,
    RunConnectionError,
    RunFailedError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.runs.budgets import CLOCKS_DIFFER
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.scene import Make, Scene

LONG = Scenario(queued=0.02, in_progress=500)
QUICK = Scenario(queued=0.02, in_progress=0.05)
SERVER_ERROR = {"code": "server_error", "message": "Sorry."}


@pytest.fixture
def die_after_create() -> Callable[[Any, dict[str, Any]], None]:
    """Let an attempt end right after its deferral, as if its triggerer and everything had been lost."""

    def run(operator: Any, context: dict[str, Any]) -> None:
        operator.deferrable = True
        with pytest.raises(TaskDeferred):
            operator.execute(context)

    return run


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_retry_goes_on_with_the_run_that_is_still_active(
    scene: Scene, create: Make, die_after_create: Callable[..., None], *, deferrable: bool
) -> None:
    scene.simulator.script(LONG)
    die_after_create(create(), scene.kept)
    second = scene.retry(scene.kept)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(second)
    scene.simulator.advance(550)
    found = scene.run(create(deferrable=deferrable), scene.retry(second))

    assert found["status"] == "completed"
    assert second["ti"].xcoms["ref"] == found["ref"]
    assert scene.creates() == 1


def test_a_retry_finishes_from_a_run_that_completed_meanwhile(
    scene: Scene, create: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(LONG)
    die_after_create(create(), scene.kept)
    scene.simulator.advance(550)
    found = create(deferrable=True).execute(scene.retry(scene.kept))

    assert found["status"] == "completed"
    assert found["output_text"]
    assert scene.creates() == 1


def test_a_retry_after_a_run_that_failed_creates_a_new_one(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(in_progress=0, ends="failed", error=SERVER_ERROR), QUICK)
    with pytest.raises(RunFailedError):
        scene.run(create(), scene.kept)
    found = scene.run(create(), scene.retry(scene.kept))

    assert found["id"] == scene.simulator.runs()[1]["id"]
    assert scene.creates() == 2


def test_a_retry_after_a_run_that_this_task_had_cancelled_creates_a_new_one_once_it_has_ended(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(LONG, QUICK)
    with pytest.raises(RunTimeoutError):
        scene.run(create(completion_window=0.2), scene.kept)
    assert scene.store.record["ended_by_us"]

    assert scene.run(create(), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 2
    assert scene.simulator.active() == []


def test_a_run_that_is_being_cancelled_is_waited_for_before_a_new_one_is_created(
    scene: Scene, create: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500, cancelling=0.4), QUICK)
    die_after_create(create(), scene.kept)
    scene.store.values["openai_run"]["ended_by_us"] = True
    found = scene.run(create(), scene.retry(scene.kept))

    first, second = scene.simulator.runs()
    assert first["status"] == "cancelled"
    assert found["id"] == second["id"]
    assert scene.creates() == 2


def test_changed_arguments_are_named_in_a_warning_and_the_run_is_adopted_all_the_same(
    scene: Scene, create: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(LONG)
    die_after_create(create(instructions="at 10:00"), scene.kept)
    operator = create(instructions="at 10:05", deferrable=True)
    lines = scene.log_of(operator)
    with pytest.raises(TaskDeferred):
        operator.execute(scene.retry(scene.kept))

    assert [line for line in lines if "the earlier values of instructions" in line]
    assert scene.creates() == 1


def test_a_recorded_run_that_the_server_does_not_know_any_more_is_replaced(
    scene: Scene, create: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(QUICK, QUICK)
    die_after_create(create(), scene.kept)
    scene.store.values["openai_run"]["ref"]["id"] += "gone"
    scene.store.values["openai_run"]["created_at"] -= 2 * CLOCKS_DIFFER
    scene.monkeypatch.setattr("airflow_provider_openai_runs.attempts.acquire.GONE_SECONDS", 0.5)

    scene.simulator.advance(5)
    assert scene.run(create(), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 2


def test_a_recorded_run_that_is_not_visible_yet_is_waited_for(
    scene: Scene, create: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, hidden_for=0.4))
    die_after_create(create(), scene.kept)

    assert scene.run(create(), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 1


@pytest.mark.parametrize("later", [-600, 600], ids=["behind", "ahead"])
def test_a_retry_on_a_host_whose_clock_differs_waits_for_it_as_well(
    scene: Scene,
    create: Make,
    die_after_create: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    later: int,
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.acquire.NOT_SHOWN_YET", 0.1)
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, hidden_for=1.0))
    die_after_create(create(completion_window=3600), scene.kept)
    for name in ("created_at", "intent_at"):
        scene.store.values["openai_run"][name] -= later

    assert scene.run(create(completion_window=3600), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 1


def test_a_key_that_is_refused_in_a_retry_fails_and_creates_nothing(
    scene: Scene, create: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(LONG)
    die_after_create(create(), scene.kept)
    scene.simulator.fault(Fault(status=401, times=None))
    with pytest.raises(RunConnectionError, match=r"refused the key.*may still be running and billing"):
        create().execute(scene.retry(scene.kept))

    assert scene.creates() == 1


def test_a_retry_finishes_from_an_incomplete_run_whose_worker_was_lost_if_the_user_accepts_it(
    scene: Scene, create: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500, ends="incomplete"))
    die_after_create(create(), scene.kept)
    scene.simulator.advance(550)
    found = create(on_incomplete="accept").execute(scene.retry(scene.kept))

    assert found["status"] == "incomplete"
    assert scene.creates() == 1


def test_a_run_that_an_earlier_attempt_may_have_cancelled_is_tried_again(
    scene: Scene, create: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=1.2, ends="cancelled"), QUICK)
    die_after_create(create(), scene.kept)
    second = scene.retry(scene.kept)
    with pytest.raises(RunCancelledError, match="perhaps by an earlier attempt") as caught:
        scene.run(create(deferrable=True), second)
    assert not isinstance(caught.value, AirflowFailException)

    assert scene.run(create(), scene.retry(second))["status"] == "completed"
    assert scene.creates() == 2


def test_a_run_that_this_attempt_has_created_was_cancelled_by_somebody_else_whatever_its_number(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(
        Scenario(in_progress=0, ends="failed", error=SERVER_ERROR), Scenario(ends="cancelled")
    )
    with pytest.raises(RunFailedError):
        scene.run(create(), scene.kept)
    with pytest.raises(RunCancelledError, match="somebody other") as caught:
        scene.run(create(), scene.retry(scene.kept))
    assert isinstance(caught.value, AirflowFailException)


@pytest.fixture
def cut(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Hide a connection, as a cut in Airflow's database does, for some seconds."""
    monkeypatch.setenv("AIRFLOW_CONN_CUT", scene.simulator.connection_json)
    monkeypatch.setattr("airflow_provider_openai_runs.hooks.connection.CONNECTION_PAUSE", 0.1)
    timers: list[threading.Timer] = []

    def hide(seconds: float) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_CUT")
        back = threading.Timer(
            seconds, os.environ.update, [{"AIRFLOW_CONN_CUT": scene.simulator.connection_json}]
        )
        back.start()
        timers.append(back)

    yield hide
    for timer in timers:
        timer.cancel()
        timer.join()
    os.environ.pop("AIRFLOW_CONN_CUT", None)


@pytest.mark.parametrize("resumes", [False, True], ids=["retry", "resume"])
def test_the_connection_of_a_run_is_asked_for_again_while_airflow_does_not_find_it(
    scene: Scene, create: Make, cut: Callable[[float], None], *, resumes: bool
) -> None:
    scene.simulator.script(LONG)
    operator = create(conn_id="cut", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    scene.simulator.advance(550)
    event = scene.fire(deferred.value.trigger)
    cut(0.3)
    found = (
        operator.execute_complete(scene.kept, event)
        if resumes
        else create(conn_id="cut").execute(scene.retry(scene.kept))
    )

    assert found["status"] == "completed"
    assert scene.creates() == 1


@pytest.mark.parametrize("resumes", [False, True], ids=["retry", "resume"])
def test_a_connection_that_stays_away_fails_the_attempt_and_not_the_task(
    scene: Scene,
    create: Make,
    cut: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    *,
    resumes: bool,
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.hooks.connection.CONNECTION_BUDGET", 0.1)
    scene.simulator.script(LONG)
    operator = create(conn_id="cut", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    scene.simulator.advance(550)
    event = scene.fire(deferred.value.trigger)
    cut(60)
    step = (
        partial(operator.execute_complete, scene.kept, event)
        if resumes
        else partial(create(conn_id="cut").execute, scene.retry(scene.kept))
    )
    with pytest.raises(
        RunConnectionError, match=r"may be running and billing\. A retry asks again"
    ) as caught:
        step()

    assert not isinstance(caught.value, AirflowFailException)
    assert scene.simulator.runs()[0]["id"] in str(caught.value)


def test_a_connection_that_never_existed_fails_the_task_at_once(scene: Scene, create: Make) -> None:
    with pytest.raises(RunConnectionError, match="There is no connection 'nowhere'") as caught:
        create(conn_id="nowhere").execute(scene.kept)
    assert isinstance(caught.value, AirflowFailException)


DAMAGED = [
    "not a record",
    {},
    {"cycle": 2},
    {"cycle": 2, "token": "t/1", "ref": {"kind": "agent_turn", "id": "x"}},
]


@pytest.mark.parametrize("stored", DAMAGED)
def test_a_record_that_cannot_be_read_fails_the_attempt_and_a_clear_starts_anew(
    scene: Scene, respond: Make, stored: Any
) -> None:
    scene.simulator.script(QUICK)
    scene.store.values["openai_run"] = stored
    retry = scene.retry(scene.kept)
    for context in (retry, scene.retry(retry)):
        with pytest.raises(RunCallError, match=r"'openai_run'.*cannot be read.*billing.*clear the task"):
            respond().execute(context)
    assert scene.creates() == 0
    operator = respond()
    lines = scene.log_of(operator)

    assert operator.execute(scene.clear(retry))["status"] == "completed"
    assert [line for line in lines if "cannot be read" in line]


def test_a_record_of_a_later_version_is_left_as_it_is(scene: Scene, respond: Make) -> None:
    newer = {"cycle": 2, "token": "t/1", "ref": {"kind": "agent_turn", "id": "x"}, "colour": "red"}
    scene.store.values["openai_run"] = newer
    with pytest.raises(RunCallError, match="agent turn x, of a kind that this version does not know"):
        respond().execute(scene.retry(scene.kept))

    assert scene.store.record == newer


def test_a_retry_of_fire_and_forget_returns_the_recorded_run_whatever_its_status(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(Scenario(in_progress=4, ends="failed"))
    first = create(completion_window=None).execute(scene.kept)
    second = scene.retry(scene.kept)
    assert create(completion_window=None).execute(second)["id"] == first["id"]
    scene.simulator.advance(5)
    third = create(completion_window=None).execute(scene.retry(second))

    assert (third["id"], third["status"]) == (first["id"], "failed")
    assert scene.creates() == 1


def test_without_a_store_a_retry_finds_a_thread_run_by_its_token(
    scene: Scene, run_on: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(LONG)
    context = scene.context_of(None)
    die_after_create(run_on(), context)
    scene.simulator.advance(550)
    found = run_on().execute(scene.retry(context))

    assert found["status"] == "completed"
    assert scene.creates() == 1


def test_without_a_store_a_retry_of_a_response_creates_it_anew(
    scene: Scene, respond: Make, die_after_create: Callable[..., None]
) -> None:
    scene.simulator.script(LONG, QUICK)
    context = scene.context_of(None)
    die_after_create(respond(), context)

    assert respond().execute(scene.retry(context))["status"] == "completed"
    assert scene.creates() == 2


def test_each_mapped_task_instance_has_a_run_of_its_own(scene: Scene, create: Make) -> None:
    scene.simulator.script(QUICK, QUICK)
    for index in range(2):
        create().execute(scene.context_of(None, map_index=index))

    tokens = {run["metadata"]["airflow_token"].split("/")[0] for run in scene.simulator.runs()}
    assert len(tokens) == scene.creates() == 2
