# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.bulk.events import Created, Intended, NewRun, PartWritten
from airflow_provider_openai_runs.bulk.inputs import open_input
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.manifest import FATES, conclude
from airflow_provider_openai_runs.bulk.parts import Outcome, Parts
from airflow_provider_openai_runs.bulk.storage import MANIFEST, RESULTS, StorageFolder

LOG: Any = logging.getLogger(__name__)
TI = SimpleNamespace(dag_id="a_dag", run_id="r", task_id="ask", map_index=-1)


@pytest.fixture
def folder(tmp_path: Path) -> StorageFolder:
    return StorageFolder.of_task(str(tmp_path), ti=TI, generation=0, log=LOG)


def _finished(folder: StorageFolder, *outcomes: Outcome, writer: str = "ti-1") -> PartWritten:
    parts = Parts(writer=writer)
    for outcome in outcomes:
        parts.add(outcome, now=0)
    part = parts.close()
    folder.write(part.content, RESULTS, part.written.name)
    return part.written


def _succeeded(row: int, **result: Any) -> Outcome:
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    return Outcome(
        row=row, state=ItemState.SUCCEEDED, result={"output_text": "yes", "usage": usage, **result}
    )


def test_results_are_read_as_the_manifest_names_them_and_nothing_else(folder: StorageFolder) -> None:
    failed = Outcome(row=1, custom_id="b", state=ItemState.FAILED, error="It failed.")
    items = Items.of([_finished(folder, _succeeded(0, output_text="a"), failed)])
    _finished(folder, _succeeded(0, output_text="not committed"), writer="ti-2")
    source = open_input(items=["x", {"custom_id": "b", "input": "y"}], log=LOG)
    manifest = conclude(folder, source, items, seconds=1.5)
    assert {fate: count for fate, count in manifest.counts.items() if count} == {"succeeded": 1, "failed": 1}
    assert manifest.spent["usage"] == {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    path = folder.uri_of(MANIFEST)
    [found] = read_results({"manifest": path})
    assert (found["row"], found["custom_id"], found["output_text"]) == (0, None, "a")
    [_, other] = read_results(path, failed=True)
    assert other == {"row": 1, "custom_id": "b", "state": "failed", "error": "It failed."}


def test_every_item_is_in_one_count_and_all_but_the_good_are_an_input_again(
    folder: StorageFolder, tmp_path: Path
) -> None:
    path = tmp_path / "failed before.jsonl"
    lines: list[Mapping[str, Any]] = [{"input": str(number)} for number in range(5)]
    lost = {"_failure": {"row": 9, "error": "?", "token": "t/0"}}
    path.write_text("\n".join(map(json.dumps, [*lines, {"input": "lost", **lost}])))
    source = open_input(input_path=str(path), log=LOG)
    assert [row.number for row in source.rows()] == [0, 1, 2, 3, 4]
    written = _finished(
        folder,
        _succeeded(0),
        Outcome(row=1, state=ItemState.FAILED, error="It failed."),
        Outcome(row=2, state=ItemState.LOST, error="No answer.", token="t/1"),
    )
    active = Created(runs=(NewRun(row=3, id="resp_3", created_at=0.0),))
    items = Items.of([written, Intended(rows=(3,)), active])
    manifest = conclude(folder, source, items, seconds=0, stopped="killed")
    assert manifest.counts == dict.fromkeys(FATES, 1)
    assert manifest.failed is not None
    again = open_input(input_path=folder.uri_of(manifest.failed), log=LOG)
    assert [row.values for row in again.rows()] == [{"input": "1"}, {"input": "4"}]
    resubmitted = open_input(input_path=folder.uri_of(manifest.failed), on_lost_create="resubmit", log=LOG)
    assert [row.values for row in resubmitted.rows()] == [
        {"input": text} for text in ("1", "2", "3", "4", "lost")
    ]


def test_a_table_that_cannot_be_written_is_a_warning_and_the_manifest_is_there(
    folder: StorageFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise UnicodeError("surrogates not allowed")

    monkeypatch.setattr("airflow_provider_openai_runs.bulk.table.is_possible", lambda: True)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.table.write", fail)
    items = Items.of([_finished(folder, _succeeded(0))])
    manifest = conclude(folder, open_input(items=["x"], log=LOG), items, seconds=0)
    assert (manifest.parquet, manifest.counts["succeeded"]) == (None, 1)
    assert "There is no results.parquet" in caplog.text
    assert len([*read_results(folder.uri_of(MANIFEST))]) == 1
