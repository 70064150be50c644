# SPDX-License-Identifier: Apache-2.0
"""A Dag that was edited while its task waited asks for what cannot be sent: the run is paid for already."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import RunRequestError
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Make, Scene


def deferred(scene: Scene, operator: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        copy.copy(operator).execute(scene.kept)
    return caught.value


def test_the_result_of_the_run_is_not_lost(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, text="Rayleigh"))
    waits = deferred(scene, respond(deferrable=True))
    event = scene.fire(waits.trigger)
    edited = respond(deferrable=True, temperature=99)

    found = copy.copy(edited).resume_execution(waits.method_name, {"event": event}, scene.kept)

    assert found["output_text"] == "Rayleigh"
    with pytest.raises(RunRequestError, match="temperature=99"):
        copy.copy(edited).execute(scene.clear(scene.kept))


@pytest.mark.parametrize("window", [None, "None", "soon"])
def test_a_window_that_cannot_be_read_any_more_costs_no_result_and_leaves_no_run_without_a_wait(
    scene: Scene, create: Make, window: Any
) -> None:
    """What its template reads has been cleared meanwhile: the deadline on record counts."""
    scene.simulator.script(Scenario(queued=0, in_progress=0.3))
    waits = deferred(scene, create(deferrable=True))
    edited = create(deferrable=True)
    edited.completion_window = window

    assert scene.run(edited, scene.retry(scene.kept))["status"] == "completed"
    event = {"event": scene.fire(waits.trigger)}
    found = copy.copy(edited).resume_execution(waits.method_name, event, scene.kept)
    assert found["status"] == "completed"
    assert scene.creates() == 1


def test_a_run_whose_trigger_died_is_still_ended_when_no_retry_is_left(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=60))
    waits = deferred(scene, create(deferrable=True))
    edited = create(deferrable=True, temperature=99)
    last = scene.retry(scene.kept)
    last["ti"].try_number = last["ti"].max_tries + 1

    with pytest.raises(Exception, match=r"(?i)trigger"):
        copy.copy(edited).resume_execution("__fail__", {"error": "Trigger failure"}, last)

    assert [run["status"] for run in scene.simulator.runs()] == ["cancelled"]
    assert waits.method_name == "execute_complete"
