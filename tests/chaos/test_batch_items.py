# SPDX-License-Identifier: Apache-2.0
"""What chaos counts of a task by batches: its batches at the simulator, and its results in the folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dev.chaos.batch_items import results_are_wrong, verdicts_of
from dev.chaos.batch_rows import ITEMS
from dev.chaos.verdict import History, Run

ENDED_AT = 1_000.0


def batch(number: int) -> Run:
    """Be a batch of half of the items that has ended."""
    return Run(f"batch_{number}", "completed", 10.0, 15.0, token=f"t/batch.{number}", executed=ITEMS // 2)


def line(item: int, state: str = "succeeded", *, of: int | None = None) -> dict[str, Any]:
    """Be a line of the results."""
    text = f"About trial item {item if of is None else of}: yes"
    return {"row": item, "state": state, "result": {"output_text": text}}


LINES = [line(item) for item in range(ITEMS)]


def task(tmp_path: Path, batches: list[Run], lines: list[dict[str, Any]], *, log: str = "") -> Any:
    """Be a trial that has ended with these batches and results."""
    folder = tmp_path / "batch" / "trial" / "out" / "0"
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "1.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    counts = {"succeeded": sum(one["state"] == "succeeded" for one in lines), "lost": 0}
    (folder / "manifest.json").write_text(json.dumps({"parts": ["results/1.jsonl"], "counts": counts}))
    return SimpleNamespace(
        name="trial",
        cluster=SimpleNamespace(folder=tmp_path),
        state="success",
        runs=batches,
        log=lambda: log,
        history=History(ended_at=ENDED_AT),
    )


def test_a_task_with_one_result_for_each_item_is_right(tmp_path: Path) -> None:
    trial = task(tmp_path, [batch(0), batch(1)], LINES)
    assert results_are_wrong(trial) is None
    assert not any(verdicts_of(trial, ENDED_AT + 100).values())


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (LINES[1:], f"{ITEMS - 1} of {ITEMS} items"),
        ([*LINES, LINES[0]], "doubled"),
        ([line(0, of=1), *LINES[1:]], r"other items: \[0\]"),
        ([line(0, "failed"), *LINES[1:]], "not each item"),
    ],
)
def test_a_result_that_is_lost_doubled_or_anothers_is_named(
    tmp_path: Path, lines: list[dict[str, Any]], said: str
) -> None:
    wrong = results_are_wrong(task(tmp_path, [batch(0), batch(1)], lines))
    assert wrong is not None
    assert re.search(said, wrong)


def test_what_was_executed_and_is_not_kept_is_named(tmp_path: Path) -> None:
    wrong = results_are_wrong(task(tmp_path, [batch(0), batch(1), batch(2)], LINES))
    assert wrong == f"{ITEMS * 3 // 2} items were executed with success, and {ITEMS} are kept"


def test_a_batch_that_was_created_twice_and_what_it_executed_twice_are_named(tmp_path: Path) -> None:
    trial = task(tmp_path, [batch(0), batch(1), batch(1)], LINES)
    assert len(verdicts_of(trial, ENDED_AT + 100)["duplicates"]) == 2


@pytest.mark.parametrize(("log", "orphans"), [("", 1), ("Not collected: batch_1 (input file_1)", 0)])
def test_a_batch_that_goes_on_is_an_orphan_unless_the_log_names_it(
    tmp_path: Path, log: str, orphans: int
) -> None:
    going = Run("batch_1", "in_progress", 10.0, None, token="t/batch.1")
    trial = task(tmp_path, [batch(0), going], LINES, log=log)
    assert len(verdicts_of(trial, ENDED_AT + 100)["orphans"]) == orphans


def test_a_task_that_was_marked_names_what_nobody_has_collected(tmp_path: Path) -> None:
    trial = task(tmp_path, [batch(0), batch(1)], [], log="Not collected: batch_0 (input file_0)")
    next(tmp_path.rglob("manifest.json")).unlink()
    trial.state = "failed"
    assert results_are_wrong(trial) == "neither collected nor named: ['batch_1']"
