# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_openai_runs.cli import main as command_line
from tests.cli.conftest import FakeAirflow, Terminal


def test_a_sound_airflow_with_a_sound_connection_is_all_green(terminal: Terminal) -> None:
    status, found = terminal.json("doctor")

    assert status == 0
    assert {finding["about"]: finding["level"] for finding in found["findings"]} == {
        "triggerer": "ok",
        "database": "ok",
        "Airflow": "ok",
        "route and key": "ok",
        "thread runs": "ok",
        "responses": "ok",
    }


@pytest.mark.parametrize("triggerer", [None, "unhealthy"])
def test_a_missing_triggerer_is_named_with_what_it_leads_to(
    terminal: Terminal, airflow: FakeAirflow, triggerer: str | None
) -> None:
    airflow.triggerer = triggerer

    status, text = terminal("doctor")

    assert status == 1
    assert "FAILED  triggerer" in text
    assert "stay deferred for ever" in text


def test_an_airflow_without_a_store_is_a_sentence_and_no_failure(
    terminal: Terminal, airflow: FakeAirflow
) -> None:
    airflow.records, airflow.version = None, "3.2.0"

    status, text = terminal("doctor")

    assert status == 0
    assert "!!      Airflow" in text
    assert "3.2.0 has no task state store" in text


def test_the_models_of_the_newest_tasks_are_asked_about(terminal: Terminal, airflow: FakeAirflow) -> None:
    airflow.add("old", "success", model="gpt-4o-mini", conn_id="openai_default")
    airflow.add("new", "success", model="gpt-6-luna")
    airflow.add("other", "success", model="gpt-5", conn_id="another")

    _, found = terminal.json("doctor")

    about = [finding["about"] for finding in found["findings"]]
    assert [name for name in about if name.startswith("model")] == ["model gpt-4o-mini", "model gpt-6-luna"]


def test_an_airflow_that_is_not_there_does_not_keep_the_connection_from_being_asked(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    status = command_line.main(["doctor", "--airflow-url", "http://127.0.0.1:9", "--token", "t"])

    text = capsys.readouterr().out
    assert status == 1
    assert "FAILED  Airflow" in text
    assert "ok      responses" in text


def test_a_connection_that_does_not_exist_is_a_finding(terminal: Terminal) -> None:
    status, text = terminal("doctor", "--conn-id", "nobody")

    assert status == 1
    assert "FAILED  connection" in text
    assert "There is no connection 'nobody'" in text


def test_help_needs_neither_airflow_nor_the_sdk() -> None:
    program = (
        "import sys\n"
        "from airflow_provider_openai_runs.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'airflow', 'openai', 'httpx2'} & set(sys.modules)))\n"
    )
    found = subprocess.run(  # noqa: S603 - nobody else's input
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "doctor" in found.stdout
    assert found.stdout.splitlines()[-1] == "[]"
