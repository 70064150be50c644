# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import RunIncompleteError, RunTimeoutError
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene

LONG = Scenario(queued=0.02, in_progress=500)
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])


@BOTH
def test_a_run_that_outlasts_its_window_is_cancelled_at_the_server_and_may_be_tried_again(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    scene.simulator.script(LONG)
    with pytest.raises(RunTimeoutError) as caught:
        scene.run(create(deferrable=deferrable, completion_window=0.3))

    run = scene.simulator.runs()[0]
    text = str(caught.value)
    words = (run["id"], "completion_window=0.3", "The run was cancelled", "A retry starts a new run")
    assert not [word for word in words if word not in text]
    assert not isinstance(caught.value, AirflowFailException)
    assert run["status"] == scene.context["ti"].xcoms["return_value"]["status"] == "cancelled"
    assert scene.simulator.count("POST", "/cancel$") == 1


def test_a_window_may_be_given_as_a_timedelta(scene: Scene, respond: Make) -> None:
    scene.simulator.script(LONG)
    with pytest.raises(RunTimeoutError):
        respond(completion_window=timedelta(milliseconds=200)).execute(scene.context)


@BOTH
def test_cancel_on_timeout_false_leaves_the_run_and_a_retry_waits_for_it_with_a_new_window(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    scene.simulator.script(LONG)
    operator = create(deferrable=deferrable, completion_window=0.3, cancel_on_timeout=False)
    with pytest.raises(RunTimeoutError, match=r"left running and billing.*A retry waits for it again"):
        scene.run(operator, scene.kept)
    assert len(scene.simulator.active()) == 1

    scene.simulator.advance(550)
    assert scene.run(operator, scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 1
    assert scene.simulator.count("POST", "/cancel$") == 0


def test_a_run_found_completed_has_won_whatever_the_clock_says(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.2))
    found = respond(completion_window=0.25, poll_interval=0.25).execute(scene.context)

    assert found["status"] == "completed"
    assert scene.simulator.count("POST", "/cancel$") == 0


def test_a_run_that_completes_before_its_cancel_comes_is_a_success(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=600, cancelling=0.1, cancel_ends="completed"))
    found = create(completion_window=0.2).execute(scene.context)

    assert found["status"] == "completed"


@BOTH
@pytest.mark.parametrize("accepts", [False, True])
def test_a_run_that_reaches_its_ceiling_before_its_cancel_comes_ends_as_the_policy_says(
    scene: Scene, create: Make, *, deferrable: bool, accepts: bool
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=600, cancelling=0.1, cancel_ends="incomplete"))
    operator = create(
        completion_window=0.2, deferrable=deferrable, on_incomplete="accept" if accepts else "fail"
    )
    if accepts:
        assert scene.run(operator)["status"] == "incomplete"
    else:
        with pytest.raises(RunIncompleteError, match="on_incomplete='accept'"):
            scene.run(operator)


@BOTH
def test_calls_that_a_late_cancel_meets_are_out_of_time_as_those_a_second_earlier(
    scene: Scene, respond: Make, *, deferrable: bool
) -> None:
    def weather() -> str:
        """Tell the weather."""
        raise AssertionError

    conversation = scene.post("/conversations")["id"]
    late = Scenario(queued=0, in_progress=600, cancelling=0.1, cancel_ends="completed")
    scene.simulator.script(replace(late, function_calls=((FunctionCall(name="weather"),),)))
    operator = respond(
        completion_window=0.2, deferrable=deferrable, functions=[weather], conversation=conversation
    )
    with pytest.raises(RunTimeoutError, match=r"completion_window=0\.2.*which can be used again") as caught:
        scene.run(operator, scene.kept)

    assert not isinstance(caught.value, AirflowFailException)
    assert scene.store.record["refused"]


@BOTH
def test_execution_timeout_ends_the_wait_also_while_deferred(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    scene.simulator.script(LONG)
    operator = create(deferrable=deferrable, execution_timeout=timedelta(seconds=0.4))
    with pytest.raises(RunTimeoutError, match=r"execution_timeout=0:00:00\.4.*The run was cancelled"):
        scene.run(operator)

    assert scene.simulator.active() == []


def test_a_cancel_that_the_server_refuses_is_named_in_the_error(scene: Scene, respond: Make) -> None:
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=403, times=None))
    with pytest.raises(RunTimeoutError, match="could not be cancelled and may be running and billing"):
        respond(completion_window=0.2).execute(scene.context)


def test_failures_while_waiting_do_not_end_a_healthy_run(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0.02, in_progress=0.2))
    polls = r"^/(responses|threads/[^/]+/runs)/[^/]+$"
    scene.simulator.fault(Fault(method="GET", path=polls, status=429, retry_after=1))
    assert create().execute(scene.context)["status"] == "completed"
    assert scene.creates() == 1


def test_the_deadline_is_not_moved_by_a_retry(scene: Scene, respond: Make) -> None:
    scene.simulator.script(LONG)
    operator = respond(completion_window=100, deferrable=True)
    with pytest.raises(BaseException, match=r".*") as first:
        operator.execute(scene.kept)
    deadline = scene.store.record["deadline"]
    assert deadline == pytest.approx(time.time() + 100, abs=2)
    time.sleep(0.05)
    with pytest.raises(BaseException, match=r".*") as second:
        operator.execute(scene.retry(scene.kept))

    triggers = [first.value.trigger, second.value.trigger]  # type: ignore[attr-defined]
    assert triggers[0].tracked.deadline == triggers[1].tracked.deadline == deadline
    assert triggers[0].tracked.created_at == triggers[1].tracked.created_at
    assert scene.store.record["deadline"] == deadline
