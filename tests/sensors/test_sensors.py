# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
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
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 3.1
    from airflow.exceptions import AirflowRescheduleException

QUICK = Scenario(queued=0.02, in_progress=0.2, text="Rayleigh.")
LONG = Scenario(queued=0.02, in_progress=500)
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])


@pytest.fixture(params=["response", "thread run"])
def sense(scene: Scene, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Start a run as somebody else would, and make a sensor for it."""

    def make(scenario: Scenario = QUICK, **arguments: Any) -> Any:
        given = {"task_id": "wait", "poke_interval": 0.05, "timeout": 20, "deferrable": False, **arguments}
        scene.simulator.script(scenario)
        if request.param == "response":
            found = scene.post("/responses", model="m", input="Why?", background=True)
            return ResponseSensor(response_id=found["id"], **given)
        thread, assistant = request.getfixturevalue("thread_id"), request.getfixturevalue("assistant_id")
        found = scene.post(f"/threads/{thread}/runs", assistant_id=assistant)
        return ThreadRunSensor(thread_id=thread, run_id=found["id"], **given)

    return make


@pytest.fixture(autouse=True)
def _nothing_is_ever_cancelled(scene: Scene) -> Any:
    yield
    assert scene.simulator.count("POST", "/cancel$") == 0


@BOTH
def test_a_run_is_waited_for_and_its_dict_goes_to_xcom(
    scene: Scene, sense: Make, *, deferrable: bool
) -> None:
    found = scene.run(sense(deferrable=deferrable))

    assert (found["status"], found["output_text"]) == ("completed", "Rayleigh.")
    assert "steps" not in found


@BOTH
def test_steps_are_read_on_demand(scene: Scene, sense: Make, *, deferrable: bool) -> None:
    assert scene.run(sense(deferrable=deferrable, include_steps=True))["steps"]


@BOTH
def test_another_status_can_be_waited_for(scene: Scene, sense: Make, *, deferrable: bool) -> None:
    sensor = sense(LONG, target_statuses=("in_progress", "completed"), deferrable=deferrable)

    assert scene.run(sensor)["status"] == "in_progress"


@BOTH
def test_a_failed_run_may_be_what_is_waited_for(scene: Scene, sense: Make, *, deferrable: bool) -> None:
    sensor = sense(
        Scenario(in_progress=0.1, ends="failed"), target_statuses=["failed"], deferrable=deferrable
    )

    assert scene.run(sensor)["status"] == "failed"


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
    scene: Scene,
    sense: Make,
    scenario: Scenario,
    targets: list[str],
    kind: type[OpenAIRunError],
    *,
    deferrable: bool,
) -> None:
    sensor = sense(scenario, target_statuses=targets, deferrable=deferrable)
    with pytest.raises(kind) as caught:
        scene.run(sensor)

    assert isinstance(caught.value, AirflowFailException)


@BOTH
def test_soft_fail_skips_after_the_timeout(scene: Scene, sense: Make, *, deferrable: bool) -> None:
    with pytest.raises(AirflowSkipException):
        scene.run(sense(LONG, timeout=0.3, soft_fail=True, deferrable=deferrable))


@BOTH
@pytest.mark.parametrize("way", ["soft_fail", "never_fail"])
def test_a_run_that_ended_otherwise_is_skipped_where_airflow_would_skip(
    scene: Scene, sense: Make, way: str, *, deferrable: bool
) -> None:
    sensor = sense(Scenario(in_progress=0.1, ends="failed"), deferrable=deferrable, **{way: True})
    with pytest.raises(AirflowSkipException):
        scene.run(copy.copy(sensor))
    # It has ended by now, so that the first poll of a deferrable sensor finds it.
    time.sleep(0.1)
    with pytest.raises(AirflowSkipException):
        scene.run(copy.copy(sensor))


class OfAirflow(BaseSensorOperator):
    """A sensor that waits for what never comes."""

    def poke(self, context: Any) -> bool:
        del context
        return False

    def execute_complete(self, context: Any) -> None:
        del context
        raise AirflowSensorTimeout


@BOTH
def test_the_timeout_of_a_sensor_that_never_fails_ends_as_those_of_airflow_do(
    scene: Scene, sense: Make, *, deferrable: bool
) -> None:
    """Airflow skips it where it resumes, and nowhere else."""
    own = OfAirflow(task_id="own", timeout=0, poke_interval=0.01, never_fail=True)
    ends = partial(own.resume_execution, "execute_complete", {}) if deferrable else own.execute
    with pytest.raises((AirflowSensorTimeout, AirflowSkipException)) as of_airflow:
        ends(scene.context)
    with pytest.raises(of_airflow.type):
        scene.run(sense(LONG, timeout=0.3, never_fail=True, deferrable=deferrable))


@BOTH
def test_the_timeout_ends_the_wait_and_leaves_the_run_alone(
    scene: Scene, sense: Make, *, deferrable: bool
) -> None:
    sensor = sense(LONG, timeout=0.3, deferrable=deferrable)
    with pytest.raises(AirflowSensorTimeout) as caught:
        scene.run(sensor)

    assert len(scene.simulator.active()) == 1
    text = str(caught.value)
    assert sensor.named_run().id in text
    assert "Its last status was in_progress. It was left alone and may be running and billing." in text


@BOTH
@pytest.mark.parametrize("soft_fail", [False, True])
def test_the_timeout_names_the_last_failure(
    scene: Scene, sense: Make, *, deferrable: bool, soft_fail: bool
) -> None:
    sensor = sense(LONG, timeout=0.3, deferrable=deferrable, soft_fail=soft_fail)
    scene.simulator.fault(Fault(status=503, times=None))
    with pytest.raises((AirflowSensorTimeout, AirflowSkipException)) as caught:
        scene.run(sensor)

    # A skip after a deferral is Airflow's own; the timeout is its cause.
    text = str(caught.value.__cause__ or caught.value)
    assert f"{sensor.named_run().id} " in text
    assert "Its status was never seen; polls failed since: " in text
    assert "HTTP 503" in text


@BOTH
def test_a_run_that_is_not_visible_yet_is_waited_for(scene: Scene, sense: Make, *, deferrable: bool) -> None:
    sensor = sense(Scenario(in_progress=0.1, hidden_for=0.3), deferrable=deferrable)

    assert scene.run(sensor)["status"] == "completed"


def test_a_failure_does_not_end_the_wait(scene: Scene, sense: Make) -> None:
    sensor = sense()
    scene.simulator.fault(Fault(status=503), Fault(kind="reset"), Fault(status=401))

    assert sensor.execute(scene.context)["status"] == "completed"


def test_a_run_that_stays_unknown_fails_the_task(
    scene: Scene, sense: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.sensors.run.NOT_FOUND_GRACE", 0.1)
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.PERMANENT_FAILURE_BUDGET", 0.3)
    with pytest.raises(RunNotFoundError):
        sense(Scenario(hidden_for=500)).execute(scene.context)


@pytest.mark.parametrize("first_poke_ago", [0, 400])
def test_a_rescheduled_sensor_gives_a_worker_slot_back_between_pokes(
    scene: Scene, sense: Make, first_poke_ago: int
) -> None:
    sensor = sense(LONG, mode="reschedule", poke_interval=60, timeout=3600)
    again = copy.copy(sensor)
    scene.context["ti"].rescheduled_at = datetime.now(tz=UTC) - timedelta(seconds=first_poke_ago)
    with pytest.raises(AirflowRescheduleException):
        sensor.execute(scene.context)

    scene.simulator.advance(550)
    assert again.execute(scene.context)["status"] == "completed"


def test_a_rescheduled_sensor_gives_up_when_the_key_was_refused_from_the_first_poke_on(
    scene: Scene, sense: Make
) -> None:
    sensor = sense(LONG, mode="reschedule", poke_interval=60, timeout=3600)
    again = copy.copy(sensor)
    scene.simulator.fault(Fault(status=401, times=None))
    scene.context["ti"].rescheduled_at = datetime.now(tz=UTC) - timedelta(seconds=10)
    with pytest.raises(AirflowRescheduleException):
        sensor.execute(scene.context)
    scene.context["ti"].rescheduled_at = datetime.now(tz=UTC) - timedelta(seconds=400)
    with pytest.raises(RunUnreachableError, match="HTTP 401"):
        again.execute(scene.context)


def test_a_deferred_sensor_stores_its_deadline_and_never_cancels(scene: Scene, sense: Make) -> None:
    began = time.time()
    with pytest.raises(TaskDeferred) as deferred:
        sense(LONG, deferrable=True, timeout=100, poke_interval=7).execute(scene.context)

    kwargs = deferred.value.trigger.serialize()[1]
    assert kwargs["deadline"] == pytest.approx(began + 100, abs=5)
    assert kwargs["poll_interval"] == 7
    assert not kwargs["cancel_on_kill"]
    assert not kwargs["cancel_on_timeout"]


def test_a_deferred_sensor_that_needs_no_wait_does_not_defer(scene: Scene, sense: Make) -> None:
    assert (
        sense(Scenario(queued=0, in_progress=0), deferrable=True).execute(scene.context)["status"]
        == "completed"
    )


@BOTH
def test_the_ref_of_another_task_names_the_run(scene: Scene, sense: Make, *, deferrable: bool) -> None:
    ref = sense().named_run().to_json()
    kind = ResponseSensor if ref["kind"] == "response" else ThreadRunSensor
    sensor = kind(task_id="wait", ref=ref, poke_interval=0.05, deferrable=deferrable)

    assert scene.run(sensor)["ref"] == ref


def test_a_thread_run_that_waits_for_a_tool_call_is_waited_for_since_somebody_else_answers(
    scene: Scene, thread_id: str, assistant_id: str
) -> None:
    call = FunctionCall(name="weather")
    scene.simulator.script(Scenario(queued=0, in_progress=0.05, function_calls=((call,),)))
    run = scene.post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)
    hook = OpenAIRunsHook()
    ref = {"kind": "thread_run", "id": run["id"], "thread_id": thread_id}

    def answer() -> None:
        pending = hook.retrieve(ref)
        hook.submit_tool_outputs(pending, {call.id: "sunny" for call in pending.tool_calls})

    soon = threading.Timer(0.4, answer)
    soon.start()
    sensor = ThreadRunSensor(task_id="wait", ref=ref, poke_interval=0.05, deferrable=False)

    assert sensor.execute(scene.context)["status"] == "completed"
    soon.join()
