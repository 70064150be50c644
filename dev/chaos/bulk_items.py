# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a bulk task, counted item by item: at the simulator, and in what the task wrote."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from dev.chaos.bulk_rows import OPTIONS, folder_of
from dev.chaos.trial import Trial
from dev.chaos.verdict import Run, duplicates, orphans, wrongly_cancelled


def verdicts_of(trial: Trial, now: float) -> dict[str, list[str]]:
    """Name what was created twice, goes on without being named, or was wrongly cancelled."""
    runs = defaultdict(list)
    for run in trial.runs:
        runs[run.item].append(run)
    tokens = {line.get("token") for line in _failed(trial)}
    return {
        "duplicates": [
            f"item {item}: {line}" for item, of in runs.items() for line in duplicates(trial.history, of)
        ],
        "orphans": orphans(trial.history, [run for run in trial.runs if run.token not in tokens], now),
        "wrongly cancelled": wrongly_cancelled(trial.history, trial.runs),
    }


def results_are_wrong(trial: Trial) -> str | None:
    """Say what is wrong with the results of a task that came to its end."""
    if trial.state != "success":
        return None
    if (folder := _generation(trial)) is None:
        return "no manifest"
    manifest = json.loads((folder / "manifest.json").read_text())
    lines = [
        json.loads(line) for part in manifest["parts"] for line in (folder / part).read_text().splitlines()
    ]
    rows = Counter(line["row"] for line in lines)
    wanted = len(trial.conf["items"])
    if set(rows) != set(range(wanted)) or max(rows.values()) > 1:
        return f"{len(rows)} of {wanted} items have a result, {len(lines) - len(rows)} of them are doubled"
    lost = [line["row"] for line in lines if line["state"] == "lost"]
    if len(lost) > OPTIONS["max_unrecorded"]:
        return f"{len(lost)} lost creates, more than {OPTIONS['max_unrecorded']}"
    named = {line["row"] for line in _failed(trial) if line.get("token")}
    if unnamed := sorted(set(lost) - named):
        return f"lost creates without a token in failed.jsonl: {unnamed}"
    if manifest["counts"]["succeeded"] + len(lost) != wanted:
        return f"not each item is a success, or lost: {manifest['counts']}"
    return _other_runs_than(trial, [line for line in lines if line["state"] == "succeeded"])


def _other_runs_than(trial: Trial, lines: list[dict[str, Any]]) -> str | None:
    """Say which results are not those of the item's run."""
    completed: dict[str | None, list[Run]] = defaultdict(list)
    for run in trial.runs:
        if run.status == "completed":
            completed[run.item].append(run)
    wrong = [
        line["row"]
        for line in lines
        if (line.get("result") or {}).get("id") not in {run.id for run in completed[str(line["row"])]}
    ]
    return f"results of other runs than the item's: {wrong}" if wrong else None


def _failed(trial: Trial) -> list[dict[str, Any]]:
    files = folder_of(trial).rglob("failed.jsonl")
    return [json.loads(line)["_failure"] for path in files for line in path.read_text().splitlines()]


def _generation(trial: Trial) -> Path | None:
    found = sorted(folder_of(trial).rglob("manifest.json"), key=lambda path: int(path.parent.name))
    return found[-1].parent if found else None
