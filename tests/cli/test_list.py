# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.cli import main as command_line
from airflow_provider_openai_runs.simulator import Scenario
from tests.cli.conftest import FakeAirflow, Terminal
from tests.support.scene import Scene

if TYPE_CHECKING:
    import pytest

LONG = Scenario(queued=0, in_progress=600, times=None)


def response(scene: Scene) -> dict[str, Any]:
    """Create a long response past the package, and return its ref."""
    scene.simulator.script(LONG)
    created = scene.post("/responses", model="m", input="long", background=True)
    return {"kind": "response", "id": created["id"], "conn_id": "openai_default"}


def thread_run(scene: Scene, **metadata: str) -> dict[str, Any]:
    scene.simulator.script(LONG)
    run = scene.post(f"/threads/{scene.thread_id}/runs", assistant_id=scene.assistant_id, metadata=metadata)
    return {
        "kind": "thread_run",
        "id": run["id"],
        "thread_id": scene.thread_id,
        "conn_id": "openai_default",
    }


def record(ref: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return what the state store holds of a run, or of an intent alone."""
    values = {"cycle": 0, "token": "0123/abc", "intent_at": 1_700_000_000.0, **more}
    return values if ref is None else {**values, "ref": ref, "created_at": 1_700_000_001.0}


def test_the_run_of_a_task_that_has_ended_is_found(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    ref = response(scene)
    airflow.add("ask", "success", record=record(ref))

    status, found = terminal.json("list")

    [run] = found["runs"]
    assert status == 0
    assert (run["id"], run["kind"], run["state"], run["status"]) == (
        ref["id"],
        "response",
        "success",
        "in_progress",
    )
    assert (run["dag_id"], run["task_id"], run["active"]) == ("nightly", "ask", True)
    assert run["url"] == "https://airflow.example/link"


def test_a_run_that_has_ended_is_not_shown(terminal: Terminal, airflow: FakeAirflow, scene: Scene) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0))
    done = scene.post("/responses", model="m", input="short")
    airflow.add("ask", "running", record=record({"kind": "response", "id": done["id"]}))
    airflow.add("gone", "failed", record=record({"kind": "response", "id": "resp_nobody"}))

    assert terminal("list") == (0, "Nothing is running, of the tasks of the last 7 days.\n")


def test_without_a_store_the_ref_in_xcom_is_followed(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    ref = thread_run(scene)
    airflow.records = None
    airflow.add("run", "failed", ref=ref)

    _, found = terminal.json("list")

    assert [(run["id"], run["status"]) for run in found["runs"]] == [(ref["id"], "in_progress")]


def test_without_its_connection_a_run_is_shown_and_its_status_is_empty(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    airflow.add("ask", "deferred", record=record({**response(scene), "conn_id": "elsewhere"}))

    status, text = terminal("list")

    assert status == 0
    assert "nightly.ask" in text
    assert "in_progress" not in text
    assert "Connection 'elsewhere' is not usable on this machine, so STATUS is empty" in text


def test_the_lost_create_of_a_response_is_named_by_its_token(
    terminal: Terminal, airflow: FakeAirflow
) -> None:
    airflow.add("ask", "failed", record=record())

    status, text = terminal("list")

    assert status == 0
    assert "? token 0123/abc" in text
    assert "Its create was never answered: a run may be going on." in text


def test_the_lost_create_of_a_thread_run_is_found_by_its_token(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    ref = thread_run(scene, airflow_token="0123/abc")
    airflow.add("run", "failed", record=record(thread_id=ref["thread_id"]), assistant_id="asst_1")

    _, found = terminal.json("list")

    assert [(run["id"], run["note"]) for run in found["runs"]] == [(ref["id"], None)]


def test_one_record_that_cannot_be_read_does_not_hide_the_others(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    ref = response(scene)
    airflow.add("broken", "failed", record=record({"kind": "", "id": 7}))
    airflow.add("ask", "failed", record=record(ref))

    _, found = terminal.json("list")

    notes = {run["task_id"]: run["note"] or "" for run in found["runs"]}
    assert notes["broken"].startswith("Its record cannot be read")
    assert notes["ask"] == ""


def test_tasks_that_create_no_runs_are_not_asked_about(terminal: Terminal, airflow: FakeAirflow) -> None:
    airflow.add("load", "success", operator="PythonOperator")
    airflow.others.add("load")

    assert terminal("list")[0] == 0
    assert not [asked for asked in airflow.server.asked if "state-store" in asked.path]


def test_the_run_that_a_deleted_sensor_waited_for_is_not_its_own(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    airflow.add("wait", "failed", ref=response(scene), operator="ResponseSensor")

    _, found = terminal.json("list")

    assert found["runs"] == []


def test_a_run_of_two_tasks_is_shown_once_under_the_one_at_work(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene
) -> None:
    ref = thread_run(scene)
    airflow.add("answer", "deferred", record=record(ref))
    airflow.add("ask", "success", record=record(ref))

    _, found = terminal.json("list")

    assert [run["task_id"] for run in found["runs"]] == ["answer"]


def test_an_airflow_that_is_not_there_is_another_status(capsys: pytest.CaptureFixture[str]) -> None:
    status = command_line.main(["list", "--airflow-url", "http://127.0.0.1:9", "--token", "t"])

    assert status == 2
    assert "Airflow cannot be reached at http://127.0.0.1:9" in capsys.readouterr().err


def test_without_a_token_it_is_said_how_to_give_one(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CLI_TOKEN", raising=False)

    assert command_line.main(["list", "--airflow-url", airflow.server.url]) == 2
    assert "Give --token (or AIRFLOW_CLI_TOKEN)" in capsys.readouterr().err


def test_a_user_and_a_password_get_a_token(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CLI_PASSWORD", "secret")

    assert command_line.main(["list", "--airflow-url", airflow.server.url, "--user", "ada"]) == 0
    assert {"username": "ada", "password": "secret"} in airflow.server.bodies()
    assert "Nothing is running" in capsys.readouterr().out


def test_a_dag_that_airflow_does_not_know_is_no_dag_without_runs(
    terminal: Terminal, airflow: FakeAirflow, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow.add("ask", "running", record=record(response(scene)))
    asked = ["--dag", "nigthly", "--airflow-url", airflow.server.url, "--token", "t"]
    for command in (["list"], ["stop"], ["stop", "--yes"]):
        assert command_line.main([*command, *asked]) == command_line.CANNOT_ASK
        assert "knows no Dag 'nigthly'" in capsys.readouterr().err

    airflow.tasks.clear()
    assert terminal("list", "--dag", "nightly")[0] == 0
