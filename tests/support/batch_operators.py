# SPDX-License-Identifier: Apache-2.0
"""Bulk operators by batch on the simulator, and what becomes of their batches."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import BatchScenario
from tests.support.scene import Scene

Bulk = Callable[..., BulkCreateResponsesOperator]
ROWS = 20


@pytest.fixture
def bulk(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bulk:
    """Make a bulk operator by batches; what waits for a server waits shortly."""
    _ = scene.store  # skips below Airflow 3.3
    attempt = "airflow_provider_openai_runs.bulk.batch.attempt"
    lost = "airflow_provider_openai_runs.bulk.batch.lost_create"
    monkeypatch.setattr(f"{lost}.BATCH_CREATE_SECONDS", 0.3)
    monkeypatch.setattr(f"{lost}.SEARCH_SECONDS", 0.3)
    monkeypatch.setattr(f"{attempt}.SEARCH_PAUSE", 0.1)
    monkeypatch.setattr(f"{attempt}.BATCH_MISSING_SECONDS", 0.3)
    monkeypatch.setattr(f"{attempt}.REFUSED_PAUSE", 0.1)
    for module in (attempt, "airflow_provider_openai_runs.bulk.batch.cancels"):
        monkeypatch.setattr(f"{module}.BATCH_POLL_BOUNDS", (0.1, 60.0))
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.queue.REFUSED_PAUSE", 0.1)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.queue.FULL_QUEUE_PAUSE", 0.2)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.many._TICK", 0.05)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.preparing.SEND_WITHIN", 0.1)
    unplanned = partial(BatchScenario, validating=0.05, in_progress=0.05, finalizing=0.05, cancelling=0.1)
    monkeypatch.setattr("airflow_provider_openai_runs.simulator.batches.BatchScenario", unplanned)

    def make(**arguments: Any) -> BulkCreateResponsesOperator:
        given = {
            "task_id": "ask",
            "model": "gpt-4o-mini",
            "processing": "batch",
            "items": [f"Question {number}" for number in range(ROWS)],
            "output_path": str(tmp_path / "out"),
            "poll_interval": 0.05,
            "deferrable": False,
        }
        if "input_path" in arguments:
            del given["items"]
        return BulkCreateResponsesOperator(**{**given, **arguments})

    return make


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch have eight items at most."""
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.building.MAX_ROWS", 8)


def results(result: Any) -> dict[int, str]:
    found = [(item["row"], item["output_text"]) for item in read_results(result)]
    assert len(found) == len(dict(found)), "an item has two results"
    return dict(found)


def errors(result: Any) -> dict[int, str]:
    found = read_results(result, failed=True)
    return {item["row"]: item["error"] for item in found if item["state"] != "succeeded"}


def batches(scene: Scene) -> list[dict[str, Any]]:
    return [entry for entry in scene.simulator.runs() if entry["kind"] == "batch"]


def asked(scene: Scene) -> Counter[str]:
    """Count how often each item was executed by some batch."""
    return Counter(
        item.custom_id
        for batch in scene.simulator._store.batches.values()
        for item in batch.items[: batch.finished(scene.simulator._store.clock.now())]
    )


def uploads(scene: Scene) -> int:
    return scene.simulator.count("POST", "/files")


def xcom(context: Any) -> Any:
    return context["ti"].xcoms["return_value"]


class Killed(BaseException):
    """The worker is gone."""


def die_at(monkeypatch: pytest.MonkeyPatch, place: str, *, before: bool) -> None:
    """Let the worker be gone at the first call of a method."""
    module, _, name = place.rpartition(".")
    owner_module, _, owner_name = module.rpartition(".")
    owner = getattr(__import__(owner_module, fromlist=[owner_name]), owner_name)
    method = getattr(owner, name)
    is_first = iter([True])

    def dying(*arguments: Any, **more: Any) -> Any:
        if not next(is_first, False):
            return method(*arguments, **more)
        if not before:
            method(*arguments, **more)
        raise Killed

    monkeypatch.setattr(owner, name, dying)
    # kill -9 lets nothing be ended.
    ending = "airflow_provider_openai_runs.bulk.batch.ending.BatchEnding.end"
    monkeypatch.setattr(ending, lambda *_, **__: None)


def when_batched(scene: Scene, then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the journal knows of a batch."""

    def wait() -> None:
        while not (scene.store.values.get("openai_bulk") or {}).get("writers", [["", 0]])[-1][1] >= 2:
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
