# SPDX-License-Identifier: Apache-2.0
"""What an error knows of its run, and the line that the log has of it before Airflow's traceback."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunFailedError,
    RunNotFoundError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.operators import GetResponseOperator
from airflow_provider_openai_runs.sensors import ResponseSensor
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.scene import Make, Scene

#: So much of a line is seen in Airflow's log view.
SEEN = 120


@pytest.fixture(autouse=True)
def _page(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {**scene.simulator.connection, "extra": {"run_url_template": "https://runs.example/{id}"}}
    monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", json.dumps(connection))


def caught(scene: Scene, operator: Any, kind: type[OpenAIRunError]) -> OpenAIRunError:
    with pytest.raises(kind) as raised:
        scene.run(operator)
    return raised.value


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_the_error_of_a_run_that_failed_knows_run_status_tokens_and_page(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    failure = {"code": "invalid_prompt", "message": "Not like this."}
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, ends="failed", error=failure, usage=(7, 2)))
    error = caught(scene, create(deferrable=deferrable), RunFailedError)

    assert error.ref is not None
    assert error.ref == scene.context["ti"].xcoms["ref"]
    assert error.status == "failed"
    assert error.usage is not None
    assert (error.usage["prompt_tokens"], error.usage["total_tokens"]) == (7, 9)
    assert error.url == f"https://runs.example/{error.ref['id']}"


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_the_error_of_a_window_that_was_over_knows_them_too(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500))
    error = caught(scene, create(deferrable=deferrable, completion_window=0.3), RunTimeoutError)

    assert error.ref is not None
    assert error.ref == scene.context["ti"].xcoms["ref"]
    assert error.status == "cancelled"
    assert error.url == f"https://runs.example/{error.ref['id']}"


def test_an_error_before_there_is_a_run_knows_none(scene: Scene, respond: Make) -> None:
    scene.simulator.fault(Fault(method="POST", path="^/responses$", status=400))
    error = caught(scene, respond(), OpenAIRunError)
    assert (error.ref, error.status, error.usage, error.url) == (None, None, None, None)


def test_the_error_of_a_read_or_a_sensor_names_the_run(scene: Scene) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.sensors.run.NOT_FOUND_GRACE", 0.1)
    ref = {"kind": "response", "id": "resp_unknown", "conn_id": "openai_default"}
    sensor = ResponseSensor(task_id="wait", ref=ref, poke_interval=0.1)
    for asks in (GetResponseOperator(task_id="get", ref=ref), sensor):
        scene.simulator.reset()
        error = caught(scene, asks, RunNotFoundError)
        assert error.ref == ref
        assert error.url == "https://runs.example/resp_unknown"


@pytest.mark.parametrize("twin", ["", "a"])
@pytest.mark.parametrize("method", ["retrieve", "cancel"])
def test_the_error_of_a_hooks_call_names_the_run_too(scene: Scene, method: str, twin: str) -> None:
    ref = {"kind": "response", "id": "resp_unknown", "conn_id": "openai_default"}
    call = getattr(OpenAIRunsHook(), f"{twin}{method}")
    with pytest.raises(RunNotFoundError) as raised:
        asyncio.run(call(ref)) if twin else call(ref)
    assert raised.value.ref == ref


# -- the log -------------------------------------------------------------------------------------------------


def test_the_log_says_reason_and_next_step_before_any_id(scene: Scene, create: Make) -> None:
    failure = {"code": "invalid_prompt", "message": "Not like this."}
    scene.simulator.script(Scenario(queued=0, in_progress=0, ends="failed", error=failure))
    operator = create()
    lines = scene.log_of(operator)
    error = caught(scene, operator, RunFailedError)

    assert error.ref is not None
    line = lines[-1]
    assert ": invalid_prompt: Not like this. The same request would fail again." in line[:SEEN]
    assert line.index(error.ref["id"]) > line.index("would fail again")
    assert line.endswith(")")


def test_the_line_of_a_timeout_tells_the_fate_within_what_is_seen(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500))
    operator = create(completion_window=0.2)
    lines = scene.log_of(operator)
    caught(scene, operator, RunTimeoutError)

    assert "did not end within completion_window=0.2" in lines[-1][:SEEN]
    assert "The run was cancelled." in lines[-1][:SEEN]


def test_failed_polls_are_warnings_and_the_error_of_the_timeout_has_the_last_one(
    scene: Scene, create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.read_run.LAST_READ_BUDGET", 0.5)
    scene.simulator.script(Scenario(queued=0, in_progress=500))
    broken = Fault(method="GET", status=500, message="The disk is full.", times=None)
    scene.simulator.fault(replace(broken, path="^/responses/"), replace(broken, path="/runs/"))
    operator = create(completion_window=1, timeouts={"delete": 0.1})
    scene.log_of(operator)
    lines: list[tuple[int, str]] = []

    def write(level: int, text: str, arguments: tuple[Any, ...], **_: Any) -> None:
        lines.append((level, text % arguments if arguments else text))

    monkeypatch.setattr(operator.log, "_log", write)
    error = caught(scene, operator, RunTimeoutError)

    (level,) = {level for level, text in lines if "Could not poll the run, going on: HTTP 500" in text}
    assert level == logging.WARNING
    assert "HTTP 500: The disk is full" in str(error)


def test_the_line_of_a_deferral_shows_the_command_that_finds_a_missing_triggerer(
    scene: Scene, create: Make
) -> None:
    operator = create(deferrable=True)
    lines = scene.log_of(operator)
    scene.run(operator)

    (line,) = (line for line in lines if line.startswith("The triggerer waits"))
    assert "airflow jobs check --job-type TriggererJob" in line[:SEEN]
