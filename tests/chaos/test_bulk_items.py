# SPDX-License-Identifier: Apache-2.0
"""What chaos counts of a bulk task: each item's runs at the simulator, and its results in the folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dev.chaos.bulk_items import results_are_wrong, verdicts_of
from dev.chaos.verdict import History, Run

ENDED_AT = 1_000.0


def completed(item: int, *, created_at: float = 10.0, token: str = "") -> Run:
    return Run(f"resp_{item}", "completed", created_at, created_at + 5, item=str(item), token=token)


def active(item: int, token: str) -> Run:
    return Run(f"resp_{item}", "in_progress", 10.0, None, item=str(item), token=token)


def line(item: int, state: str = "succeeded") -> dict[str, Any]:
    return {"row": item, "state": state, "result": {"id": f"resp_{item}"}}


def task(
    tmp_path: Path, runs: list[Run], lines: list[dict[str, Any]], *, items: int, failed: str = ""
) -> Any:
    """Be a trial that has ended with these runs and results."""
    folder = tmp_path / "bulk" / "trial" / "out" / "0"
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "1.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (folder / "failed.jsonl").write_text(failed)
    succeeded = sum(one["state"] == "succeeded" for one in lines)
    manifest = {"parts": ["results/1.jsonl"], "counts": {"succeeded": succeeded}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return SimpleNamespace(
        name="trial",
        cluster=SimpleNamespace(folder=tmp_path),
        state="success",
        runs=runs,
        conf={"items": [""] * items},
        history=History(ended_at=ENDED_AT),
    )


def test_a_task_with_one_result_for_each_item_is_right(tmp_path: Path) -> None:
    trial = task(tmp_path, [completed(0), completed(1)], [line(0), line(1)], items=2)
    assert results_are_wrong(trial) is None
    assert not any(verdicts_of(trial, ENDED_AT + 100).values())


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line(0)], "1 of 2 items"),
        ([line(0), line(1), line(1)], "doubled"),
        ([line(0), {**line(1), "result": {"id": "resp_0"}}], r"other runs than the item's: \[1\]"),
        ([line(0), line(1, "failed")], "not each item"),
        ([line(0), line(1, "lost")], r"without a token in failed.jsonl: \[1\]"),
    ],
)
def test_a_result_that_is_lost_doubled_or_anothers_is_named(
    tmp_path: Path, lines: list[dict[str, Any]], said: str
) -> None:
    wrong = results_are_wrong(task(tmp_path, [completed(0), completed(1)], lines, items=2))
    assert wrong is not None
    assert re.search(said, wrong)


def test_an_item_that_was_paid_for_twice_is_named(tmp_path: Path) -> None:
    twice = [completed(0), Run("resp_again", "completed", 20.0, 25.0, item="0")]
    found = verdicts_of(task(tmp_path, twice, [line(0)], items=1), ENDED_AT + 100)
    assert len(found["duplicates"]) == 1


def test_a_run_that_goes_on_is_an_orphan_unless_failed_jsonl_has_its_token(tmp_path: Path) -> None:
    runs = [active(0, "t/0.0"), active(1, "t/1.0")]
    failed = json.dumps({"_failure": {"row": 0, "token": "t/0.0"}}) + "\n"
    trial = task(tmp_path, runs, [line(0, "lost"), line(1)], items=2, failed=failed)
    (found,) = verdicts_of(trial, ENDED_AT + 100)["orphans"]
    assert found.startswith("resp_1 ")
