# SPDX-License-Identifier: Apache-2.0
"""What the next task reads by its name, as in ``ask.output["output_text"]``, is an XCom of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunRequestError
from airflow_provider_openai_runs.operators import (
    CancelRunOperator,
    GetResponseOperator,
    GetThreadRunOperator,
)
from airflow_provider_openai_runs.sensors import ResponseSensor, ThreadRunSensor
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Scene

Make = Callable[..., Any]
NAMES = {"output_text", "output", "status", "usage", "id", "thread_id", "ref"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
THREAD_RUN = {"kind": "thread_run", "id": "run_1", "thread_id": "thread_1", "conn_id": "openai_default"}
RESPONSE = {"kind": "response", "id": "resp_1", "conn_id": "openai_default"}


def with_a_value(values: dict[str, Any]) -> dict[str, Any]:
    """Return what has to have a key of its own."""
    return {name: value for name, value in values.items() if name in NAMES and value is not None}


def of_its_own(scene: Scene) -> dict[str, Any]:
    """Return what was pushed under the names of the result, not as a whole."""
    xcoms = scene.context["ti"].xcoms
    return {name: value for name, value in xcoms.items() if name not in {"return_value", "openai_run_url"}}


@BOTH
def test_what_has_a_value_has_a_key(scene: Scene, create: Make, *, deferrable: bool) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.05, text="Blue."))
    found = scene.run(create(deferrable=deferrable), scene.context)

    assert {"output_text", "status", "usage", "id", "ref"} <= set(of_its_own(scene))
    assert with_a_value(found).items() <= of_its_own(scene).items()
    # Airflow reads a None under a key as not found.
    assert None not in of_its_own(scene).values()


def test_a_typed_answer_has_one(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.05, text='{"a": "b"}'))
    scene.run(respond(output_type=SCHEMA), scene.context)

    assert of_its_own(scene)["output"] == {"a": "b"}


def test_a_run_that_failed_leaves_them_too(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.05, ends="failed"))
    with pytest.raises(OpenAIRunError):
        scene.run(create(), scene.context)

    assert of_its_own(scene)["status"] == "failed"
    assert "output_text" not in of_its_own(scene)


@pytest.mark.parametrize("push", [True, False])
def test_readers_and_sensors_push_them_as_well(scene: Scene, create: Make, *, push: bool) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0, text="Blue."))
    ref = scene.run(create(completion_window=None), scene.context)["ref"]
    is_response = ref["kind"] == "response"
    get, sense = (
        (GetResponseOperator, ResponseSensor) if is_response else (GetThreadRunOperator, ThreadRunSensor)
    )
    given: dict[str, Any] = {"task_id": "then", "ref": ref, "do_xcom_push": push}
    for reader in (
        sense(**given, poke_interval=0.05, deferrable=False),
        sense(**given, poke_interval=0.05, deferrable=True),
        get(**given),
        CancelRunOperator(**given),
    ):
        scene.context["ti"].xcoms.clear()
        found = scene.run(reader, scene.context)
        assert of_its_own(scene) == (with_a_value(found) if push else {})


@pytest.mark.parametrize(
    ("reader", "ref", "right"),
    [
        (ResponseSensor, THREAD_RUN, "ThreadRunSensor"),
        (ThreadRunSensor, RESPONSE, "ResponseSensor"),
        (GetResponseOperator, THREAD_RUN, "GetThreadRunOperator"),
        (GetThreadRunOperator, RESPONSE, "GetResponseOperator"),
    ],
)
def test_a_ref_of_the_other_kind_is_refused_and_the_right_class_is_named(
    scene: Scene, reader: type[Any], ref: dict[str, Any], right: str
) -> None:
    with pytest.raises(RunRequestError) as caught:
        reader(task_id="read", ref=ref).execute(scene.context)

    assert f"use {right}. Nothing was sent" in str(caught.value)
    assert ref["id"] in str(caught.value)
    assert scene.simulator.requests == []
