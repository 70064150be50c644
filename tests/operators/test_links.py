# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.links import OpenAIRunLink
from airflow_provider_openai_runs.operators import GetResponseOperator
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Make, Scene

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

QUICK = Scenario(queued=0.02, in_progress=0.05)


@pytest.fixture
def connect(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the connection ``linked``, with this in its extra."""

    def write(**extra: Any) -> None:
        connection = {**scene.simulator.connection, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_LINKED", json.dumps(connection))

    return write


def test_the_link_is_there_while_the_task_is_deferred_and_after_it(
    scene: Scene, create: Make, connect: Callable[..., None]
) -> None:
    connect(run_url_template="https://runs.example/{kind}/{id}?thread={thread_id}")
    scene.simulator.script(QUICK)
    operator = create(conn_id="linked", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.context)
    ref = scene.context["ti"].xcoms["ref"]
    page = f"https://runs.example/{ref['kind']}/{ref['id']}?thread={ref.get('thread_id', '')}"

    link = OpenAIRunLink()
    assert scene.context["ti"].xcoms[link.xcom_key] == page
    assert link.get_link(operator, ti_key=None) == page
    resumed = create(conn_id="linked")
    resumed.execute_complete(scene.context, scene.fire(deferred.value.trigger))
    assert link.get_link(resumed, ti_key=None) == page


def test_an_xcom_backend_of_ones_own_does_not_come_between_the_link_and_its_page(
    scene: Scene, create: Make, connect: Callable[..., None], mocker: MockerFixture
) -> None:
    from airflow.sdk.bases.xcom import BaseXCom  # noqa: PLC0415 # after the environment is set

    class OwnXCom(BaseXCom):
        """Stores values elsewhere, and their path in Airflow's database."""

        @staticmethod
        def serialize_value(value: Any, **_: Any) -> Any:
            del value
            return "s3://bucket/path"

    connect(run_url_template="https://runs.example/{id}")
    scene.simulator.script(QUICK)
    scene.monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom", OwnXCom)
    comms = mocker.patch("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", create=True)
    operator = create(conn_id="linked", deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(scene.context)

    key = OpenAIRunLink().xcom_key
    (pushed,) = [
        call.args[0] for call in comms.send.call_args_list if getattr(call.args[0], "key", None) == key
    ]
    assert pushed.value == operator.run_url != ""
    assert key not in scene.context["ti"].xcoms


def test_there_is_no_link_rather_than_a_broken_one(scene: Scene, create: Make) -> None:
    scene.simulator.script(QUICK)
    operator = create()
    operator.execute(scene.context)

    assert OpenAIRunLink().get_link(operator, ti_key=None) == ""


@pytest.mark.parametrize(
    "template",
    [
        "https://runs.example/{project}/{id}",
        "https://runs.example/{id[x]}",
        "https://runs.example/{id.__class__}",
        "https://runs.example/{id:>999999999999}",
        "https://runs.example/{0}{",
        "https://runs.example/" + "x" * 3000,
        "javascript:alert('{id}')",
        "data:text/html,{id}",
        "file:///runs/{id}",
        "//runs.example/{id}",
        "runs/{id}",
        "https:///{id}",
        "https://[{id}",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "https://runs.example/\x1b[2J{id}",
        {"id": 1},
        7,
    ],
    ids=lambda template: repr(template)[:40],
)
def test_a_template_that_is_wrong_costs_the_link_and_not_the_run(
    scene: Scene, respond: Make, connect: Callable[..., None], template: Any
) -> None:
    connect(run_url_template=template)
    scene.simulator.script(QUICK)
    operator = respond(conn_id="linked")
    lines = scene.log_of(operator)

    assert operator.execute(scene.context)["status"] == "completed"
    assert OpenAIRunLink().get_link(operator, ti_key=None) == ""
    assert scene.context["ti"].xcoms[OpenAIRunLink().xcom_key] == ""
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    assert scene.creates() == 1


def test_reading_operators_have_the_link_too(
    scene: Scene, respond: Make, connect: Callable[..., None]
) -> None:
    connect(run_url_template="https://runs.example/{id}")
    scene.simulator.script(QUICK)
    found = respond(conn_id="linked").execute(scene.context)
    operator = GetResponseOperator(task_id="read", ref=found["ref"])
    operator.execute(scene.context)

    assert OpenAIRunLink().get_link(operator, ti_key=None) == f"https://runs.example/{found['id']}"


def test_an_operator_that_has_not_run_has_no_link(respond: Callable[..., Any]) -> None:
    assert OpenAIRunLink().get_link(respond(), ti_key=None) == ""
