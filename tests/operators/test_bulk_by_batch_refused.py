# SPDX-License-Identifier: Apache-2.0
"""A server that refuses a file or a batch once may take the next one; what it always refuses fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import RunEndedError, RunRequestError
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import BatchScenario, Fault
from tests.support import batch_operators
from tests.support.batch_operators import ROWS, asked, batches, errors, results, uploads, xcom
from tests.support.scene import Scene

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = batch_operators.bulk
small_files = batch_operators.small_files
REFUSED = Fault(method="POST", path="/batches$", kind="status", status=400, times=None)
GONE = {"code": "file_not_found", "message": "No such File object."}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.wire.batches._UPLOAD_PAUSES", (0.05, 0.05))


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422])
@pytest.mark.parametrize("times", [1, 2])
def test_a_create_that_is_refused_for_a_moment_costs_no_item(
    scene: Scene, bulk: Bulk, status: int, times: int
) -> None:
    scene.simulator.fault(replace(REFUSED, status=status, times=times))
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS
    assert set(asked(scene).values()) == {1}
    assert len(batches(scene)) == 1


@pytest.mark.usefixtures("small_files")
def test_creates_that_are_refused_again_and_again_fail_their_items(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.fault(REFUSED)
    with pytest.raises(RunEndedError, match="Not a single item succeeded"):
        scene.run(bulk(max_failed=None), scene.kept)
    found = errors(xcom(scene.kept))
    assert len(found) == ROWS
    assert all("Its batch was refused: HTTP 400" in error for error in found.values())
    assert scene.simulator.count("POST", "/batches") == 3 * 3


def test_a_create_that_is_wrong_in_any_case_is_not_sent_again(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.fault(replace(REFUSED, code="invalid_value"))
    with pytest.raises(RunEndedError, match="Not a single item succeeded"):
        scene.run(bulk(), scene.kept)
    assert scene.simulator.count("POST", "/batches") == 1


def test_an_upload_that_is_not_found_for_a_moment_is_sent_again(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.fault(Fault(method="POST", path="/files$", kind="status", status=404, times=2))
    assert len(results(scene.run(bulk(), scene.kept))) == ROWS


def test_a_server_without_files_is_no_bad_moment(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.fault(Fault(method="POST", path="/files$", kind="status", status=404, times=None))
    with pytest.raises(RunRequestError, match="could not be uploaded: HTTP 404"):
        scene.run(bulk(), scene.kept)
    assert batches(scene) == []


def test_a_batch_whose_file_is_gone_is_created_again_of_another_one(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script_batches(BatchScenario(validating=0.05, error=GONE))
    assert len(results(scene.run(bulk(item_retries=0), scene.kept))) == ROWS
    assert [batch["status"] for batch in batches(scene)] == ["failed", "completed"]
    assert uploads(scene) == 2
    assert set(asked(scene).values()) == {1}


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_files_that_are_gone_each_time_fail_their_items(
    scene: Scene, bulk: Bulk, *, deferrable: bool
) -> None:
    scene.simulator.script_batches(BatchScenario(validating=0.05, error=GONE, times=None))
    with pytest.raises(RunEndedError, match="Not a single item succeeded"):
        scene.run(bulk(item_retries=0, deferrable=deferrable), scene.kept)
    found: dict[int, Any] = errors(xcom(scene.kept))
    assert all("file_not_found: No such File object." in error for error in found.values())
    assert uploads(scene) == len(batches(scene)) == 3
