# SPDX-License-Identifier: Apache-2.0
"""Ways in which a task by batches ends before its items do: its batches are ended, left or named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_openai_runs.exceptions import RunRequestError
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import BatchScenario
from tests.operators import test_bulk_by_batch
from tests.operators.test_bulk_by_batch import _batches, _results
from tests.support.scene import Scene

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = test_bulk_by_batch.bulk


def _is_gone(path: Path, _task: Any) -> str:
    path.unlink()
    return "there is no such file"


def _has_changed(path: Path, _task: Any) -> str:
    path.write_text('"a"\n"c"\n')
    return "The input has changed"


def _is_wrong(_path: Path, task: Any) -> str:
    task.completion_window = "soon"  # as a template may be rendered
    return "completion_window"


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("what", [_is_gone, _has_changed, _is_wrong])
def test_an_attempt_that_cannot_begin_leaves_the_batches_to_one_that_can(
    scene: Scene, bulk: Bulk, tmp_path: Path, what: Callable[[Path, Any], str], is_last: bool
) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('"a"\n"b"\n')
    written, given = path.read_bytes(), {"input_path": str(path)}
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    with pytest.raises(TaskDeferred):
        bulk(deferrable=True, **given).execute(scene.kept)
    again = bulk(**given)
    said = what(path, again)
    context = scene.retry(scene.kept, **({"try_number": 3} if is_last else {}))
    with pytest.raises(RunRequestError, match=f"{said}.*batch_.*stop --path") as raised:
        again.execute(context)

    (batch,) = _batches(scene)
    assert (batch["status"] in {"cancelling", "cancelled"}) == is_last
    assert is_last or not isinstance(raised.value, AirflowFailException)
    if not is_last:
        path.write_bytes(written)
        scene.simulator.advance(700)
        assert len(_results(scene.run(bulk(**given), scene.retry(context)))) == 2
        assert len(_batches(scene)) == 1
