# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import RunCallError, RunNotFoundError
from airflow_provider_openai_runs.operators import (
    CancelRunOperator,
    GetResponseOperator,
    GetThreadRunOperator,
)
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support.scene import Scene

LONG = Scenario(queued=0, in_progress=500)


@pytest.fixture
def response(scene: Scene) -> dict[str, Any]:
    scene.simulator.script(LONG)
    return dict(scene.post("/responses", model="gpt-4o-mini", input="Why?", background=True))


@pytest.fixture
def thread_run(scene: Scene, thread_id: str, assistant_id: str) -> dict[str, Any]:
    scene.simulator.script(LONG)
    return dict(scene.post(f"/threads/{thread_id}/runs", assistant_id=assistant_id))


def test_a_thread_run_is_read_in_each_of_the_ways_to_name_it(
    scene: Scene, thread_run: dict[str, Any], thread_id: str
) -> None:
    run_id = thread_run["id"]
    ways: list[dict[str, Any]] = [
        {"thread_id": thread_id, "run_id": run_id},
        {"run_id": f"{thread_id}:{run_id}"},
        {"ref": {"kind": "thread_run", "id": run_id, "thread_id": thread_id, "conn_id": "openai_default"}},
    ]
    for way in ways:
        found = GetThreadRunOperator(task_id="read", **way).execute(scene.context)
        assert (found["id"], found["thread_id"], found["status"]) == (run_id, thread_id, "in_progress")
        assert found["object"] == "thread.run"
        assert "steps" not in found


def test_a_response_is_read_under_the_same_names(scene: Scene, response: dict[str, Any]) -> None:
    found = GetResponseOperator(task_id="read", response_id=response["id"]).execute(scene.context)

    assert (found["id"], found["status"], found["object"]) == (response["id"], "in_progress", "response")


def test_the_steps_are_read_on_demand_and_all_of_them(
    scene: Scene, thread_id: str, assistant_id: str
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0, steps=150))
    run = scene.post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)
    operator = GetThreadRunOperator(task_id="read", thread_id=thread_id, run_id=run["id"], include_steps=True)

    steps = operator.execute(scene.context)["steps"]
    assert len({step["id"] for step in steps}) == len(steps) == 151


@pytest.mark.parametrize(
    "operator",
    [
        GetThreadRunOperator(task_id="read", run_id="thread_unknown:run_unknown"),
        GetResponseOperator(task_id="read", response_id="resp_unknown"),
    ],
    ids=["thread run", "response"],
)
def test_a_run_that_does_not_exist_is_an_error(scene: Scene, operator: Any) -> None:
    with pytest.raises(RunNotFoundError, match="unknown") as caught:
        operator.execute(scene.context)
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("kind", ["response", "thread_run"])
def test_an_active_run_is_cancelled_and_its_end_is_waited_for(
    scene: Scene, thread_id: str, assistant_id: str, kind: str
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500, cancelling=0.5))
    if kind == "response":
        named = {"response_id": scene.post("/responses", model="m", input="Why?", background=True)["id"]}
    else:
        run = scene.post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)
        named = {"thread_id": thread_id, "run_id": run["id"]}
    found = CancelRunOperator(task_id="end", **named).execute(scene.context)

    assert found["status"] == "cancelled"
    assert scene.simulator.active() == []


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "incomplete"])
def test_to_cancel_a_run_that_has_ended_is_success(
    scene: Scene, status: str, thread_id: str, assistant_id: str
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0, ends=status, times=2))
    response = scene.post("/responses", model="m", input="Why?", background=True)
    run = scene.post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)
    of_response = CancelRunOperator(task_id="end", response_id=response["id"])
    of_run = CancelRunOperator(task_id="end", run_id=f"{thread_id}:{run['id']}")

    assert of_response.execute(scene.context)["status"] == of_run.execute(scene.context)["status"] == status
    assert scene.simulator.count("POST", "/cancel$") == 0


def test_a_server_that_refuses_to_cancel_is_asked_no_longer_than_the_wait(scene: Scene) -> None:
    scene.simulator.script(LONG)
    response = scene.post("/responses", model="m", input="Why?", background=True)
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=409, times=None))
    began = time.monotonic()
    with pytest.raises(RunCallError, match=r"HTTP 409.*may be running and billing"):
        CancelRunOperator(task_id="end", response_id=response["id"], wait=0.6).execute(scene.context)

    # The time that a cancel has without a wait is 300 s.
    assert time.monotonic() - began < 60


def test_a_run_that_does_not_end_in_time_is_described_as_running(scene: Scene) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500, cancelling=60))
    response = scene.post("/responses", model="m", input="Why?", background=True)
    with pytest.raises(RunCallError, match=f"{response['id']}.*may be running and billing"):
        CancelRunOperator(task_id="end", response_id=response["id"], wait=0.5).execute(scene.context)


def test_a_run_that_is_not_visible_yet_is_cancelled_once_it_is(scene: Scene) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500, hidden_for=0.4))
    created = scene.post("/responses", model="m", input="?", background=True)
    operator = CancelRunOperator(task_id="end", response_id=created["id"], wait=20)
    assert operator.execute(scene.context)["status"] == "cancelled"


def test_a_run_that_nobody_knows_cannot_be_cancelled(scene: Scene) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.operators.existing.NOT_FOUND_GRACE", 0.3)
    with pytest.raises(RunNotFoundError, match="resp_unknown"):
        CancelRunOperator(task_id="end", response_id="resp_unknown").execute(scene.context)


def test_failures_on_the_way_are_retried(scene: Scene, response: dict[str, Any]) -> None:
    scene.simulator.fault(Fault(status=503))
    found = CancelRunOperator(task_id="end", response_id=response["id"]).execute(scene.context)

    assert found["status"] == "cancelled"


def test_the_connection_in_the_ref_counts_unless_another_one_is_given(
    scene: Scene, response: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RECORDED", scene.simulator.connection_json)
    monkeypatch.setenv("AIRFLOW_CONN_GIVEN", scene.simulator.connection_json)
    ref = {"kind": "response", "id": response["id"], "conn_id": "recorded"}
    recorded = GetResponseOperator(task_id="read", ref=ref).execute(scene.context)
    given = GetResponseOperator(task_id="read", ref=ref, conn_id="given").execute(scene.context)

    assert recorded["ref"]["conn_id"] == "recorded"
    assert given["ref"]["conn_id"] == "given"
