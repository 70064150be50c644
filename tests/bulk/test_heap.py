# SPDX-License-Identifier: Apache-2.0
"""What a worker has imported is not searched for garbage while its bulk task runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import heap
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from tests.support import bulk_operators
from tests.support.scene import Scene

bulk = bulk_operators.bulk


@pytest.fixture(autouse=True)
def nothing_is_frozen() -> Iterator[None]:
    """Begin as a process in which nobody has frozen anything; what was goes back, as it makes tests quick."""
    was_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    yield
    gc.unfreeze()
    if was_frozen:
        gc.freeze()


def test_a_bulk_task_sets_aside_what_there_was_and_takes_it_back(scene: Scene, bulk: Any) -> None:
    frozen: list[int] = []

    def request(row: Any) -> Any:
        frozen.append(gc.get_freeze_count())
        return row

    task: BulkCreateResponsesOperator = bulk(items=["Why?"], request=request)
    scene.run(task, scene.kept)
    assert frozen[0] > 0
    assert gc.get_freeze_count() == 0


def test_it_is_taken_back_after_an_error() -> None:
    with pytest.raises(KeyError), heap.set_aside():
        raise KeyError
    assert gc.get_freeze_count() == 0


def test_what_an_executor_has_frozen_stays_so() -> None:
    gc.freeze()
    with heap.set_aside():
        pass
    assert gc.get_freeze_count() > 0
