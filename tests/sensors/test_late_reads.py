# SPDX-License-Identifier: Apache-2.0
"""Servers that show the end of a run to a poll first, and what it wrote to a later read."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_openai_runs.sensors import ResponseSensor
from tests.support.scene import Scene
from tests.support.scripted_server import Asked, ScriptedServer

OUTPUT = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Blue."}]}]


def shown(status: str, output: list[Any]) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "output": output}


@pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])
@pytest.mark.parametrize("late", [shown("in_progress", []), shown("completed", [])], ids=["replica", "empty"])
def test_a_sensor_returns_what_the_run_wrote_also_where_a_read_does_not_show_it_at_once(
    scene: Scene, scripted: ScriptedServer, late: dict[str, Any], *, deferrable: bool
) -> None:
    first = shown("in_progress", []) if deferrable else shown("completed", OUTPUT)
    answers = iter([first, *([shown("completed", OUTPUT)] if deferrable else []), late])

    def answer(_: Asked) -> Any:
        return 200, next(answers, shown("completed", OUTPUT))

    scripted.play(answer)
    sensor = ResponseSensor(
        task_id="wait", conn_id="scripted", response_id="resp_1", poke_interval=0.05, deferrable=deferrable
    )
    found = scene.run(sensor)
    assert (found["status"], found["output_text"]) == ("completed", "Blue.")
