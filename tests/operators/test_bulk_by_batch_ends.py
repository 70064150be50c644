# SPDX-License-Identifier: Apache-2.0
"""Ways in which a task by batches ends before its items do: its batches are ended, left or named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunCallError,
    RunConnectionError,
    RunRequestError,
    RunStorageError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import BatchScenario, Fault
from tests.support import batch_operators
from tests.support.batch_operators import asked, batches, results
from tests.support.bulk_operators import when
from tests.support.scene import Scene
from tests.support.unfit import (
    Unfit,
    has_changed,
    input_of,
    is_gone,
    is_wrong,
    table_on_storage_that_goes_away,
)

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk, small_files = batch_operators.bulk, batch_operators.small_files


def _left_going(scene: Scene, bulk: Bulk, **given: Any) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.2))
    with pytest.raises(TaskDeferred):
        bulk(**given, deferrable=True).execute(scene.kept)


@pytest.mark.parametrize("what", [is_gone, has_changed, is_wrong])
def test_an_attempt_that_cannot_begin_leaves_the_batches_to_one_that_can(
    scene: Scene, bulk: Bulk, tmp_path: Path, what: Unfit
) -> None:
    path = input_of(tmp_path)
    written, given = path.read_bytes(), {"input_path": str(path)}
    _left_going(scene, bulk, **given)
    again = bulk(**given)
    said = what(path, again)
    context = scene.retry(scene.kept)
    with pytest.raises(RunRequestError, match=f"{said}.*batch_.*stop --path") as raised:
        again.execute(context)

    (batch,) = batches(scene)
    assert batch["status"] not in {"cancelling", "cancelled"}
    assert not isinstance(raised.value, AirflowFailException)
    path.write_bytes(written)
    scene.simulator.advance(700)
    assert len(results(scene.run(bulk(**given), scene.retry(context)))) == 2
    assert len(batches(scene)) == 1


def test_the_last_attempt_ends_the_batches_of_arguments_that_are_wrong_by_now(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    _left_going(scene, bulk)
    again = bulk()
    said = is_wrong(tmp_path, again)
    with pytest.raises(RunRequestError, match=f"{said}.*batch_.*stop --path"):
        again.execute(scene.retry(scene.kept, try_number=3))
    (batch,) = batches(scene)
    assert batch["status"] in {"cancelling", "cancelled"}


@pytest.mark.parametrize("what", [is_gone, has_changed])
def test_the_last_attempt_waits_for_the_batches_of_an_input_that_is_no_more(
    scene: Scene, bulk: Bulk, tmp_path: Path, what: Unfit
) -> None:
    path = input_of(tmp_path)
    given = {"input_path": str(path)}
    _left_going(scene, bulk, **given)
    said = what(path, None)
    context = scene.retry(scene.kept, try_number=3)
    with pytest.raises(TaskDeferred):
        bulk(**given, deferrable=True).execute(context)

    scene.simulator.advance(700)
    with pytest.raises(RunRequestError, match=f"{said}.*2 of 2 items succeeded"):
        bulk(**given).execute_complete(context, {"reason": "ended"})
    result = context["ti"].xcoms["return_value"]
    assert (result["succeeded"], result["stopped"], len(batches(scene))) == (2, "input", 1)
    assert len(results(result)) == 2


def test_a_table_that_breaks_in_the_middle_costs_nothing_of_what_was_created_before(
    scene: Scene, bulk: Bulk, small_files: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.building._SLICE", 5)
    lines = ["input", *(f"Question {number} {'x' * 2_000}" for number in range(30))]
    (tmp_path / "in.csv").write_bytes("\n".join(lines).encode() + b"\n\xff broken\nnever read")
    with pytest.raises(RunRequestError, match="The input cannot be read: The table cannot be read"):
        bulk(input_path=str(tmp_path / "in.csv")).execute(scene.kept)
    result = scene.kept["ti"].xcoms["return_value"]
    assert (result["stopped"], result["active"]) == ("input", 0)
    assert result["succeeded"] == len(results(result)) >= 8
    assert {batch["status"] for batch in batches(scene)} == {"completed"}


def test_an_input_whose_storage_goes_away_is_left_to_a_retry_and_collected_without_one(
    scene: Scene, bulk: Bulk, small_files: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.building._SLICE", 3)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.building.MAX_ROWS", 3)
    with monkeypatch.context() as away:
        path = table_on_storage_that_goes_away(tmp_path, away)
        with pytest.raises(RunStorageError, match="the storage is away"):
            bulk(input_path=str(path)).execute(scene.kept)
    context = scene.retry(scene.kept, try_number=3)
    with monkeypatch.context() as away:
        table_on_storage_that_goes_away(tmp_path, away)
        with pytest.raises(RunRequestError, match=r"The input cannot be read: .*the storage is away"):
            bulk(input_path=str(path)).execute(context)
    result = context["ti"].xcoms["return_value"]
    assert (result["stopped"], result["active"]) == ("input", 0)
    assert result["succeeded"] == len(results(result)) >= 3
    assert {batch["status"] for batch in batches(scene)} == {"completed"}


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(("status", "try_number"), [(413, 1), (401, 3)])
def test_a_file_that_the_server_does_not_take_leaves_what_is_active_to_be_collected(
    scene: Scene, bulk: Bulk, status: int, try_number: int
) -> None:
    fault = Fault(method="POST", path="/files$", kind="status", status=status, skip=1, times=None)
    scene.simulator.fault(fault)
    context = scene.context_of(scene.store, try_number=try_number)
    with pytest.raises(
        OpenAIRunError, match=rf"could not be uploaded: HTTP {status}.*8 of 20 items"
    ) as raised:
        scene.run(bulk(deferrable=True), context)

    assert raised.value.retryable is False
    result = context["ti"].xcoms["return_value"]
    assert (result["stopped"], result["active"], result["not_created"]) == ("upload", 0, 12)
    assert len(results(result)) == 8
    assert [batch["status"] for batch in batches(scene)] == ["completed"]


@pytest.mark.usefixtures("small_files")
def test_a_key_that_is_refused_for_an_upload_leaves_the_batches_to_a_retry(scene: Scene, bulk: Bulk) -> None:
    fault = Fault(method="POST", path="/files$", kind="status", status=401, skip=1, times=1)
    scene.simulator.fault(fault)
    with pytest.raises(RunConnectionError, match="could not be uploaded: HTTP 401") as raised:
        bulk().execute(scene.kept)

    assert raised.value.retryable
    assert len(results(scene.run(bulk(), scene.retry(scene.kept)))) == 20
    assert [batch["status"] for batch in batches(scene)] == ["completed"] * 3
    assert set(asked(scene).values()) == {1}


def test_an_upload_that_is_to_come_back_later_says_when(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.batch.requests.BATCH_FILE_BUDGET", 1.0)
    scene.simulator.fault(
        Fault(method="POST", path="/files$", kind="status", status=429, retry_after=1200, times=None)
    )
    with pytest.raises(RunCallError, match="could not be uploaded: HTTP 429") as raised:
        bulk().execute(scene.kept)

    assert (raised.value.retryable, raised.value.retry_after) == (True, 1200)


@pytest.mark.usefixtures("small_files")
def test_the_end_of_the_window_names_the_file_that_was_not_taken(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.operators.by_batch.LEAST_WINDOW", 0)
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.1))
    scene.simulator.fault(Fault(method="POST", path="/files$", kind="status", status=413, skip=1, times=None))
    with pytest.raises(
        RunTimeoutError, match=r"completion_window=4 was over: .*could not be uploaded: HTTP 413"
    ):
        bulk(completion_window=4).execute(scene.kept)


@pytest.mark.usefixtures("small_files")
def test_a_kill_while_a_file_is_sent_again_is_not_taken_for_a_file_that_is_not_taken(
    scene: Scene, bulk: Bulk
) -> None:
    scene.simulator.script_batches(BatchScenario(in_progress=60, cancelling=0.1))
    scene.simulator.fault(Fault(method="POST", path="/files$", kind="status", status=500, skip=1, times=None))
    task, context = bulk(), scene.context_of(scene.store, try_number=3)
    lines = scene.log_of(task)

    def kill() -> None:
        context["ti"].state = "failed"
        task.on_kill()

    killer = when(lambda: scene.simulator.count("POST", "/files$") >= 3, kill)
    with pytest.raises(OpenAIRunError, match="The task was killed"):
        task.execute(context)
    killer.join()

    assert not [line for line in lines if "Nothing more is created" in line]
    assert {batch["status"] for batch in batches(scene)} <= {"cancelling", "cancelled"}


# -- a connection that there is not --------------------------------------------------------------------------


@pytest.mark.parametrize("processing", ["batch", None])
def test_a_first_attempt_without_its_connection_says_what_to_do(
    scene: Scene, bulk: Bulk, processing: str | None
) -> None:
    with pytest.raises(RunConnectionError, match=r"no connection 'nowhere'.*Create it"):
        bulk(processing=processing, conn_id="nowhere").execute(scene.kept)

    assert scene.creates() == len(batches(scene)) == 0
