# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunCancelledError,
    RunEndedError,
    RunFailedError,
    RunNotFoundError,
    RunUnreachableError,
)
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.sensors import ResponseSensor, ThreadRunSensor
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario, Simulator

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 3.1
    from airflow.exceptions import AirflowRescheduleException

QUICK = Scenario(queued=0.02, in_progress=0.2, text="Rayleigh.")
LONG = Scenario(queued=0.02, in_progress=500)
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])


@pytest.fixture(params=["response", "thread run"])
def sense(
    request: pytest.FixtureRequest, post: Callable[..., Any], openai_runs_simulator: Simulator
) -> Callable[..., Any]:
    """Start a run as somebody else would, and make a sensor for it."""

    def make(scenario: Scenario = QUICK, **arguments: Any) -> Any:
        given = {"task_id": "wait", "poke_interval": 0.05, "timeout": 20, "deferrable": False, **arguments}
        openai_runs_simulator.script(scenario)
        if request.param == "response":
            found = post("/responses", model="m", input="Why?", background=True)
            return ResponseSensor(response_id=found["id"], **given)
        thread, assistant = request.getfixturevalue("thread_id"), request.getfixturevalue("assistant_id")
        found = post(f"/threads/{thread}/runs", assistant_id=assistant)
        return ThreadRunSensor(thread_id=thread, run_id=found["id"], **given)

    return make


@pytest.fixture(autouse=True)
def _nothing_is_ever_cancelled(openai_runs_simulator: Simulator) -> Any:
    yield
    assert openai_runs_simulator.count("POST", "/cancel$") == 0


@BOTH
def test_a_run_is_waited_for_and_its_dict_goes_to_xcom(
    sense: Callable[..., Any], run_task: Callable[..., Any], context: Any, *, deferrable: bool
) -> None:
    found = run_task(sense(deferrable=deferrable), context)

    assert (found["status"], found["output_text"]) == ("completed", "Rayleigh.")
    assert "steps" not in found


@BOTH
def test_steps_are_read_on_demand(
    sense: Callable[..., Any], run_task: Callable[..., Any], context: Any, *, deferrable: bool
) -> None:
    assert run_task(sense(deferrable=deferrable, include_steps=True), context)["steps"]


@BOTH
def test_another_status_can_be_waited_for(
    sense: Callable[..., Any], run_task: Callable[..., Any], context: Any, *, deferrable: bool
) -> None:
    sensor = sense(LONG, target_statuses=("in_progress", "completed"), deferrable=deferrable)

    assert run_task(sensor, context)["status"] == "in_progress"


@BOTH
def test_a_failed_run_may_be_what_is_waited_for(
    sense: Callable[..., Any], run_task: Callable[..., Any], context: Any, *, deferrable: bool
) -> None:
    sensor = sense(
        Scenario(in_progress=0.1, ends="failed"), target_statuses=["failed"], deferrable=deferrable
    )

    assert run_task(sensor, context)["status"] == "failed"


@BOTH
@pytest.mark.parametrize(
    ("scenario", "targets", "kind"),
    [
        (
            Scenario(in_progress=0.1, ends="failed", error={"code": "server_error", "message": "Sorry."}),
            ["completed"],
            RunFailedError,
        ),
        (Scenario(in_progress=0.1, ends="cancelled"), ["completed"], RunCancelledError),
        (Scenario(in_progress=0.1), ["failed"], RunEndedError),
    ],
    ids=["failed", "cancelled", "completed"],
)
def test_a_run_that_ended_otherwise_fails_the_task_at_once(
    sense: Callable[..., Any],
    run_task: Callable[..., Any],
    context: Any,
    scenario: Scenario,
    targets: list[str],
    kind: type[OpenAIRunError],
    *,
    deferrable: bool,
) -> None:
    sensor = sense(scenario, target_statuses=targets, deferrable=deferrable)
    with pytest.raises(kind) as caught:
        run_task(sensor, context)

    assert isinstance(caught.value, AirflowFailException)


@BOTH
def test_soft_fail_skips_after_the_timeout(
    sense: Callable[..., Any], run_task: Callable[..., Any], context: Any, *, deferrable: bool
) -> None:
    with pytest.raises(AirflowSkipException):
        run_task(sense(LONG, timeout=0.3, soft_fail=True, deferrable=deferrable), context)


@BOTH
def test_the_timeout_ends_the_wait_and_leaves_the_run_alone(
    sense: Callable[..., Any],
    run_task: Callable[..., Any],
    context: Any,
    openai_runs_simulator: Simulator,
    *,
    deferrable: bool,
) -> None:
    with pytest.raises(AirflowSensorTimeout):
        run_task(sense(LONG, timeout=0.3, deferrable=deferrable), context)

    assert len(openai_runs_simulator.active()) == 1


@BOTH
def test_a_run_that_is_not_visible_yet_is_waited_for(
    sense: Callable[..., Any], run_task: Callable[..., Any], context: Any, *, deferrable: bool
) -> None:
    sensor = sense(Scenario(in_progress=0.1, hidden_for=0.3), deferrable=deferrable)

    assert run_task(sensor, context)["status"] == "completed"


def test_trouble_does_not_end_the_wait(
    sense: Callable[..., Any], context: Any, openai_runs_simulator: Simulator
) -> None:
    sensor = sense()
    openai_runs_simulator.fault(Fault(status=503), Fault(kind="reset"), Fault(status=401))

    assert sensor.execute(context)["status"] == "completed"


def test_a_run_that_stays_unknown_fails_the_task(
    sense: Callable[..., Any], context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.sensors.run.NOT_FOUND_GRACE", 0.1)
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.PERMANENT_FAILURE_BUDGET", 0.3)
    with pytest.raises(RunNotFoundError):
        sense(Scenario(hidden_for=500)).execute(context)


@pytest.mark.parametrize("first_poke_ago", [0, 400])
def test_a_rescheduled_sensor_gives_a_worker_slot_back_between_pokes(
    sense: Callable[..., Any], context: Any, openai_runs_simulator: Simulator, first_poke_ago: int
) -> None:
    sensor = sense(LONG, mode="reschedule", poke_interval=60, timeout=3600)
    again = copy.copy(sensor)
    context["ti"].rescheduled_at = datetime.now(tz=UTC) - timedelta(seconds=first_poke_ago)
    with pytest.raises(AirflowRescheduleException):
        sensor.execute(context)

    openai_runs_simulator.advance(550)
    assert again.execute(context)["status"] == "completed"


def test_a_rescheduled_sensor_gives_up_when_the_key_was_refused_from_the_first_poke_on(
    sense: Callable[..., Any], context: Any, openai_runs_simulator: Simulator
) -> None:
    sensor = sense(LONG, mode="reschedule", poke_interval=60, timeout=3600)
    again = copy.copy(sensor)
    openai_runs_simulator.fault(Fault(status=401, times=None))
    context["ti"].rescheduled_at = datetime.now(tz=UTC) - timedelta(seconds=10)
    with pytest.raises(AirflowRescheduleException):
        sensor.execute(context)
    context["ti"].rescheduled_at = datetime.now(tz=UTC) - timedelta(seconds=400)
    with pytest.raises(RunUnreachableError, match="HTTP 401"):
        again.execute(context)


def test_a_deferred_sensor_stores_its_deadline_and_never_cancels(
    sense: Callable[..., Any], context: Any
) -> None:
    began = time.time()
    with pytest.raises(TaskDeferred) as deferred:
        sense(LONG, deferrable=True, timeout=100, poke_interval=7).execute(context)

    kwargs = deferred.value.trigger.serialize()[1]
    assert kwargs["deadline"] == pytest.approx(began + 100, abs=5)
    assert kwargs["poll_interval"] == 7
    assert not kwargs["cancel_on_kill"]
    assert not kwargs["cancel_on_timeout"]


def test_a_deferred_sensor_that_needs_no_wait_does_not_defer(sense: Callable[..., Any], context: Any) -> None:
    assert sense(Scenario(queued=0, in_progress=0), deferrable=True).execute(context)["status"] == "completed"


@BOTH
def test_the_ref_of_another_task_names_the_run(
    sense: Callable[..., Any],
    run_task: Callable[..., Any],
    context: Any,
    openai_runs_simulator: Simulator,
    *,
    deferrable: bool,
) -> None:
    ref = sense().named_run().to_json()
    kind = ResponseSensor if ref["kind"] == "response" else ThreadRunSensor
    sensor = kind(task_id="wait", ref=ref, poke_interval=0.05, deferrable=deferrable)

    assert run_task(sensor, context)["ref"] == ref


def test_a_thread_run_that_waits_for_a_tool_call_is_waited_for_since_somebody_else_answers(
    context: Any,
    post: Callable[..., Any],
    openai_runs_simulator: Simulator,
    thread_id: str,
    assistant_id: str,
) -> None:
    call = FunctionCall(name="weather")
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0.05, function_calls=((call,),)))
    run = post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)
    hook = OpenAIRunsHook()
    ref = {"kind": "thread_run", "id": run["id"], "thread_id": thread_id}

    def answer() -> None:
        pending = hook.retrieve(ref)
        hook.submit_tool_outputs(pending, {call.id: "sunny" for call in pending.tool_calls})

    soon = threading.Timer(0.4, answer)
    soon.start()
    sensor = ThreadRunSensor(task_id="wait", ref=ref, poke_interval=0.05, deferrable=False)

    assert sensor.execute(context)["status"] == "completed"
    soon.join()
