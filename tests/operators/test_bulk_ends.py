# SPDX-License-Identifier: Apache-2.0
"""Every way in which a bulk task may end before its items do: what is active is ended, left or named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.bulk.work import Work
from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunConnectionError,
    RunRequestError,
    RunStorageError,
)
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import Fault, Scenario
from tests.support import bulk_operators
from tests.support.bulk_operators import active, left_going, quick
from tests.support.scene import Scene
from tests.support.unfit import (
    Unfit,
    has_changed,
    input_of,
    is_gone,
    is_wrong,
    table_on_storage_that_goes_away,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from airflow_provider_openai_runs.triggers import BulkCompletionTrigger

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = bulk_operators.bulk
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
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.PERMANENT_FAILURE_BUDGET", 0.3)
    quick(scene, in_progress=60)
    trigger = _deferred(scene, bulk(deferrable=True, items=ITEMS))
    scene.simulator.fault(Fault(method="GET", path=r"^/responses/", kind="status", status=401, times=None))
    event = scene.fire(trigger)
    assert event["reason"] == "denied"
    with pytest.raises(RunConnectionError, match="refused the key"):
        bulk(deferrable=True, items=ITEMS).execute_complete(scene.kept, event)
    assert scene.creates() == 2


# -- before anything is created -----------------------------------------------------------------------------


def _left_going(scene: Scene, bulk: Bulk, **arguments: Any) -> None:
    quick(scene, in_progress=600)
    left_going(scene, bulk(**{"items": ITEMS, **arguments}))


@pytest.mark.parametrize("what", [is_gone, has_changed, is_wrong])
def test_an_attempt_that_cannot_begin_leaves_the_runs_to_one_for_which_it_is_put_right(
    scene: Scene, bulk: Bulk, tmp_path: Path, what: Unfit
) -> None:
    path = input_of(tmp_path)
    written = path.read_bytes()
    given = {"items": None, "input_path": str(path)}
    _left_going(scene, bulk, **given)
    again = bulk(**given)
    said = what(path, again)
    context = scene.retry(scene.kept)
    with pytest.raises(RunRequestError, match=f"{said}.*2 runs may be running.*stop --path") as raised:
        again.execute(context)
    assert len(active(scene)) == 2
    assert not isinstance(raised.value, AirflowFailException)

    path.write_bytes(written)
    scene.simulator.advance(700)
    assert scene.run(bulk(**given), scene.retry(context))["succeeded"] == 2
    assert scene.creates() == 2


def test_the_last_attempt_ends_the_runs_of_arguments_that_are_wrong_by_now(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    _left_going(scene, bulk)
    again = bulk(items=ITEMS)
    said = is_wrong(tmp_path, again)
    with pytest.raises(RunRequestError, match=f"{said}.*No run of it is active.*stop --path"):
        again.execute(scene.retry(scene.kept, try_number=3))
    assert active(scene) == []


@pytest.mark.usefixtures("defers_soon")
@pytest.mark.parametrize("what", [is_gone, has_changed])
def test_the_last_attempt_waits_for_what_was_created_of_an_input_that_is_no_more(
    scene: Scene, bulk: Bulk, tmp_path: Path, what: Unfit
) -> None:
    path = input_of(tmp_path)
    given = {"items": None, "input_path": str(path), "deferrable": True}
    _left_going(scene, bulk, **given)
    said = what(path, None)
    context = scene.retry(scene.kept, try_number=3)
    with pytest.raises(TaskDeferred):
        bulk(**given).execute(context)
    assert len(active(scene)) == 2

    scene.simulator.advance(700)
    with pytest.raises(RunRequestError, match=f"{said}.*2 of 2 items succeeded"):
        bulk(**given).execute_complete(context, {"reason": "ended"})
    result = context["ti"].xcoms["return_value"]
    assert (result["succeeded"], result["stopped"], scene.creates()) == (2, "input", 2)
    assert len([*read_results(result)]) == 2


@pytest.mark.usefixtures("defers_soon")
def test_what_a_trigger_could_not_read_costs_no_try_since_the_journal_knows_it(
    scene: Scene, bulk: Bulk
) -> None:
    quick(scene, in_progress=60)
    _deferred(scene, bulk(deferrable=True, items=ITEMS))
    task = bulk(deferrable=True, items=ITEMS)
    log = scene.log_of(task)
    scene.simulator.advance(60)
    result = task.execute_complete(scene.kept, {"reason": "unreadable", "failure": "storage is away"})
    assert (result["succeeded"], scene.creates()) == (2, 2)
    assert any("storage is away" in line for line in log)


def test_a_journal_that_is_gone_is_an_error_with_its_place(scene: Scene, bulk: Bulk, tmp_path: Path) -> None:
    _left_going(scene, bulk)
    [head] = tmp_path.rglob("head.json")
    (head.parent / "journal").rename(tmp_path / "away")
    with pytest.raises(RunStorageError, match=r"may be running and billing.*stop --path") as raised:
        bulk(items=ITEMS).execute(scene.retry(scene.kept))
    assert str(head.parent) in str(raised.value)
    assert scene.creates() == 2


def test_a_store_that_cannot_be_read_is_an_error_with_the_place_of_what_may_be_going(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    _left_going(scene, bulk)
    scene.store.fail("get", ConnectionError("Airflow is away"))
    task = bulk(items=ITEMS)
    log = scene.log_of(task)
    with pytest.raises(ConnectionError, match="Airflow is away"):
        task.execute(scene.retry(scene.kept))
    [head] = tmp_path.rglob("head.json")
    assert any("may be running and billing" in line and str(head.parent) in line for line in log)
    assert scene.creates() == 2


def test_a_retry_of_a_task_whose_arguments_have_changed_names_them(scene: Scene, bulk: Bulk) -> None:
    _left_going(scene, bulk)
    scene.simulator.advance(700)
    task = bulk(items=ITEMS, model="gpt-4o", instructions="Be brief.")
    log = scene.log_of(task)
    assert scene.run(task, scene.retry(scene.kept))["succeeded"] == 2
    [line] = [line for line in log if "Arguments have changed" in line]
    assert "instructions, model." in line


# -- killed -------------------------------------------------------------------------------------------------


def test_a_task_that_is_killed_before_it_has_begun_creates_nothing(scene: Scene, bulk: Bulk) -> None:
    quick(scene)
    task = bulk(items=ITEMS)
    task.on_kill()
    with pytest.raises(OpenAIRunError, match="killed"):
        task.execute(scene.kept)
    assert scene.creates() == 0


def test_a_retry_that_is_marked_before_it_has_begun_ends_the_runs(scene: Scene, bulk: Bulk) -> None:
    _left_going(scene, bulk)
    task = bulk(items=ITEMS)
    task.on_kill()
    with pytest.raises(OpenAIRunError, match="No run of it is active"):
        task.execute(scene.retry(scene.kept, state="failed"))
    assert not active(scene)


def _while_it_hands_over(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Do something while the worker writes what a trigger is to wait for."""
    write = Work.waits

    def waits(*arguments: Any, **named: Any) -> Any:
        then()
        return write(*arguments, **named)

    monkeypatch.setattr(Work, "waits", waits)


@pytest.mark.usefixtures("defers_soon")
@pytest.mark.parametrize("hears", [True, False])
def test_a_mark_while_a_worker_hands_over_ends_the_runs(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, hears: bool
) -> None:
    quick(scene, in_progress=600)
    task = bulk(deferrable=True, items=ITEMS)

    def mark() -> None:
        scene.kept["ti"].state = "failed"
        if hears:
            task.on_kill()

    _while_it_hands_over(monkeypatch, mark)
    with pytest.raises(OpenAIRunError, match="No run of it is active"):
        task.execute(scene.kept)
    assert not active(scene)


@pytest.mark.usefixtures("defers_soon")
def test_a_worker_that_goes_away_while_it_hands_over_leaves_the_runs_to_a_retry(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(scene, in_progress=600)
    task = bulk(deferrable=True, items=ITEMS)
    _while_it_hands_over(monkeypatch, task.on_kill)
    with pytest.raises(OpenAIRunError, match="2 runs may be running"):
        task.execute(scene.kept)
    assert len(active(scene)) == 2


@pytest.mark.usefixtures("defers_soon")
def test_the_time_limit_of_airflow_ends_the_runs_also_while_a_worker_hands_over(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(scene, in_progress=600)
    task = bulk(deferrable=True, items=ITEMS)

    def time_out() -> None:
        raise AirflowTaskTimeout

    _while_it_hands_over(monkeypatch, time_out)
    with pytest.raises(AirflowTaskTimeout):
        task.execute(scene.kept)
    assert not active(scene)


@pytest.mark.usefixtures("defers_soon")
def test_storage_that_fails_while_a_worker_hands_over_leaves_the_runs_to_a_retry(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(scene, in_progress=600)

    def fail() -> None:
        raise RunStorageError("The storage is full.")

    _while_it_hands_over(monkeypatch, fail)
    with pytest.raises(RunStorageError, match=r"The storage is full. 2 runs may be running"):
        bulk(deferrable=True, items=ITEMS).execute(scene.kept)
    assert len(active(scene)) == 2


@pytest.mark.usefixtures("defers_soon")
def test_a_kill_after_the_hand_over_names_what_no_trigger_may_ever_wait_for(scene: Scene, bulk: Bulk) -> None:
    quick(scene, in_progress=600)
    task = bulk(deferrable=True, items=ITEMS)
    log = scene.log_of(task)
    _deferred(scene, task)
    task.on_kill()
    until(lambda: any("2 runs may be running" in line for line in log))


# -- cleared ------------------------------------------------------------------------------------------------


def test_a_clear_ends_the_runs_of_before_also_if_they_lie_under_another_output_path(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0, when="quick", times=None))
    _left_going(scene, bulk)
    task = bulk(items=["quick"], output_path=str(tmp_path / "elsewhere"))
    result = scene.run(task, scene.clear(scene.kept))
    assert str(tmp_path / "elsewhere") in result["manifest"]
    assert scene.simulator.count("POST", r"/cancel$") == 2
    assert not active(scene)


def test_a_retry_goes_on_where_the_first_attempt_began_whatever_output_path_is_now(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    _left_going(scene, bulk)
    scene.simulator.advance(600)
    task = bulk(items=ITEMS, output_path=str(tmp_path / "elsewhere"))
    result = scene.run(task, scene.retry(scene.kept))
    assert (result["succeeded"], scene.creates()) == (2, 2)
    assert f"{tmp_path}/out/" in result["manifest"]


def test_a_clear_names_the_creates_of_before_whose_answers_are_lost(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    quick(scene, in_progress=0)
    scene.simulator.fault(Fault(method="POST", path=r"^/responses$", kind="lost", times=2))
    with pytest.raises(OpenAIRunError, match="Not a single item"):
        scene.run(bulk(items=ITEMS), scene.kept)
    task = bulk(items=ITEMS)
    log = scene.log_of(task)
    assert task.execute(scene.clear(scene.kept))["succeeded"] == 2
    [line] = [line for line in log if "creates may have been accepted" in line]
    assert "row 0 (token" in line
    assert "row 1 (token" in line


@pytest.mark.parametrize("fails", [False, True])
def test_a_clear_that_finds_no_head_of_before_says_what_may_be_going(
    scene: Scene, bulk: Bulk, tmp_path: Path, fails: bool
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0, when="quick", times=None))
    _left_going(scene, bulk)
    [head] = tmp_path.rglob("head.json")
    head.unlink()
    task = bulk(items=["quick"], on_unendable="fail" if fails else "give_up")
    log, said = scene.log_of(task), f"{head} is gone, so that nobody can end"
    if fails:
        with pytest.raises(RunStorageError, match="Nothing was created"):
            task.execute(scene.clear(scene.kept))
    else:
        assert scene.run(task, scene.clear(scene.kept))["succeeded"] == 1
        assert any(said in line for line in log)
    assert scene.creates() == (2 if fails else 3)


def test_a_task_whose_key_is_refused_says_how_to_end_what_goes_on(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.PERMANENT_FAILURE_BUDGET", 0.5)
    quick(scene, in_progress=600)
    scene.simulator.fault(Fault(method="GET", path=r"^/responses/", kind="status", status=401, times=None))
    with pytest.raises(RunConnectionError, match=r"refused the key.*Without a next attempt.*stop --path"):
        bulk(items=ITEMS).execute(scene.kept)
    assert len(active(scene)) == 2


def test_an_input_whose_storage_goes_away_is_collected_where_no_retry_is_left(
    scene: Scene, bulk: Bulk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table_on_storage_that_goes_away(tmp_path, monkeypatch)
    context = scene.retry(scene.kept, try_number=3)
    with pytest.raises(RunRequestError, match=r"The input cannot be read: .*the storage is away"):
        bulk(items=None, input_path=str(path), max_unrecorded=3).execute(context)
    result = context["ti"].xcoms["return_value"]
    assert (result["stopped"], result["active"]) == ("input", 0)
    assert result["succeeded"] == scene.creates() >= 3
