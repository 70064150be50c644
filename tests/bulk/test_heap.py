# SPDX-License-Identifier: Apache-2.0
"""What a worker has imported is not searched for garbage while its bulk task runs."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import heap
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from tests.support import bulk_operators
from tests.support.scene import Scene

bulk = bulk_operators.bulk


pytestmark = pytest.mark.usefixtures("nothing_is_frozen")


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
