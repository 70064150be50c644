# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a bulk task by batches, counted: at the simulator, and in what the task wrote."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable

from dev.chaos.batch_rows import ITEMS, folder_of
from dev.chaos.trial import Trial
from dev.chaos.verdict import Run, orphans, wrongly_cancelled


def verdicts_of(trial: Trial, now: float) -> dict[str, list[str]]:
    """Name what was created or executed twice, goes on without being named, or was wrongly cancelled."""
    log = trial.log()
    return {
        "duplicates": [*_twice(trial.runs), *_executed_twice(trial)],
        "orphans": orphans(trial.history, [batch for batch in trial.runs if batch.id not in log], now),
        "wrongly cancelled": wrongly_cancelled(trial.history, trial.runs),
    }


def results_are_wrong(trial: Trial) -> str | None:
    """Say what is wrong with the results of a task that came to its end, or was ended by its window."""
    manifests = [*folder_of(trial).rglob("manifest.json")]
    if not manifests:
        return "no manifest" if trial.state == "success" else _unnamed(trial)
    folder = max(manifests, key=lambda path: int(path.parent.name)).parent
    manifest = json.loads((folder / "manifest.json").read_text())
    lines = [
        json.loads(line) for part in manifest["parts"] for line in (folder / part).read_text().splitlines()
    ]
    rows = Counter(line["row"] for line in lines)
    if set(rows) != set(range(ITEMS)) or max(rows.values()) > 1:
        return f"{len(rows)} of {ITEMS} items have a result, {len(lines) - len(rows)} of them are doubled"
    if manifest["counts"]["lost"] or (trial.state == "success" and manifest["counts"]["succeeded"] != ITEMS):
        return f"not each item is a success: {manifest['counts']}"
    last = max(trial.history.generation(batch.created_at) for batch in trial.runs)
    of_last = [batch for batch in trial.runs if trial.history.generation(batch.created_at) == last]
    executed = sum(batch.executed for batch in of_last)
    if executed != (kept := manifest["counts"]["succeeded"]):
        return f"{executed} items were executed with success, and {kept} are kept"
    texts = {line["row"]: line["result"]["output_text"] for line in lines if line["state"] == "succeeded"}
    wrong = [row for row, text in texts.items() if not re.search(rf"{trial.name} item {row}\b", text)]
    return f"results of other items: {wrong}" if wrong else None


def _unnamed(trial: Trial) -> str | None:
    """Say which batches were not collected, and are not named."""
    log = trial.log()
    unnamed = [batch.id for batch in trial.runs if batch.id not in log]
    return f"neither collected nor named: {unnamed}" if unnamed else None


def _twice(batches: Iterable[Run]) -> list[str]:
    """Name the tokens by which two batches were created."""
    found = Counter(batch.token for batch in batches)
    return [f"{count} batches have the token {token}" for token, count in found.items() if count > 1]


def _executed_twice(trial: Trial) -> list[str]:
    executed: Counter[int] = Counter()
    for batch in trial.runs:
        executed[trial.history.generation(batch.created_at)] += batch.executed
    return [f"{count} items were executed, of {ITEMS}" for count in executed.values() if count > ITEMS]
