# SPDX-License-Identifier: Apache-2.0
"""``do_xcom_push=False``: nothing of a run is in XCom, however it ends."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import OpenAIRunError
from airflow_provider_openai_runs.operators import CreateResponseOperator
from airflow_provider_openai_runs.simulator import FunctionCall, Scenario
from tests.support.scene import Make, Scene

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
QUICK: dict[str, Any] = {"queued": 0.02, "in_progress": 0.1, "text": "The patient has ..."}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
ENDS: dict[str, tuple[Scenario, dict[str, Any]]] = {
    "success": (Scenario(**QUICK), {}),
    "failed": (Scenario(**QUICK, ends="failed"), {}),
    "incomplete": (Scenario(**QUICK, ends="incomplete"), {}),
    "calls": (Scenario(**QUICK, function_calls=[[FunctionCall(name="f", arguments={})]]), {"tools": [TOOL]}),
    "unfit": (Scenario(**QUICK), {"output_type": SCHEMA}),
    "late": (Scenario(queued=0, in_progress=60), {"completion_window": 0.5}),
}


@BOTH
@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_pushed(scene: Scene, create: Make, end: str, *, deferrable: bool) -> None:
    scenario, given = ENDS[end]
    scene.simulator.script(scenario)
    operator = create(do_xcom_push=False, deferrable=deferrable, **{**given, "tools": "{{ tools }}"})
    operator.tools = given.get("tools")  # what the template came to
    if end == "success":
        scene.run(operator, scene.kept)
    else:
        with pytest.raises(OpenAIRunError) as caught:
            scene.run(operator, scene.kept)
        assert "XCom" not in str(caught.value)
    assert scene.kept["ti"].xcoms == {}


def test_below_airflow_3_3_the_ref_alone_is_pushed_since_nothing_else_finds_the_run(
    scene: Scene, respond: Make
) -> None:
    scene.simulator.script(Scenario(**QUICK, ends="failed"))
    context = scene.context_of()
    with pytest.raises(OpenAIRunError):
        scene.run(respond(do_xcom_push=False), context)
    assert set(context["ti"].xcoms) == {"ref"}


def test_fire_and_forget_pushes_nothing_either(scene: Scene) -> None:
    operator = CreateResponseOperator(task_id="ask", model="m", input="Why?", do_xcom_push=False)
    operator.execute(scene.kept)
    assert scene.kept["ti"].xcoms == {}
