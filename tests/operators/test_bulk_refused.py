# SPDX-License-Identifier: Apache-2.0
"""A bulk task whose server refuses what it asks for: it ends all the same, and says what is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_openai_runs.exceptions import RunConnectionError, RunTimeoutError
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import Fault
from tests.support import bulk_operators
from tests.support.bulk_operators import LONG_OVER, active, left_going, quick
from tests.support.scene import Scene

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = bulk_operators.bulk


@pytest.mark.parametrize("status", [401, 404, 405, 500])
def test_a_task_whose_window_is_over_names_the_runs_that_the_server_does_not_end(
    scene: Scene, bulk: Bulk, status: int
) -> None:
    quick(scene, in_progress=6_000)
    left_going(scene, bulk(items=["a", "b"]))
    scene.simulator.fault(Fault(method="POST", path=r"/cancel$", status=status, times=None))
    context = scene.retry(scene.kept)
    task = bulk(items=["a", "b"], completion_window=LONG_OVER, timeouts={"delete": 1})
    with pytest.raises(RunTimeoutError, match=r"2 active.*go on and bill.*stop --path"):
        scene.run(task, context)
    assert context["ti"].xcoms["return_value"]["active"] == len(active(scene)) == 2


def test_an_outage_costs_what_was_under_way_and_no_more(scene: Scene, bulk: Bulk) -> None:
    quick(scene, in_progress=0)
    scene.simulator.fault(Fault(method="POST", path=r"^/responses$", status=502, times=6))
    result = scene.run(bulk(max_unrecorded=5), scene.kept)
    assert (result["succeeded"], result["lost"]) == (14, 6)


@pytest.mark.parametrize("status", [403, 404, 409, 429])
def test_what_the_server_refuses_for_a_moment_is_created_after_it(
    scene: Scene, bulk: Bulk, status: int
) -> None:
    quick(scene, in_progress=0)
    scene.simulator.fault(Fault(method="POST", path=r"^/responses$", status=status, times=3))
    task = bulk(items=["a", "b", "c"])
    log = scene.log_of(task)
    assert scene.run(task, scene.kept)["succeeded"] == 3
    assert len([line for line in log if "was not accepted" in line and f"HTTP {status}" in line]) == 1


def test_a_connection_of_which_nothing_is_accepted_for_minutes_is_quoted(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "airflow_provider_openai_runs.bulk.failed_creates"
    monkeypatch.setattr(f"{module}.PERMANENT_FAILURE_BUDGET", 0.1)
    fault = Fault(method="POST", path=r"^/responses$", status=404, message="No such route", times=None)
    scene.simulator.fault(fault)
    with pytest.raises(RunConnectionError, match=r"refused: HTTP 404: No such route\.") as raised:
        bulk(items=["a", "b", "c"]).execute(scene.kept)
    assert "3 not created" in str(raised.value)
