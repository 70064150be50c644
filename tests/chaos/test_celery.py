# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev import ROOT
from dev.chaos import __main__ as chaos
from dev.chaos.celery.faults import extract_older_version
from dev.chaos.celery.rows import ROWS
from dev.live import celery, hosts
from dev.live.airflow import _on_one_machine


def test_without_root_one_sentence_says_so_and_the_exit_code_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["chaos", "--executor", "celery"])
    monkeypatch.setattr(chaos, "raise_interrupts", lambda: None)

    assert chaos.main() == 2
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "root" in said


def test_what_is_not_installed_is_named_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert hosts.missing() == "apt-get install iproute2 nftables: hosts of their own need it."

    monkeypatch.setattr("shutil.which", lambda name: None if name == "redis-server" else name)
    assert "redis-server" in str(celery.missing())


def test_each_component_has_a_host_of_its_own_and_two_of_them_are_there_where_there_can_be() -> None:
    assert set(celery.COMPONENTS) < set(celery.NAMES)
    assert len(set(celery.NAMES)) == len(celery.NAMES)
    arguments = sorted(arguments[0] for arguments in celery.COMPONENTS.values())
    assert arguments == sorted(
        [*(one[0] for one in _on_one_machine(2).values()), "scheduler", *["celery"] * 2]
    )


def test_the_rows_have_names_of_their_own_and_faults_that_their_trials_share() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) >= 30
    assert all(row.shares_fault for row in ROWS)
    assert {role for row in ROWS for role in row.roles} == {"", "clear", "mark"}


def test_a_mark_is_for_deferred_tasks_and_a_run_that_is_left_behind_would_show() -> None:
    row = next(row for row in ROWS if "mark" in row.roles)
    for number, role in enumerate(row.roles):
        deferred, worker = row.trial_options(number, "deferred"), row.trial_options(number, "worker")
        assert (deferred.get("role", ""), worker.get("role", "")) == (role, role.replace("mark", "clear"))
        if role:
            assert deferred["script"]["in_progress"] > 10 * deferred["seconds"]


def test_each_row_is_in_one_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    for part in ("1/3", "2/3", "3/3"):
        monkeypatch.setattr(sys, "argv", ["chaos", "--executor", "celery", "--part", part])
        found += chaos._chosen(ROWS, chaos.arguments())
    assert sorted(found) == list(range(len(ROWS)))


def test_the_dags_of_an_upgrade_parse_with_the_version_that_it_starts_from(tmp_path: Path) -> None:
    try:
        extract_older_version(tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("the history of this clone does not reach that far")
    dags = "import dev.chaos.dags.persistent_dags, airflow_provider_openai_runs as it; print(it.__file__)"
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    command = (sys.executable, "-c", dags)
    env = {**os.environ, "PYTHONPATH": path, "AIRFLOW_HOME": str(tmp_path / "home")}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=env, cwd=tmp_path).stdout  # noqa: S603 - our own
    assert str(tmp_path) in said
