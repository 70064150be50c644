# SPDX-License-Identifier: Apache-2.0
"""Bulk operators on the simulator, and what becomes of their runs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.bulk.driver import BulkDriver
from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
)
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Scene
from tests.support.waiting import until

Bulk = Callable[..., BulkCreateResponsesOperator]
#: A completion_window that is over in any retry.
LONG_OVER = 0.1


@pytest.fixture
def bulk(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bulk:
    """Make a bulk operator; it commits, polls and tries again often, so that tests are quick."""
    _ = scene.store  # skips below Airflow 3.3
    module = "airflow_provider_openai_runs.bulk"
    monkeypatch.setattr(f"{module}.dispatcher.COMMIT_EVERY", 0.05)
    monkeypatch.setattr(f"{module}.parts.MAX_SECONDS", 0.05)
    monkeypatch.setattr(f"{module}.wanted_rows.PASS_EVERY", 0.05)
    monkeypatch.setattr(f"{module}.preparing.SEND_WITHIN", 0.1)  # nobody sends any more
    monkeypatch.setattr(f"{module}.one_at_a_time.PAUSE_AFTER_FAILURE", 0.1)
    monkeypatch.setattr(f"{module}.many_runs._TICK", 0.05)
    monkeypatch.setattr(f"{module}.rate_limit._PAUSES", (0.1, 60.0))
    monkeypatch.setitem(BulkDriver.__init__.__kwdefaults__, "tick", 0.01)  # type: ignore[arg-type]

    def make(**arguments: Any) -> BulkCreateResponsesOperator:
        given = {
            "task_id": "ask",
            "model": "gpt-4o-mini",
            "items": [f"Question {number}" for number in range(20)],
            "output_path": str(tmp_path / "out"),
            "poll_interval": 0.05,
            "deferrable": False,
        }
        if "input_path" in arguments:
            del given["items"]
        return BulkCreateResponsesOperator(**{**given, **arguments})

    return make


def quick(scene: Scene, **script: Any) -> None:
    scene.simulator.script(Scenario(**{"queued": 0, "in_progress": 0.1, "times": None, **script}))


def failing(scene: Scene, when: str, *, code: str, times: int | None = None) -> None:
    error = {"code": code, "message": "Oh."}
    scene.simulator.script(
        Scenario(queued=0, in_progress=0, when=when, times=times, ends="failed", error=error)
    )


def results(result: Any) -> dict[int, str]:
    found = [(item["row"], item["output_text"]) for item in read_results(result)]
    assert len(found) == len(dict(found)), "an item has two results"
    return dict(found)


def asked(scene: Scene) -> Counter[str]:
    return Counter(
        request.body["input"] for request in scene.simulator.requests if request.path == "/responses"
    )


class Resumed:
    """A task that a worker resumes with an event; ``Scene.run`` goes on from there."""

    def __init__(self, task: BulkCreateResponsesOperator, event: Any) -> None:
        self._task = task
        self._event = event

    def execute(self, context: Any) -> Any:
        return self._task.execute_complete(context, self._event)

    def resume_execution(self, *arguments: Any) -> Any:
        return self._task.resume_execution(*arguments)


def when(holds: Callable[[], object], then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as something is the case."""

    def wait() -> None:
        until(holds)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def when_created(scene: Scene, number: int, then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as so many runs are in the journal."""

    def is_written() -> bool:
        value = scene.store.values.get("openai_bulk")
        return bool(scene.creates() >= number and value and value["writers"][-1][1] >= 2)

    return when(is_written, then)


def left_going(scene: Scene, task: BulkCreateResponsesOperator) -> None:
    """Let the worker of a task of two items go away while their runs go on."""
    killer = when_created(scene, 2, task.on_kill)
    with pytest.raises(OpenAIRunError, match="2 runs may be running"):
        task.execute(scene.kept)
    killer.join()
    assert len(active(scene)) == 2


def active(scene: Scene) -> list[str]:
    return [run["id"] for run in scene.simulator.active()]
