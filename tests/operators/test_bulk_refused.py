# SPDX-License-Identifier: Apache-2.0
"""A bulk task whose server refuses what it asks for: it ends all the same, and says what is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_openai_runs.exceptions import RunTimeoutError
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import Fault
from tests.operators import test_bulk
from tests.operators.test_bulk import LONG_OVER, _quick, active, left_going
from tests.support.scene import Scene

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = test_bulk.bulk


@pytest.mark.parametrize("status", [401, 404, 405, 500])
def test_a_task_whose_window_is_over_names_the_runs_that_the_server_does_not_end(
    scene: Scene, bulk: Bulk, status: int
) -> None:
    _quick(scene, in_progress=6_000)
    left_going(scene, bulk(items=["a", "b"]))
    scene.simulator.fault(Fault(method="POST", path=r"/cancel$", status=status, times=None))
    context = scene.retry(scene.kept)
    task = bulk(items=["a", "b"], completion_window=LONG_OVER, timeouts={"delete": 1})
    with pytest.raises(RunTimeoutError, match=r"2 active.*go on and bill.*stop --path"):
        scene.run(task, context)
    assert context["ti"].xcoms["return_value"]["active"] == len(active(scene)) == 2
