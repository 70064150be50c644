# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_openai_runs.cli import stop
from airflow_provider_openai_runs.cli.airflow_api import TaskInstance
from airflow_provider_openai_runs.cli.found import FoundRun
from airflow_provider_openai_runs.cli.stop import Mark, Step, next_step
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.simulator import Fault, Simulator
from tests.cli.conftest import FakeAirflow, Terminal
from tests.cli.test_list import record, response
from tests.support.scene import Scene


def cancels(simulator: Simulator) -> int:
    return simulator.count("POST", "/cancel$")


def found(
    state: str, *, ref: bool = True, status: str | None = "in_progress", active: bool | None = True
) -> FoundRun:
    task = TaskInstance(
        dag_id="d",
        run_id="r",
        task_id="t",
        map_index=-1,
        state=state,
        operator="",
        started_at=0.0,
        rendered={},
    )
    return FoundRun(
        task=task,
        ref=RunRef(kind="response", id="resp_1", conn_id="c") if ref else None,
        kind="response",
        conn_id="c",
        raw_status=status,
        active=active,
    )


HEARD, UNHEARD = Mark(at=100.0, heard=True), Mark(at=100.0, heard=False)


@pytest.mark.parametrize(
    ("run", "mark", "now", "step"),
    [
        (found("deferred"), None, 100.0, Step.MARK),
        (found("awaiting_input"), None, 100.0, Step.MARK),
        (found("up_for_retry", ref=False, status=None, active=None), None, 100.0, Step.MARK),
        (found("failed"), None, 100.0, Step.CANCEL),
        (found("failed"), HEARD, 119.0, Step.WAIT),
        (found("failed"), HEARD, 121.0, Step.CANCEL),
        (found("failed"), UNHEARD, 100.0, Step.CANCEL),
        (found("failed", active=False), HEARD, 101.0, Step.DONE),
        (found("running", active=False), None, 100.0, Step.DONE),
        (found("failed", ref=False, status=None, active=None), None, 100.0, Step.GIVE_UP),
        (found("failed", status=None, active=None), HEARD, 119.0, Step.WAIT),
        (found("failed", status=None, active=None), HEARD, 121.0, Step.GIVE_UP),
        # Cleared meanwhile: its next attempt is left alone once its task was marked here.
        (found("queued"), HEARD, 121.0, Step.CANCEL),
    ],
)
def test_what_is_done_next_follows_from_the_task_and_its_run(
    run: FoundRun, mark: Mark | None, now: float, step: Step
) -> None:
    assert next_step(run, mark, now=now) is step


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    live, orphan = response(scene), response(scene)
    airflow.add("ask", "deferred", record=record(live))
    airflow.add("lost", "failed", record=record(orphan))

    status, text = terminal("stop", "--all")

    assert status == 0
    assert f"would mark its task failed: {live['id']} of nightly.ask" in text
    assert f"would cancel it by its connection: {orphan['id']} of nightly.lost" in text
    assert "2 to stop. Nothing was done; add --yes to do it." in text
    assert (airflow.marks, cancels(scene.simulator)) == ([], 0)


def test_the_task_of_a_run_is_marked_and_the_package_s_own_cancel_is_waited_for(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    ref = response(scene)
    airflow.add("ask", "deferred", record=record(ref))
    airflow.on_mark = lambda _: scene.post(f"/responses/{ref['id']}/cancel")

    status, text = terminal("stop", ref["id"], "--yes")

    assert status == 0
    assert "1 of 1 have ended." in text
    assert (airflow.marks, cancels(scene.simulator)) == (["ask"], 1)


def test_a_run_whose_task_does_not_cancel_it_is_cancelled_by_the_connection(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "_SECONDS_TO_CANCEL", 0.05)
    ref = response(scene)
    airflow.add("ask", "running", record=record(ref))

    status, result = terminal.json("stop", "--all", "--yes")

    assert (status, result["stopped"], result["left"]) == (0, 1, [])
    assert scene.simulator.active() == []


@pytest.mark.parametrize("state", ["failed", "success", "up_for_retry"])
def test_the_run_of_a_task_that_nobody_works_on_is_cancelled_at_once(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene, state: str
) -> None:
    airflow.add("ask", state, record=record(response(scene)))

    assert terminal("stop", "--dag", "nightly", "--yes")[0] == 0
    assert scene.simulator.active() == []
    assert airflow.marks == (["ask"] if state == "up_for_retry" else [])


def test_below_airflow_3_3_nobody_hears_of_the_mark_of_a_deferred_task(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    airflow.records = None
    airflow.add("ask", "deferred", ref=response(scene))

    assert terminal("stop", "--all", "--yes")[0] == 0
    assert (airflow.marks, scene.simulator.active()) == (["ask"], [])


def test_a_task_that_may_not_be_marked_keeps_its_run(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    ref = response(scene)
    airflow.add("ask", "deferred", record=record(ref))
    airflow.mark_status = 403

    status, text = terminal("stop", "--all", "--yes")

    assert status == 1
    assert f"NOT ENDED, as far as is known: {ref['id']} of nightly.ask" in text
    assert "The token's user may not do this." in text
    assert cancels(scene.simulator) == 0


def test_what_nobody_here_can_end_is_named(terminal: Terminal, airflow: FakeAirflow, scene: Scene) -> None:
    airflow.add("ask", "failed", record=record({**response(scene), "conn_id": "elsewhere"}))
    airflow.add("lost", "failed", record=record())

    status, result = terminal.json("stop", "--all", "--yes")

    assert status == 1
    notes = {run["task_id"]: run["note"] for run in result["left"]}
    assert "Connection 'elsewhere' is not usable here" in notes["ask"]
    assert "Its create was never answered" in notes["lost"]


def test_a_server_that_refuses_the_cancel_is_named(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    airflow.add("ask", "failed", record=record(response(scene)))
    scene.simulator.fault(Fault(method="POST", path="/cancel$", status=400, times=None))

    status, text = terminal("stop", "--all", "--yes")

    assert status == 1
    assert "The run could not be cancelled and may be running and billing." in text


def test_an_id_that_is_not_running_is_an_error(terminal: Terminal, airflow: FakeAirflow) -> None:
    status, text = terminal("stop", "resp_nobody", "--yes")

    assert status == 1
    assert "resp_nobody is not among the runs that go on" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["stop", "resp_1", "--all"],
        ["stop", "resp_1", "--path", "/srv/out"],
        ["stop", "--path", "/srv/out", "--all"],
        ["stop", ""],
        *(["list", "--days", days] for days in ("nan", "inf", "-1", "0", "1e9", "x")),
        ["doctor", "--model", ""],
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    terminal: Terminal, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        terminal(*arguments)

    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_something_has_to_be_named(terminal: Terminal) -> None:
    with pytest.raises(SystemExit) as ended:
        terminal("stop", "--yes")

    assert ended.value.code == 2


def test_a_run_that_was_created_elsewhere_is_not_taken_for_gone(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    ref = {"kind": "response", "id": "resp_elsewhere", "conn_id": "openai_default"}
    moved = {"address": "https://elsewhere.example/v1", "key": ""}
    airflow.add("ask", "failed", record=record(ref, account=moved))

    _, listed = terminal.json("list")
    [run] = listed["runs"]
    assert run["id"] == "resp_elsewhere"
    assert "it led to https://elsewhere.example/v1, and leads to" in run["note"]

    status, result = terminal.json("stop", "--all", "--yes")
    assert status == 1
    assert "it led to https://elsewhere.example/v1, and leads to" in result["left"][0]["note"]
