# SPDX-License-Identifier: Apache-2.0
"""``processing``: the API's windows, and a task that waits for them; ``provider_metadata``: who pays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import RunFailedError, RunRequestError
from airflow_provider_openai_runs.operators import CreateResponseOperator
from airflow_provider_openai_runs.simulator import FunctionCall, Scenario
from tests.support.scene import Make, Scene

QUICK = Scenario(queued=0, in_progress=0.06)
HOURS = 3600.0


def weather(city: str) -> str:
    """Say how the weather is."""
    return f"{city}: blue"


def sent(scene: Scene) -> list[dict[str, Any]]:
    """Return the bodies of the creates."""
    return [request.body for request in scene.simulator.requests if request.path.endswith("/responses")]


def test_all_creates_of_a_task_carry_the_window_and_the_same_continuation(
    scene: Scene, respond: Make
) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Oslo"})
    scene.simulator.script(
        Scenario(queued=0, in_progress=0.06, ends="failed"),
        Scenario(queued=0, in_progress=0.06, function_calls=[(call,)] * 2, times=None),
    )
    operator = respond(processing="2h", functions=[weather], completion_window=2.5 * HOURS)
    with pytest.raises(RunFailedError):
        scene.run(operator, scene.kept)
    lines = scene.log_of(operator)
    scene.run(operator, scene.retry(scene.kept))
    options = [body["background_options"] for body in sent(scene)]

    assert len(options) == 4
    assert {one["completion_window"] for one in options} == {"2h"}
    assert len({one["continuation_id"] for one in options}) == 1
    assert not [line for line in lines if "earlier values" in line]


def test_tasks_have_continuations_of_their_own(scene: Scene, respond: Make) -> None:
    scene.simulator.script(QUICK, QUICK)
    for index in (0, 1):
        scene.run(respond(processing="8h", completion_window=None), scene.context_of(map_index=index))

    assert len({body["background_options"]["continuation_id"] for body in sent(scene)}) == 2


@pytest.mark.parametrize("processing", [None, "standard"])
def test_without_a_window_nothing_is_sent(scene: Scene, respond: Make, processing: Any) -> None:
    scene.simulator.script(QUICK)
    scene.run(respond(processing=processing))

    assert "background_options" not in sent(scene)[0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"processing": "24h"}, "processing='24h': must be one of 'standard', '2h', '8h'"),
        ({"completion_window": 8999}, "completion_window=8999 is too short for processing='2h'"),
        (
            {"processing": "8h", "completion_window": timedelta(hours=8)},
            "Wait 36000 s at least, or not at all",
        ),
        (
            {"execution_timeout": timedelta(hours=1)},
            "execution_timeout=3600 is too short for processing='2h'",
        ),
        ({"service_tier": "flex"}, "processing='2h' and service_tier='flex' exclude each other"),
        ({"extra_body": {"service_tier": "priority"}}, "service_tier='priority'"),
        ({"background": False}, "needs a background response, and background=False"),
        ({"extra_body": {"background": False}}, "background=False"),
        ({"background_options": {"completion_window": "2h"}}, "processing sets background_options"),
        ({"extra_body": {"background_options": {}}}, "processing sets background_options"),
    ],
)
def test_what_cannot_be_together_is_an_error_when_the_dag_is_parsed(
    arguments: dict[str, Any], named: str
) -> None:
    given = {"processing": "2h", "completion_window": 3 * HOURS, **arguments}
    with pytest.raises(RunRequestError) as caught:
        CreateResponseOperator(task_id="ask", input="Hi", model="m", **given)

    assert named in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"completion_window": 9000},
        {"completion_window": None},
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"execution_timeout": timedelta(hours=1), "cancel_on_timeout": False},
        {"completion_window": "{{ params.window }}", "service_tier": "{{ params.tier }}"},
    ],
)
def test_what_can_be_together_is_none(arguments: dict[str, Any]) -> None:
    given: dict[str, Any] = {"processing": "2h", "completion_window": 9000, **arguments}

    assert CreateResponseOperator(task_id="ask", input="Hi", model="m", **given).processing == "2h"


@pytest.mark.parametrize(
    ("name", "rendered"), [("completion_window", "600"), ("service_tier", "flex"), ("background", "false")]
)
def test_what_a_template_brings_is_checked_before_anything_is_sent(
    scene: Scene, respond: Make, name: str, rendered: str
) -> None:
    operator = respond(**{"processing": "2h", "completion_window": 9000, name: "{{ params.value }}"})
    setattr(operator, name, rendered)
    with pytest.raises(RunRequestError, match="processing='2h'"):
        operator.execute(scene.kept)

    assert scene.simulator.requests == []


@pytest.mark.parametrize("in_extra_body", [False, True])
def test_options_by_hand_that_a_task_would_not_wait_for_are_a_warning_for_now(*, in_extra_body: bool) -> None:
    own: dict[str, Any] = {"background_options": {"completion_window": "8h"}}
    given = {"extra_body": own} if in_extra_body else own
    with pytest.warns(
        FutureWarning, match=r"completion_window=600 is too short for background_options\['comp"
    ):
        CreateResponseOperator(task_id="ask", input="Hi", model="m", completion_window=600, **given)
    CreateResponseOperator(task_id="ask", input="Hi", model="m", completion_window=36000, **given)
    CreateResponseOperator(task_id="ask", input="Hi", model="m", **given)


# -- who pays


@pytest.mark.parametrize("is_wanted", [False, True])
def test_readable_names_are_in_the_metadata_if_they_are_wanted(
    scene: Scene, create: Make, *, is_wanted: bool
) -> None:
    scene.simulator.script(QUICK)
    found = scene.run(create(provider_metadata=is_wanted, metadata={"team": "data"}), scene.kept)["metadata"]

    assert found.pop("airflow_token")
    names = {"airflow_dag_id": "a_dag", "airflow_task_id": "ask", "airflow_run_id": "manual__2026-11-21"}
    assert found == {"team": "data", **(names if is_wanted else {})}


@pytest.mark.parametrize(
    ("own", "left"), [(12, 3), (13, 2), (14, 1), (15, 0)], ids=["all", "two", "one", "none"]
)
def test_they_give_way_to_the_users_own_metadata(scene: Scene, create: Make, own: int, left: int) -> None:
    scene.simulator.script(QUICK)
    metadata = {f"key_{number}": "value" for number in range(own)}
    found = scene.run(create(provider_metadata=True, metadata=metadata), scene.kept)["metadata"]

    assert len(found) == own + left + 1
    assert metadata.items() <= found.items()
    assert [name for name in found if name in {"airflow_dag_id", "airflow_task_id", "airflow_run_id"}] == [
        "airflow_dag_id",
        "airflow_task_id",
        "airflow_run_id",
    ][:left]


def test_a_name_that_the_user_gives_stays(scene: Scene, create: Make) -> None:
    scene.simulator.script(QUICK)
    found = scene.run(create(provider_metadata=True, metadata={"airflow_dag_id": "mine"}), scene.kept)

    assert found["metadata"]["airflow_dag_id"] == "mine"
    assert found["metadata"]["airflow_task_id"] == "ask"


def test_the_answers_to_calls_are_named_too(scene: Scene, respond: Make) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Oslo"})
    scene.simulator.script(Scenario(queued=0, in_progress=0.06, function_calls=[(call,)], times=None))
    scene.run(respond(functions=[weather], provider_metadata=True), scene.kept)

    assert [body["metadata"]["airflow_task_id"] for body in sent(scene)] == ["ask", "ask"]


def test_a_name_that_is_too_long_for_the_api_is_cut(scene: Scene, create: Make) -> None:
    scene.simulator.script(QUICK)
    context = scene.context_of(scene.store, run_id="é" * 600)

    assert scene.run(create(provider_metadata=True), context)["metadata"]["airflow_run_id"] == "é" * 512
