# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
import threading

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import LostCreateError, RunCallError
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario, Simulator
from tests.support.scene import Make, Scene

QUICK = Scenario(queued=0.02, in_progress=0.05)
RUNS = r"^/threads/[^/]+/runs$"


@pytest.mark.parametrize("kind", ["lost", "cut"])
def test_a_thread_run_whose_create_was_not_answered_is_found_by_its_token_and_adopted(
    scene: Scene, run_on: Make, kind: str
) -> None:
    scene.simulator.script(QUICK)
    scene.simulator.fault(Fault(method="POST", path=RUNS, kind=kind))
    found = scene.run(run_on(deferrable=True))

    assert found["status"] == "completed"
    assert scene.creates() == len(scene.simulator.runs()) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(status=502), Fault(status=504), Fault(kind="reset"), Fault(kind="garbage")],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_a_thread_is_searched_before_a_create_that_may_have_been_accepted_is_sent_again(
    scene: Scene, run_on: Make, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.SEARCH_SECONDS", 0.3)
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.acquire.SEARCH_PAUSE", 0.1)
    scene.simulator.script(QUICK)
    scene.simulator.fault(
        Fault(method="POST", path=RUNS, kind=fault.kind, status=fault.status),
    )
    found = run_on().execute(scene.context)

    observed = [(r.method, r.status) for r in scene.simulator.requests if r.path.endswith("/runs")]
    assert found["status"] == "completed"
    assert observed[0][0] == "POST"
    assert observed[1] == ("GET", 200)
    assert observed[-1] == ("POST", 200)
    assert len(scene.simulator.runs()) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(kind="lost"), Fault(kind="cut"), Fault(status=500), Fault(status=504)],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_a_response_whose_create_was_not_answered_is_never_sent_twice(
    scene: Scene, respond: Make, fault: Fault
) -> None:
    scene.simulator.script(QUICK)
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind=fault.kind, status=fault.status))
    with pytest.raises(LostCreateError, match="may be running and billing") as first:
        respond().execute(scene.kept)
    with pytest.raises(LostCreateError) as second:
        respond().execute(scene.retry(scene.kept))

    assert scene.creates() == 1
    for error in (first.value, second.value):
        assert isinstance(error, AirflowFailException)
        assert "Clear the task to start anew" in str(error)
        assert scene.store.record["token"] in str(error)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.RESUBMIT_PAUSE", 0.02)


@pytest.mark.usefixtures("no_pauses")
def test_a_lost_create_is_sent_again_on_demand_and_at_the_users_risk(scene: Scene, respond: Make) -> None:
    scene.simulator.script(QUICK, QUICK)
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost"))
    found = respond(on_lost_create="resubmit").execute(scene.context)

    assert found["status"] == "completed"
    assert scene.creates() == 2


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(("limit", "sent"), [({}, 2), ({"max_resubmits": 3}, 4)])
def test_a_server_that_loses_every_answer_is_not_paid_more_often_than_the_user_allows_over_all_retries(
    scene: Scene, respond: Make, limit: dict[str, int], sent: int
) -> None:
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost", times=None))
    operator = respond(on_lost_create="resubmit", **limit)
    lines = scene.log_of(operator)
    with pytest.raises(LostCreateError) as first:
        operator.execute(scene.kept)
    with pytest.raises(LostCreateError) as second:
        respond(on_lost_create="resubmit", **limit).execute(scene.retry(scene.kept))

    assert scene.creates() == len(scene.simulator.runs()) == sent
    tokens = [run["metadata"]["airflow_token"] for run in scene.simulator.runs()]
    for error in (first.value, second.value):
        assert f"p to {sent} runs" in str(error)
        assert not [token for token in tokens if token not in str(error)]
        assert "was not answered (" in str(error)
    again = [line for line in lines if line.startswith("A new run is created")]
    assert len([line for line in again if "may be running and billing" in line]) == sent - 1


@pytest.mark.usefixtures("no_pauses")
def test_lost_answers_to_calls_count_as_well(scene: Scene, respond: Make) -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"Rain in {city}"

    call = FunctionCall(name="weather", arguments={"city": "Oslo"})
    scene.simulator.script(Scenario(in_progress=0.06, function_calls=((call,),)))
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost", skip=1, times=None))
    operator = respond(functions=[weather], on_lost_create="resubmit", max_resubmits=2)
    with pytest.raises(LostCreateError, match="p to 3 runs"):
        scene.run(operator, scene.kept)
    with pytest.raises(LostCreateError, match="p to 3 runs"):
        scene.run(operator, scene.retry(scene.kept))

    assert scene.creates() == 1 + 3


def test_a_server_that_does_not_echo_metadata_cannot_prove_that_a_run_was_not_created(
    scene: Scene, run_on: Make
) -> None:
    scene.simulator.script(Scenario(in_progress=0.05, echo_metadata=False))
    scene.simulator.fault(Fault(method="POST", path=RUNS, kind="lost"))
    with pytest.raises(LostCreateError, match=r"was not answered \("):
        run_on().execute(scene.context)

    assert scene.creates() == 1


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize(("status", "retry_after"), [(429, 1), (503, None), (409, None)])
def test_a_create_that_was_surely_not_accepted_is_sent_again_in_place(
    scene: Scene, create: Make, status: int, retry_after: float | None
) -> None:
    scene.simulator.script(QUICK)
    path = r"^/(responses|threads/[^/]+/runs)$"
    scene.simulator.fault(Fault(method="POST", path=path, status=status, retry_after=retry_after))
    found = create().execute(scene.context)

    sent = [r.body for r in scene.simulator.requests if re.search(path, r.path) and r.body]
    tokens = [body["metadata"]["airflow_token"] for body in sent]
    assert found["status"] == "completed"
    assert len(tokens) == 2
    assert len(set(tokens)) == len(scene.simulator.runs()) == 1


def test_a_server_that_comes_up_late_is_waited_for(
    scene: Scene, respond: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Simulator() as late:
        connection = late.connection
    late.script(QUICK)
    monkeypatch.setenv("AIRFLOW_CONN_LATE", json.dumps(connection))
    starts = threading.Timer(0.7, late.start)
    starts.start()
    try:
        assert respond(conn_id="late").execute(scene.context)["status"] == "completed"
    finally:
        starts.join()
        late.stop()


def test_the_create_gives_up_when_its_budget_is_over(scene: Scene, respond: Make) -> None:
    scene.simulator.fault(Fault(method="POST", status=429, times=None))
    with pytest.raises(RunCallError, match="Rate limit reached") as caught:
        respond(timeouts={"create": 1.2}).execute(scene.kept)

    assert not isinstance(caught.value, AirflowFailException)
    assert scene.store.record is None
