# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import RunCallError, RunNotFoundError
from airflow_provider_openai_runs.operators import (
    CancelRunOperator,
    GetResponseOperator,
    GetThreadRunOperator,
)
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator

LONG = Scenario(queued=0, in_progress=500)


@pytest.fixture
def response(post: Callable[..., Any], openai_runs_simulator: Simulator) -> dict[str, Any]:
    openai_runs_simulator.script(LONG)
    return dict(post("/responses", model="gpt-4o-mini", input="Why?", background=True))


@pytest.fixture
def thread_run(
    post: Callable[..., Any], openai_runs_simulator: Simulator, thread_id: str, assistant_id: str
) -> dict[str, Any]:
    openai_runs_simulator.script(LONG)
    return dict(post(f"/threads/{thread_id}/runs", assistant_id=assistant_id))


def test_a_thread_run_is_read_in_each_of_the_ways_to_name_it(
    context: Any, thread_run: dict[str, Any], thread_id: str
) -> None:
    run_id = thread_run["id"]
    ways: list[dict[str, Any]] = [
        {"thread_id": thread_id, "run_id": run_id},
        {"run_id": f"{thread_id}:{run_id}"},
        {"ref": {"kind": "thread_run", "id": run_id, "thread_id": thread_id, "conn_id": "openai_default"}},
    ]
    for way in ways:
        found = GetThreadRunOperator(task_id="read", **way).execute(context)
        assert (found["id"], found["thread_id"], found["status"]) == (run_id, thread_id, "in_progress")
        assert found["object"] == "thread.run"
        assert "steps" not in found


def test_a_response_is_read_under_the_same_names(context: Any, response: dict[str, Any]) -> None:
    found = GetResponseOperator(task_id="read", response_id=response["id"]).execute(context)

    assert (found["id"], found["status"], found["object"]) == (response["id"], "in_progress", "response")


def test_the_steps_are_read_on_demand_and_all_of_them(
    context: Any,
    post: Callable[..., Any],
    openai_runs_simulator: Simulator,
    thread_id: str,
    assistant_id: str,
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0, steps=150))
    run = post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)
    operator = GetThreadRunOperator(task_id="read", thread_id=thread_id, run_id=run["id"], include_steps=True)

    steps = operator.execute(context)["steps"]
    assert len({step["id"] for step in steps}) == len(steps) == 151


@pytest.mark.parametrize(
    "operator",
    [
        GetThreadRunOperator(task_id="read", run_id="thread_unknown:run_unknown"),
        GetResponseOperator(task_id="read", response_id="resp_unknown"),
    ],
    ids=["thread run", "response"],
)
def test_a_run_that_does_not_exist_is_an_error(
    context: Any, openai_runs_simulator: Simulator, operator: Any
) -> None:
    with pytest.raises(RunNotFoundError, match="unknown") as caught:
        operator.execute(context)
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("kind", ["response", "thread_run"])
def test_an_active_run_is_cancelled_and_its_end_is_waited_for(
    context: Any,
    post: Callable[..., Any],
    openai_runs_simulator: Simulator,
    thread_id: str,
    assistant_id: str,
    kind: str,
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=500, cancelling=0.5))
    if kind == "response":
        named = {"response_id": post("/responses", model="m", input="Why?", background=True)["id"]}
    else:
        run = post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)
        named = {"thread_id": thread_id, "run_id": run["id"]}
    found = CancelRunOperator(task_id="end", **named).execute(context)

    assert found["status"] == "cancelled"
    assert openai_runs_simulator.active() == []


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "incomplete"])
def test_to_cancel_a_run_that_has_ended_is_success(
    context: Any,
    post: Callable[..., Any],
    openai_runs_simulator: Simulator,
    status: str,
    thread_id: str,
    assistant_id: str,
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=0, ends=status, times=2))
    response = post("/responses", model="m", input="Why?", background=True)
    run = post(f"/threads/{thread_id}/runs", assistant_id=assistant_id)
    of_response = CancelRunOperator(task_id="end", response_id=response["id"])
    of_run = CancelRunOperator(task_id="end", run_id=f"{thread_id}:{run['id']}")

    assert of_response.execute(context)["status"] == of_run.execute(context)["status"] == status


def test_a_run_that_does_not_end_in_time_is_told_to_be_running(
    context: Any, post: Callable[..., Any], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.script(Scenario(queued=0, in_progress=500, cancelling=60))
    response = post("/responses", model="m", input="Why?", background=True)
    with pytest.raises(RunCallError, match=f"{response['id']}.*may be running and billing"):
        CancelRunOperator(task_id="end", response_id=response["id"], wait=0.5).execute(context)


def test_a_run_that_nobody_knows_cannot_be_cancelled(context: Any, openai_runs_simulator: Simulator) -> None:
    with pytest.raises(RunNotFoundError, match="resp_unknown"):
        CancelRunOperator(task_id="end", response_id="resp_unknown").execute(context)


def test_trouble_on_the_way_is_sat_out(
    context: Any, response: dict[str, Any], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.fault(Fault(status=503))
    found = CancelRunOperator(task_id="end", response_id=response["id"]).execute(context)

    assert found["status"] == "cancelled"


def test_the_connection_in_the_ref_counts_unless_another_one_is_given(
    context: Any,
    response: dict[str, Any],
    openai_runs_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RECORDED", openai_runs_simulator.connection_json)
    monkeypatch.setenv("AIRFLOW_CONN_GIVEN", openai_runs_simulator.connection_json)
    ref = {"kind": "response", "id": response["id"], "conn_id": "recorded"}
    recorded = GetResponseOperator(task_id="read", ref=ref).execute(context)
    given = GetResponseOperator(task_id="read", ref=ref, conn_id="given").execute(context)

    assert recorded["ref"]["conn_id"] == "recorded"
    assert given["ref"]["conn_id"] == "given"
