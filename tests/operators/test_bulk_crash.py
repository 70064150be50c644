# SPDX-License-Identifier: Apache-2.0
"""The worker of a bulk task is killed by SIGKILL; the retry pays for nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import Scenario
from tests.operators.bulk_child import FileStore
from tests.support.scene import Scene

if TYPE_CHECKING:
    import pytest

ROWS = 30
MAX_UNRECORDED = 10
KILLED_AFTER = 12


def test_a_retry_after_sigkill_has_every_result_once_and_pays_for_nothing_twice(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = scene.store  # skips below Airflow 3.3
    scene.simulator.script(Scenario(queued=0, in_progress=4, times=None))
    given: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "items": [f"Question {number}" for number in range(ROWS)],
        "output_path": str(tmp_path / "out"),
        "poll_interval": 0.2,
        "max_unrecorded": MAX_UNRECORDED,
        "completion_window": 120,
        "deferrable": False,
    }
    arguments, store = tmp_path / "arguments.json", tmp_path / "store.json"
    arguments.write_text(json.dumps(given))
    root = Path(__file__).parents[2]
    environment = {**os.environ, "ROOT": str(root), "PYTHONPATH": str(root)}
    command = [sys.executable, str(Path(__file__).with_name("bulk_child.py")), str(store), str(arguments)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as worker:  # noqa: S603 - our own
        try:
            ends = time.monotonic() + 100
            while scene.creates() < KILLED_AFTER:
                assert worker.poll() is None, "it has ended by itself"
                assert time.monotonic() < ends
                time.sleep(0.01)
        finally:
            worker.kill()
    before = scene.creates()
    for name, seconds in {"dispatcher.COMMIT_EVERY": 0.05, "parts.MAX_SECONDS": 0.05}.items():
        monkeypatch.setattr(f"airflow_provider_openai_runs.bulk.{name}", seconds)
    context = scene.retry(scene.context_of(None, id="ti-0")) | {"task_state_store": FileStore(store)}
    result = BulkCreateResponsesOperator(task_id="ask", **given).execute(context)
    asked = Counter(
        item.body["input"]
        for item in scene.simulator.requests
        if item.path == "/responses" and item.body is not None  # else it was cut off with the worker
    )
    assert before >= KILLED_AFTER
    assert result["succeeded"] + result["lost"] == ROWS
    assert result["lost"] <= MAX_UNRECORDED
    rows = Counter(item["row"] for item in read_results(result, failed=True))
    assert rows == Counter(range(ROWS)), "a result is lost, or there twice"
    assert max(asked.values()) == 1, "an item was paid for twice"
    lost = [item for item in read_results(result, failed=True) if item["state"] == "lost"]
    named = {item["row"] for item in lost}
    found = {item["id"] for item in read_results(result)}
    orphans = [run for run in scene.simulator.runs() if run["id"] not in found]
    assert len(orphans) <= len(named), "a run belongs to nobody"
