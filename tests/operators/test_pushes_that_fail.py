# SPDX-License-Identifier: Apache-2.0
"""Airflow that does not take an XCom of a run that is paid for."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import FakeTaskInstance, Make, Scene

QUICK = Scenario(queued=0, in_progress=0.05)


def failing_at(scene: Scene, context: Any, failing: str) -> None:
    """Let pushes under a key fail as Airflow's do."""
    push = FakeTaskInstance.xcom_push

    def xcom_push(ti: FakeTaskInstance, *, key: str, value: Any) -> None:
        if key == failing and ti is context["ti"]:
            raise scene.gone
        push(ti, key, value)

    scene.monkeypatch.setattr(FakeTaskInstance, "xcom_push", xcom_push)


def test_a_retry_pushes_what_airflow_did_not_take_and_pays_nothing(scene: Scene, create: Make) -> None:
    scene.simulator.script(QUICK)
    failing_at(scene, scene.kept, "output_text")
    operator = create()
    lines = scene.log_of(operator)
    with pytest.raises(type(scene.gone)):
        scene.run(operator, scene.kept)
    retry = scene.retry(scene.kept)
    found = scene.run(create(), retry)

    assert [line for line in lines if "'output_text'. A retry pushes it" in line]
    assert retry["ti"].xcoms["output_text"] == found["output_text"]
    assert scene.creates() == 1


@pytest.mark.parametrize("key", ["output_text", "status", "usage"])
def test_without_a_retry_left_the_result_is_not_lost_for_one_xcom(
    scene: Scene, create: Make, key: str
) -> None:
    scene.simulator.script(QUICK)
    context = scene.retry(scene.kept, try_number=1, max_tries=0)
    failing_at(scene, context, key)
    operator = create()
    lines = scene.log_of(operator)
    found = scene.run(operator, context)

    assert found["output_text"]
    assert [line for line in lines if f"the XCom {key!r}; it is in the result" in line]
    assert "id" in context["ti"].xcoms
