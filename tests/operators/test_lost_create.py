# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import LostCreateError, RunCallError
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator

QUICK = Scenario(queued=0.02, in_progress=0.05)
RUNS = r"^/threads/[^/]+/runs$"


@pytest.mark.parametrize("kind", ["lost", "cut"])
def test_a_thread_run_whose_create_was_not_answered_is_found_by_its_token_and_adopted(
    run_on: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
    kind: str,
) -> None:
    openai_runs_simulator.script(QUICK)
    openai_runs_simulator.fault(Fault(method="POST", path=RUNS, kind=kind))
    found = run_task(run_on(deferrable=True), context)

    assert found["status"] == "completed"
    assert creates() == len(openai_runs_simulator.runs()) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(status=502), Fault(status=504), Fault(kind="reset"), Fault(kind="garbage")],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_a_thread_is_looked_at_before_a_create_that_may_have_been_accepted_is_sent_again(
    run_on: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.ownership.SEARCH_SECONDS", 0.3)
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.acquire._SEARCH_PAUSE", 0.1)
    openai_runs_simulator.script(QUICK)
    openai_runs_simulator.fault(
        Fault(method="POST", path=RUNS, kind=fault.kind, status=fault.status),
    )
    found = run_on().execute(context)

    observed = [(r.method, r.status) for r in openai_runs_simulator.requests if r.path.endswith("/runs")]
    assert found["status"] == "completed"
    assert observed[0][0] == "POST"
    assert observed[1] == ("GET", 200)
    assert observed[-1] == ("POST", 200)
    assert len(openai_runs_simulator.runs()) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(kind="lost"), Fault(kind="cut"), Fault(status=500), Fault(status=504)],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_a_response_whose_create_was_not_answered_is_never_sent_twice(
    respond: Callable[..., Any],
    creates: Callable[[], int],
    kept: dict[str, Any],
    store: Any,
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
    fault: Fault,
) -> None:
    openai_runs_simulator.script(QUICK)
    openai_runs_simulator.fault(
        Fault(method="POST", path="^/responses$", kind=fault.kind, status=fault.status)
    )
    with pytest.raises(LostCreateError, match="may be running and billing") as first:
        respond().execute(kept)
    with pytest.raises(LostCreateError) as second:
        respond().execute(retry(kept))

    assert creates() == 1
    for error in (first.value, second.value):
        assert isinstance(error, AirflowFailException)
        assert "Clear the task to start anew" in str(error)
        assert store.record["token"] in str(error)


def test_a_lost_create_is_sent_again_on_demand_and_at_the_users_risk(
    respond: Callable[..., Any],
    creates: Callable[[], int],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(QUICK, QUICK)
    openai_runs_simulator.fault(Fault(method="POST", path="^/responses$", kind="lost"))
    found = respond(on_lost_create="resubmit").execute(context)

    assert found["status"] == "completed"
    assert creates() == 2


def test_a_server_that_does_not_echo_metadata_cannot_prove_that_a_run_was_not_created(
    run_on: Callable[..., Any],
    creates: Callable[[], int],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(in_progress=0.05, echo_metadata=False))
    openai_runs_simulator.fault(Fault(method="POST", path=RUNS, kind="lost"))
    with pytest.raises(LostCreateError):
        run_on().execute(context)

    assert creates() == 1


@pytest.mark.parametrize(("status", "retry_after"), [(429, 1), (503, None), (409, None)])
def test_a_create_that_was_surely_not_accepted_is_sent_again_in_place(
    create: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
    status: int,
    retry_after: float | None,
) -> None:
    openai_runs_simulator.script(QUICK)
    path = r"^/(responses|threads/[^/]+/runs)$"
    openai_runs_simulator.fault(Fault(method="POST", path=path, status=status, retry_after=retry_after))
    found = create().execute(context)

    sent = [r.body for r in openai_runs_simulator.requests if re.search(path, r.path) and r.body]
    tokens = [body["metadata"]["airflow_token"] for body in sent]
    assert found["status"] == "completed"
    assert len(tokens) == 2
    assert len(set(tokens)) == len(openai_runs_simulator.runs()) == 1


def test_a_server_that_comes_up_late_is_waited_for(
    context: dict[str, Any],
    respond: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    openai_runs_simulator: Simulator,
) -> None:
    with Simulator() as late:
        connection = late.connection
    late.script(QUICK)
    monkeypatch.setenv("AIRFLOW_CONN_LATE", json.dumps(connection))
    starts = threading.Timer(0.7, late.start)
    starts.start()
    try:
        assert respond(conn_id="late").execute(context)["status"] == "completed"
    finally:
        starts.join()
        late.stop()


def test_the_create_gives_up_when_its_budget_is_over(
    respond: Callable[..., Any], kept: dict[str, Any], store: Any, openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.fault(Fault(method="POST", status=429, times=None))
    with pytest.raises(RunCallError, match="Rate limit reached") as caught:
        respond(timeouts={"create": 1.2}).execute(kept)

    assert not isinstance(caught.value, AirflowFailException)
    assert store.record is None
