# SPDX-License-Identifier: Apache-2.0
"""``stop --path`` for a task by batches: they are ended, what they have executed is kept."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.bulk.batch.lines import to_line
from airflow_provider_openai_runs.bulk.batch.requests import BatchRequests
from airflow_provider_openai_runs.bulk.events import (
    BatchCreated,
    BatchIntended,
)
from airflow_provider_openai_runs.bulk.head import TaskHead, begin
from airflow_provider_openai_runs.bulk.inputs import open_input
from airflow_provider_openai_runs.bulk.journal_lines import to_lines
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.bulk.storage import JOURNAL, StorageFolder
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.simulator import BatchScenario, Fault, Simulator
from airflow_provider_openai_runs.storage import OutputStore
from airflow_provider_openai_runs.wire.batches import Batch
from tests.cli.conftest import FakeAirflow, Terminal
from tests.support.airflow_versions import needs_store

pytestmark = needs_store

LOG: Any = logging.getLogger(__name__)
ROWS = 4
Leave = Callable[..., StorageFolder]


@pytest.fixture
def leave(
    tmp_path: Path,
    terminal: Terminal,
    openai_runs_simulator: Simulator,
    airflow: FakeAirflow,
    monkeypatch: pytest.MonkeyPatch,
) -> Leave:
    """Leave the folder of a task whose worker was killed after it had created a batch."""
    del terminal
    monkeypatch.setattr("airflow_provider_openai_runs.cli.batches._PAUSE", 0.2)

    def make(
        *, is_created: bool = True, is_known: bool = True, at: float = 0.0, **script: Any
    ) -> StorageFolder:
        openai_runs_simulator.script_batches(BatchScenario(**script))
        (tmp_path / "in.jsonl").write_text("".join(f'"text {row}"\n' for row in range(ROWS)))
        source = open_input(input_path=str(tmp_path / "in.jsonl"), log=LOG)
        folder = StorageFolder(OutputStore(str(tmp_path), log=LOG), "nightly", "manual__2026", "ask", "0")
        names = {"dag_id": "nightly", "run_id": "manual__2026", "task_id": "ask", "map_index": -1}
        head = TaskHead(
            conn_id="openai_default",
            input=source.head,
            began_at=0.0,
            fingerprint={},
            task=names,
            token_prefix="abc/",
        )
        begin(folder, head)
        requests = BatchRequests(runner=OpenAIRunsHook())
        (tmp_path / "up").write_bytes(
            b"".join(to_line(row, {"model": "m", "input": f"text {row}"}) for row in range(ROWS))
        )
        file_id = requests.uploaded(tmp_path / "up", "a.jsonl", since=0.0)
        batch = SentBatch(token="abc/batch.0", file_id=file_id, rows=((0, ROWS - 1),), at=at)
        intended = BatchIntended(batch=batch, custom_ids={1: "one"})
        folder.write(to_lines([intended]), JOURNAL, "019ac000", "000001.jsonl")
        if is_created:
            created = requests.create(batch, leave_by=1e12)
            assert isinstance(created, Batch)
            if is_known:
                lines = to_lines([BatchCreated(token=batch.token, id=created.id)])
                folder.write(lines, JOURNAL, "019ac000", "000002.jsonl")
        airflow.add("ask", "failed")
        return folder

    return make


def _counts(found: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in found["counts"].items() if count}


def test_without_yes_batches_are_named_with_their_files(leave: Leave, terminal: Terminal) -> None:
    status, text = terminal("stop", "--path", leave(in_progress=600).uri)
    assert status == 0
    assert "would cancel batch_" in text
    assert "of 4 items (input file-" in text


@pytest.mark.parametrize("is_known", [True, False])
def test_a_batch_that_goes_is_ended_and_what_it_has_executed_is_kept(
    leave: Leave, terminal: Terminal, openai_runs_simulator: Simulator, *, is_known: bool
) -> None:
    folder = leave(in_progress=2400, cancelling=0.5, is_known=is_known)
    openai_runs_simulator.advance(300)
    status, found = terminal.json("stop", "--path", folder.uri, "--yes")
    assert (status, found["stopped"], found["left"], found["lost"]) == (0, 1, [], {})
    assert _counts(found) == {"succeeded": 1, "failed": 3} or _counts(found) == {"succeeded": 2, "failed": 2}
    assert {item["output_text"] is not None for item in read_results(found["manifest"])} == {True}
    errors = [item["error"] for item in read_results(found["manifest"], failed=True) if item["error"]]
    assert set(errors) == {"It was not executed before its batch was cancelled by stop --path."}


def test_a_batch_that_has_ended_is_collected_and_a_second_stop_lists_the_same(
    leave: Leave, terminal: Terminal, openai_runs_simulator: Simulator
) -> None:
    folder = leave()
    openai_runs_simulator.advance(60)
    for stopped in (1, 0):
        status, found = terminal.json("stop", "--path", folder.uri, "--yes")
        assert (status, found["stopped"], _counts(found)) == (0, stopped, {"succeeded": ROWS})
    assert sorted(item["row"] for item in read_results(found["manifest"])) == [*range(ROWS)]
    assert {item["custom_id"] for item in read_results(found["manifest"])} == {None, "one"}


def test_a_batch_that_was_never_created_leaves_its_items_as_not_created(
    leave: Leave, terminal: Terminal
) -> None:
    status, found = terminal.json("stop", "--path", leave(is_created=False).uri, "--yes")
    assert (status, _counts(found)) == (0, {"not_created": ROWS})


def test_a_batch_whose_create_may_be_under_way_is_no_batch_that_was_never_created(
    leave: Leave, terminal: Terminal
) -> None:
    folder = leave(is_created=False, at=time.time() - 700)
    status, found = terminal.json("stop", "--path", folder.uri, "--yes")
    assert (status, len(found["left"]), _counts(found)) == (1, 1, {"active": ROWS})
    assert "may be under way: stop it again after 20" in str(found["left"])


def test_a_batch_that_nobody_can_ask_for_is_named_and_its_items_may_be_going(
    leave: Leave, terminal: Terminal, openai_runs_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.cli.batches.BATCH_CANCEL_WAIT", 0.5)
    folder = leave(in_progress=600)
    openai_runs_simulator.fault(Fault(path="/batches/", status=500, times=None))
    status, found = terminal.json("stop", "--path", folder.uri, "--yes")
    assert (status, len(found["left"]), _counts(found)) == (1, 1, {"active": ROWS})
    failed = open_input(input_path=folder.uri_of("failed.jsonl"), log=LOG)
    assert [*failed.rows()] == []


@pytest.mark.parametrize("is_known", [True, False])
def test_a_batch_that_was_created_elsewhere_is_not_taken_for_gone(
    leave: Leave, terminal: Terminal, openai_runs_simulator: Simulator, *, is_known: bool
) -> None:
    folder = leave(is_known=is_known)
    head = json.loads(folder.read("head.json"))
    head["account"] = {"address": "https://elsewhere.example/v1", "key": ""}
    folder.write(json.dumps(head).encode(), "head.json")
    openai_runs_simulator.reset()
    status, found = terminal.json("stop", "--path", folder.uri, "--yes")
    assert (status, len(found["left"]), _counts(found)) == (1, 1, {"active": ROWS})
    assert "it led to https://elsewhere.example/v1, and leads to" in str(found["left"])
