# SPDX-License-Identifier: Apache-2.0
"""A bulk task as its users see it: items in, results out, each paid for once."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.serialization.helpers import serialize_template_field

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunEndedError,
    RunRequestError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.simulator import Fault, Scenario
from airflow_provider_openai_runs.triggers import BulkCompletionTrigger
from tests.support import bulk_operators
from tests.support.bulk_operators import (
    LONG_OVER,
    Bulk,
    Resumed,
    active,
    asked,
    failing,
    left_going,
    quick,
    results,
    when_created,
)
from tests.support.scene import Scene

bulk = bulk_operators.bulk


def test_each_item_is_created_once_and_has_its_result(scene: Scene, bulk: Bulk) -> None:
    quick(scene)
    result = scene.run(bulk(), scene.kept)
    assert (result["rows"], result["succeeded"], result["failed"]) == (20, 20, 0)
    assert sorted(results(result)) == [*range(20)]
    assert scene.creates() == 20
    assert result["usage"]["total_tokens"] > 0
    assert len(json.dumps(result)) < 4096


def test_a_table_is_read_row_by_row_and_a_function_makes_the_arguments(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    quick(scene)
    table = tmp_path / "tickets.csv"
    table.write_text("id,text\nT-1,My printer burns\nT-2,I want my money back\n")
    task = bulk(
        input_path=str(table),
        request=lambda row: {"custom_id": row["id"], "input": f"Classify: {row['text']}"},
        instructions="One word.",
    )
    result = scene.run(task, scene.kept)
    assert {item["custom_id"] for item in read_results(result)} == {"T-1", "T-2"}
    assert set(asked(scene)) == {"Classify: My printer burns", "Classify: I want my money back"}


def test_a_bad_item_fails_alone_and_stands_in_an_input_for_a_second_run(scene: Scene, bulk: Bulk) -> None:
    quick(scene)
    result = scene.run(bulk(items=["Good", {"input": "Bad", "temperature": 9}, {"inputs": "?"}]), scene.kept)
    assert (result["succeeded"], result["failed"]) == (1, 2)
    errors = [item["error"] for item in read_results(result, failed=True) if item["state"] == "failed"]
    assert any("temperature" in error for error in errors)
    assert any("input" in error for error in errors)
    lines = Path(result["failed_path"].removeprefix("file://")).read_text().splitlines()
    assert len(lines) == 2


def test_a_run_that_failed_is_tried_again_and_one_that_would_fail_again_is_not(
    scene: Scene, bulk: Bulk
) -> None:
    failing(scene, "flaky", code="server_error", times=2)
    failing(scene, "bad", code="invalid_prompt")
    quick(scene)
    result = scene.run(bulk(items=["flaky", "bad", "good"]), scene.kept)
    assert (result["succeeded"], result["failed"]) == (2, 1)
    assert asked(scene) == {"flaky": 3, "bad": 1, "good": 1}


def test_a_task_without_a_single_success_fails_with_its_manifest_pushed(scene: Scene, bulk: Bulk) -> None:
    quick(scene, ends="failed", error={"code": "invalid_prompt", "message": "Oh."})
    task = bulk(items=["a", "b"])
    log = scene.log_of(task)
    with pytest.raises(RunEndedError, match=r"Not a single item.*Oh.*\(2 such items\)") as raised:
        scene.run(task, scene.kept)
    assert len([line for line in log if "has failed, the first one" in line and "Oh." in line]) == 1
    assert isinstance(raised.value, AirflowFailException)
    assert scene.kept["ti"].xcoms["return_value"]["failed"] == 2


def test_too_many_failures_end_what_is_active(scene: Scene, bulk: Bulk) -> None:
    failing(scene, "bad", code="invalid_prompt")
    quick(scene, in_progress=60)
    with pytest.raises(RunEndedError, match="max_failed=1"):
        scene.run(bulk(items=["slow", "bad", "bad 2"], max_failed=1), scene.kept)
    assert scene.simulator.count("POST", r"/cancel$") == 1
    assert scene.kept["ti"].xcoms["return_value"]["failed"] == 3


def test_the_end_of_the_window_keeps_what_is_done_and_ends_the_rest(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=60, when="quick", times=None))
    quick(scene, in_progress=6000)
    left_going(scene, bulk(items=["quick", "slow"]))
    scene.simulator.advance(600)
    context = scene.retry(scene.kept)
    with pytest.raises(RunTimeoutError, match="completion_window"):
        scene.run(bulk(items=["quick", "slow"], completion_window=LONG_OVER), context)
    result = context["ti"].xcoms["return_value"]
    assert (result["succeeded"], result["failed"]) == (1, 1)
    assert [*results(result)] == [0]
    assert not active(scene)


def test_the_end_of_the_window_leaves_going_what_the_user_wants_to_go_on(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=60, when="quick", times=None))
    quick(scene, in_progress=6000)
    left_going(scene, bulk(items=["quick", "slow"]))
    scene.simulator.advance(600)
    context = scene.retry(scene.kept)
    task = bulk(items=["quick", "slow"], completion_window=LONG_OVER, cancel_on_timeout=False)
    with pytest.raises(RunTimeoutError, match=r"go on and bill.*stop --path"):
        scene.run(task, context)
    result = context["ti"].xcoms["return_value"]
    assert (result["succeeded"], result["active"]) == (1, 1)
    assert [*results(result)] == [0]
    assert len(active(scene)) == 1


def test_no_more_are_active_than_allowed(scene: Scene, bulk: Bulk) -> None:
    quick(scene, in_progress=0.2)
    most, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.01):
            most.append(len(scene.simulator.active()))

    watching = threading.Thread(target=watch)
    watching.start()
    result = scene.run(bulk(max_active=3, items=[str(number) for number in range(9)]), scene.kept)
    is_over.set()
    watching.join()
    assert result["succeeded"] == 9
    assert max(most) <= 3


def test_a_server_that_asks_to_come_back_later_is_asked_later(scene: Scene, bulk: Bulk) -> None:
    quick(scene)
    scene.simulator.fault(
        Fault(method="POST", path=r"^/responses$", kind="status", status=429, times=2, retry_after=1)
    )
    result = scene.run(bulk(items=["a", "b", "c", "d"]), scene.kept)
    assert result["succeeded"] == 4


def test_a_create_whose_answer_is_lost_is_named_and_not_sent_again(scene: Scene, bulk: Bulk) -> None:
    quick(scene)
    scene.simulator.fault(Fault(method="POST", path=r"^/responses$", kind="lost", times=1))
    result = scene.run(bulk(items=["a", "b"]), scene.kept)
    assert (result["succeeded"], result["lost"]) == (1, 1)
    [lost] = [item for item in read_results(result, failed=True) if item["state"] == "lost"]
    assert "may be going and billing" in lost["error"]
    assert asked(scene) == {"a": 1, "b": 1}


def test_an_answer_that_comes_with_its_create_is_kept(scene: Scene, bulk: Bulk) -> None:
    quick(scene, ignores_background=True)
    result = scene.run(bulk(items=["a", "b"]), scene.kept)
    assert sorted(results(result)) == [0, 1]
    assert scene.simulator.count("GET") == 0


def test_runs_whose_polls_fail_are_waited_for_and_the_log_says_why(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.PROGRESS_EVERY", 0.1)
    scene.simulator.fault(Fault(method="GET", path="/responses/", status=503, times=4))
    log = scene.log_of(task := bulk())
    assert sorted(results(scene.run(task, scene.kept))) == [*range(20)]
    assert any("polls failed, going on" in line and "503" in line for line in log)


def test_a_long_wait_is_handed_to_the_triggerer_and_a_worker_collects(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    quick(scene, in_progress=60)
    task = bulk(deferrable=True, items=["a", "b", "c"])
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(scene.kept)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_provider_openai_runs.triggers.BulkCompletionTrigger"
    assert arguments["count"] == 3
    assert len(json.dumps(arguments)) < 2048
    scene.simulator.advance(60)
    event = scene.fire(deferred.value.trigger)
    assert event["reason"] == "ended"
    result = bulk(deferrable=True, items=["a", "b", "c"]).execute_complete(scene.kept, event)
    assert sorted(results(result)) == [0, 1, 2]
    assert scene.creates() == 3


def test_a_worker_is_woken_when_there_is_room_for_further_creates(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    scene.simulator.script(Scenario(queued=0, in_progress=4, times=1))
    quick(scene, in_progress=12)
    task = bulk(deferrable=True, items=[str(number) for number in range(6)], max_active=4)
    with scene.time_stands_still():
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(scene.kept)
        assert scene.creates() == 4
        scene.simulator.advance(2)
        event = scene.fire(deferred.value.trigger)
    assert (event["reason"], event["ended"]) == ("room", 1)
    result = scene.run(Resumed(task, event), scene.kept)
    assert result["succeeded"] == 6
    assert scene.creates() == 6


def test_a_file_that_is_missing_is_never_the_end_of_the_wait(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.triggers.bulk.STORAGE_PAUSE", 0)
    trigger = BulkCompletionTrigger(path=f"{tmp_path}/waiting/x.jsonl", conn_id="openai_default", count=3)
    event = scene.fire(trigger)
    assert event["reason"] == "unreadable"
    quick(scene)
    assert scene.run(Resumed(bulk(), event), scene.kept)["succeeded"] == 20  # by the journal


def test_the_trigger_ends_the_runs_at_the_end_of_the_window(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    quick(scene, in_progress=600)
    with pytest.raises(TaskDeferred) as deferred:
        bulk(deferrable=True, items=["a", "b", "c"]).execute(scene.kept)
    trigger: Any = deferred.value.trigger
    trigger.deadline = time.time()
    event = scene.fire(trigger)
    assert not active(scene)
    task = bulk(deferrable=True, items=["a", "b", "c"], completion_window=LONG_OVER)
    with pytest.raises(RunTimeoutError):
        task.execute_complete(scene.kept, event)
    assert scene.kept["ti"].xcoms["return_value"]["failed"] == 3


def test_another_input_is_refused_before_anything_is_paid_for(scene: Scene, bulk: Bulk) -> None:
    quick(scene, in_progress=60)
    task = bulk(items=["a", "b"])
    killer = when_created(scene, 2, task.on_kill)
    with pytest.raises(OpenAIRunError):
        task.execute(scene.kept)
    killer.join()
    with pytest.raises(RunRequestError, match="input has changed"):
        bulk(items=["a", "c"]).execute(scene.retry(scene.kept))
    assert scene.creates() == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"items": None}, "items"),
        ({"output_path": None}, "output_path"),
        ({"completion_window": None}, "completion_window"),
        ({"functions": [print]}, "functions"),
        ({"approve": True}, "approve"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"on_active_run": "wait"}, "on_active_run"),
        ({"on_tool_calls": "return"}, "on_tool_calls"),
        ({"end_from_trigger": True}, "end_from_trigger"),
        ({"text_in_xcom": 0}, "text_in_xcom"),
        ({"thread_id": "thread_1"}, "thread"),
        ({"max_active": 0}, "max_active"),
        ({"max_failed": 1.5}, "max_failed"),
        ({"item_retries": 256}, "item_retries"),
        ({"on_lost_create": "resubmit", "max_resubmits": 256}, "max_resubmits"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"request": "f"}, "request='f'"),
        ({"request": lambda: "x"}, "one argument"),
        ({"items": "one text"}, "items='one text'"),
        ({"items": {"input": "x"}}, "must be a list"),
        ({"items": None, "input_path": "/in.txt"}, "must end in .jsonl"),
    ],
)
def test_what_a_bulk_task_cannot_do_is_refused_when_its_dag_is_parsed(
    bulk: Bulk, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(RunRequestError, match=named):
        bulk(**arguments)


def test_an_input_without_rows_is_said_and_no_failure(scene: Scene, bulk: Bulk) -> None:
    lines = scene.log_of(operator := bulk(items=[]))
    assert scene.run(operator, scene.kept)["rows"] == 0
    assert any("The input has no rows" in line for line in lines)


def test_airflow_shows_how_many_items_there_are_and_none_of_them(bulk: Bulk) -> None:
    task = bulk(items=["a secret question"])
    task.render_template_fields({})
    assert serialize_template_field(task.items, "items") == "1 items"
