# SPDX-License-Identifier: Apache-2.0
"""Every way in which a bulk task may end before its items do: what is active is ended, left or named."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import RunConnectionError
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import Fault
from tests.operators import test_bulk
from tests.operators.test_bulk import _quick
from tests.support.scene import Scene

if TYPE_CHECKING:
    from airflow_provider_openai_runs.triggers import BulkCompletionTrigger

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = test_bulk.bulk
ITEMS = ["a", "b"]


@pytest.fixture
def defers_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand the wait over after a moment without news."""
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)


def _deferred(scene: Scene, task: BulkCreateResponsesOperator) -> BulkCompletionTrigger:
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(scene.kept)
    trigger: BulkCompletionTrigger = deferred.value.trigger
    return trigger


@pytest.mark.usefixtures("defers_soon")
def test_a_key_that_is_refused_while_a_trigger_waits_fails_the_task(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.PERMANENT_FAILURE_BUDGET", 1.0)
    _quick(scene, in_progress=60)
    trigger = _deferred(scene, bulk(deferrable=True, items=ITEMS))
    scene.simulator.fault(Fault(method="GET", path=r"^/responses/", kind="status", status=401, times=None))
    event = scene.fire(trigger)
    assert event["reason"] == "denied"
    with pytest.raises(RunConnectionError, match="refused the key"):
        bulk(deferrable=True, items=ITEMS).execute_complete(scene.kept, event)
    assert scene.creates() == 2
