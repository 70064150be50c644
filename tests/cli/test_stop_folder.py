# SPDX-License-Identifier: Apache-2.0
"""``stop --path``: what a bulk task has left going is ended by its folder alone."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.bulk.events import (
    Created,
    Event,
    Intended,
    NewRun,
)
from airflow_provider_openai_runs.bulk.head import TaskHead, begin
from airflow_provider_openai_runs.bulk.inputs import open_input
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.journal_lines import to_lines
from airflow_provider_openai_runs.bulk.parts import Outcome, Parts
from airflow_provider_openai_runs.bulk.storage import JOURNAL, RESULTS, StorageFolder
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator
from airflow_provider_openai_runs.storage import OutputStore
from tests.cli.conftest import FakeAirflow, Terminal
from tests.cli.test_stop import cancels
from tests.support.airflow_versions import needs_store

pytestmark = needs_store

LOG: Any = logging.getLogger(__name__)
FIRST, SECOND = "019ac000-0000-7000-8000-000000000001", "019ac111-0000-7000-8000-000000000002"


@dataclass
class BulkTask:
    """A task whose worker was killed, with what it has left on storage and at the server."""

    folder: StorageFolder
    simulator: Simulator
    rows: int = 0

    def created(self, *, seconds: float = 600) -> NewRun:
        """Create the run of the next row; it takes so long."""
        self.simulator.script(Scenario(queued=0, in_progress=seconds))
        run = OpenAIRunsHook().create_background_response(model="m", input="Why?")
        self.rows += 1
        return NewRun(row=self.rows - 1, id=run.ref.id, created_at=0.0)

    def journal(self, number: int, *events: Event, writer: str = FIRST) -> None:
        self.folder.write(to_lines(events), JOURNAL, writer, f"{number:06d}.jsonl")

    def results(self, writer: str, *rows: int) -> Event:
        parts = Parts(writer=writer)
        for row in rows:
            parts.add(Outcome(row=row, state=ItemState.SUCCEEDED, result={"output_text": writer}), now=0)
        part = parts.close()
        self.folder.write(part.content, RESULTS, part.written.name)
        return part.written


@pytest.fixture
def task(
    tmp_path: Path, terminal: Terminal, openai_runs_simulator: Simulator, airflow: FakeAirflow
) -> BulkTask:
    (tmp_path / "in.jsonl").write_text("".join(f'"text {row}"\n' for row in range(6)))
    folder = StorageFolder(OutputStore(str(tmp_path), log=LOG), "nightly", "manual__2026", "ask", "0")
    source = open_input(input_path=str(tmp_path / "in.jsonl"), log=LOG)
    named = {"dag_id": "nightly", "run_id": "manual__2026", "task_id": "ask", "map_index": -1}
    head = TaskHead(
        conn_id="openai_default",
        input=source.head,
        began_at=0.0,
        fingerprint={},
        task=named,
        token_prefix="abc/",
    )
    begin(folder, head)
    airflow.add("ask", "failed")
    return BulkTask(folder, openai_runs_simulator)


def _killed(task: BulkTask) -> tuple[NewRun, NewRun, NewRun]:
    """Leave an item with a result, one going, one that has ended meanwhile, one lost, two not created."""
    done, going, ended = task.created(seconds=0), task.created(), task.created(seconds=0)
    task.journal(1, Intended(rows=(0, 1, 2, 3), custom_ids={1: "one"}))
    task.journal(2, Created(runs=(done, going, ended)), task.results(FIRST, 0))
    return done, going, ended


def test_without_yes_nothing_is_done_and_all_is_named(task: BulkTask, terminal: Terminal) -> None:
    _, going, ended = _killed(task)
    status, text = terminal("stop", "--path", task.folder.uri)
    assert status == 0
    assert f"would cancel it by its connection: {going.id} of row 1" in text
    assert "row 3 whose answer was lost, token abc/3.0" in text
    assert "2 to stop. Nothing was done" in text
    _, plan = terminal.json("stop", "--path", task.folder.uri)
    assert plan["active"] == [going.id, ended.id]
    assert plan["lost"] == {"3": "abc/3.0"}
    assert cancels(task.simulator) == 0
    assert task.folder.names() == ["head.json", "journal", "results"]


def test_what_goes_is_ended_what_has_ended_is_kept_and_the_manifest_names_all(
    task: BulkTask, terminal: Terminal
) -> None:
    _killed(task)
    status, found = terminal.json("stop", "--path", task.folder.uri, "--yes")
    assert (status, found["stopped"], found["left"]) == (0, 2, [])
    assert cancels(task.simulator) == 1
    counts = {name: count for name, count in found["counts"].items() if count}
    assert counts == {"succeeded": 2, "failed": 1, "lost": 1, "not_created": 2}
    results = {result["row"]: result for result in read_results(found["manifest"], failed=True)}
    assert [row for row, result in results.items() if result["state"] == "succeeded"] == [0, 2]
    assert (results[1]["custom_id"], results[1]["error"]) == ("one", "It was cancelled by stop --path.")
    failed = open_input(input_path=task.folder.uri_of("failed.jsonl"), log=LOG)
    assert [row.values for row in failed.rows()] == [{"input": f"text {row}"} for row in (1, 4, 5)]
    lost = [row.failure for row in failed.source() if failed.is_skipped(row)]
    assert [failure and failure["token"] for failure in lost] == ["abc/3.0"]


def test_a_second_stop_finds_nothing_and_lists_the_same(task: BulkTask, terminal: Terminal) -> None:
    _killed(task)
    _, one = terminal.json("stop", "--path", task.folder.uri, "--yes")
    status, other = terminal.json("stop", "--path", task.folder.uri, "--yes")
    assert (status, other["stopped"], other["counts"]) == (0, 0, one["counts"])
    rows = [result["row"] for result in read_results(other["manifest"], failed=True)]
    assert sorted(rows) == [0, 1, 2, 3]


def test_a_run_that_cannot_be_ended_is_named_and_may_be_stopped_again(
    task: BulkTask, terminal: Terminal
) -> None:
    _, going, _ = _killed(task)
    task.simulator.fault(Fault(method="POST", path="/cancel$", status=400, times=None))
    status, text = terminal("stop", "--path", task.folder.uri, "--yes")
    assert status == 1
    assert f"NOT ENDED, as far as is known: {going.id} of row 1" in text
    assert "1 of 2 have ended" in text
    task.simulator.advance(1_000)
    status, found = terminal.json("stop", "--path", task.folder.uri, "--yes")
    assert (status, found["stopped"], found["counts"]["active"]) == (0, 1, 0)
    assert found["counts"]["succeeded"] == 3


def test_a_task_that_may_create_more_has_to_be_marked_first(
    task: BulkTask, terminal: Terminal, airflow: FakeAirflow
) -> None:
    _killed(task)
    airflow.tasks["ask"]["state"] = "running"
    status, text = terminal("stop", "--path", task.folder.uri, "--yes")
    assert status == 1
    assert "Its task nightly.ask is running, and would create more: mark it failed first" in text
    assert cancels(task.simulator) == 0


def test_without_an_airflow_it_is_done_all_the_same_and_said(
    task: BulkTask, terminal: Terminal, airflow: FakeAirflow
) -> None:
    _killed(task)
    airflow.tasks.clear()
    airflow.server.play(lambda _: (401, {"detail": "no"}))
    status, text = terminal("stop", "--path", task.folder.uri, "--yes")
    assert status == 0
    assert "Nobody can tell whether its task still creates runs" in text
    assert "2 of 2 have ended" in text


def test_a_segment_that_a_later_attempt_has_not_known_of_counts_for_its_runs_alone(
    task: BulkTask, terminal: Terminal
) -> None:
    one, other = task.created(), task.created()
    task.journal(1, Intended(rows=(0, 1)))
    task.journal(2, Created(runs=(one, other)))  # not committed
    third = NewRun(row=0, id=task.created().id, created_at=0.0)
    task.journal(1, Created(runs=(other,)), Intended(rows=(0,)), writer=SECOND)
    task.journal(2, Created(runs=(third,)), writer=SECOND)
    status, found = terminal.json("stop", "--path", task.folder.uri, "--yes")
    assert (status, found["stopped"]) == (0, 3)
    assert cancels(task.simulator) == 3
    rows = sorted(result["row"] for result in read_results(found["manifest"], failed=True))
    assert rows == [0, 1]


def test_items_that_airflow_gave_are_counted_and_the_manifest_says_what_it_lacks(
    task: BulkTask, terminal: Terminal, tmp_path: Path
) -> None:
    _killed(task)
    (tmp_path / "in.jsonl").unlink()
    _, found = terminal.json("stop", "--path", task.folder.uri, "--yes")
    assert {name: count for name, count in found["counts"].items() if count} == {
        "succeeded": 2,
        "failed": 1,
        "lost": 1,
    }
    assert b"there is no such file" in task.folder.read("manifest.json")


@pytest.mark.parametrize("damage", ["nothing there", "journal"])
def test_a_folder_that_cannot_be_read_is_no_empty_one(
    task: BulkTask, terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    _killed(task)
    path = task.folder.uri
    if damage == "journal":
        task.folder.write(b'{"event": ', JOURNAL, FIRST, "000001.jsonl")
    else:
        path = str(tmp_path)
    status, _ = terminal("stop", "--path", path, "--yes")
    assert status == 2
    assert cancels(task.simulator) == 0


def test_runs_that_were_created_elsewhere_are_not_taken_for_gone(task: BulkTask, terminal: Terminal) -> None:
    _, going, ended = _killed(task)
    head = json.loads(task.folder.read("head.json"))
    head["account"] = {"address": "https://elsewhere.example/v1", "key": ""}
    task.folder.write(json.dumps(head).encode(), "head.json")
    task.simulator.reset()
    status, found = terminal.json("stop", "--path", task.folder.uri, "--yes")
    assert status == 1
    assert {left["id"] for left in found["left"]} == {going.id, ended.id}
    assert "it led to https://elsewhere.example/v1, and leads to" in str(found["left"])
    assert found["counts"]["active"] == 2
