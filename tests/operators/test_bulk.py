# SPDX-License-Identifier: Apache-2.0
"""A bulk task as its users see it: items in, results out, each paid for once."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time.timeout import timeout
from airflow.serialization.helpers import serialize_template_field

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunEndedError,
    RunRequestError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import Fault, Scenario
from airflow_provider_openai_runs.triggers import BulkCompletionTrigger
from tests.support.scene import Scene
from tests.support.waiting import until

Bulk = Callable[..., BulkCreateResponsesOperator]
#: A completion_window that is over in any retry.
LONG_OVER = 0.1


@pytest.fixture
def bulk(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bulk:
    """Make a bulk operator; it commits and polls often, so that tests are quick."""
    _ = scene.store  # skips below Airflow 3.3
    module = "airflow_provider_openai_runs.bulk"
    monkeypatch.setattr(f"{module}.dispatcher.COMMIT_EVERY", 0.05)
    monkeypatch.setattr(f"{module}.parts.MAX_SECONDS", 0.05)
    monkeypatch.setattr(f"{module}.wanted_rows.PASS_EVERY", 0.05)
    monkeypatch.setattr(f"{module}.preparing.SEND_WITHIN", 0.5)  # nobody sends any more

    def make(**arguments: Any) -> BulkCreateResponsesOperator:
        given = {
            "task_id": "ask",
            "model": "gpt-4o-mini",
            "items": [f"Question {number}" for number in range(20)],
            "output_path": str(tmp_path / "out"),
            "poll_interval": 0.05,
            "deferrable": False,
        }
        if "input_path" in arguments:
            del given["items"]
        return BulkCreateResponsesOperator(**{**given, **arguments})

    return make


def _quick(scene: Scene, **script: Any) -> None:
    scene.simulator.script(Scenario(**{"queued": 0, "in_progress": 0.1, "times": None, **script}))


def _failing(scene: Scene, when: str, *, code: str, times: int | None = None) -> None:
    error = {"code": code, "message": "Oh."}
    scene.simulator.script(
        Scenario(queued=0, in_progress=0, when=when, times=times, ends="failed", error=error)
    )


def _results(result: Any) -> dict[int, str]:
    found = [(item["row"], item["output_text"]) for item in read_results(result)]
    assert len(found) == len(dict(found)), "an item has two results"
    return dict(found)


def _asked(scene: Scene) -> Counter[str]:
    return Counter(
        request.body["input"] for request in scene.simulator.requests if request.path == "/responses"
    )


class _Resumed:
    """A task that a worker resumes with an event; ``Scene.run`` goes on from there."""

    def __init__(self, task: BulkCreateResponsesOperator, event: Any) -> None:
        self._task = task
        self._event = event

    def execute(self, context: Any) -> Any:
        return self._task.execute_complete(context, self._event)

    def resume_execution(self, *arguments: Any) -> Any:
        return self._task.resume_execution(*arguments)


def when(holds: Callable[[], object], then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as something is the case."""

    def wait() -> None:
        until(holds)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def when_created(scene: Scene, number: int, then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as so many runs are in the journal."""

    def is_written() -> bool:
        value = scene.store.values.get("openai_bulk")
        return bool(scene.creates() >= number and value and value["writers"][-1][1] >= 2)

    return when(is_written, then)


def left_going(scene: Scene, task: BulkCreateResponsesOperator) -> None:
    """Let the worker of a task of two items go away while their runs go on."""
    killer = when_created(scene, 2, task.on_kill)
    with pytest.raises(OpenAIRunError, match="2 runs may be running"):
        task.execute(scene.kept)
    killer.join()
    assert len(active(scene)) == 2


def active(scene: Scene) -> list[str]:
    return [run["id"] for run in scene.simulator.active()]


def test_each_item_is_created_once_and_has_its_result(scene: Scene, bulk: Bulk) -> None:
    _quick(scene)
    result = scene.run(bulk(), scene.kept)
    assert (result["rows"], result["succeeded"], result["failed"]) == (20, 20, 0)
    assert sorted(_results(result)) == [*range(20)]
    assert scene.creates() == 20
    assert result["usage"]["total_tokens"] > 0
    assert len(json.dumps(result)) < 4096


def test_a_table_is_read_row_by_row_and_a_function_makes_the_arguments(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    _quick(scene)
    table = tmp_path / "tickets.csv"
    table.write_text("id,text\nT-1,My printer burns\nT-2,I want my money back\n")
    task = bulk(
        input_path=str(table),
        request=lambda row: {"custom_id": row["id"], "input": f"Classify: {row['text']}"},
        instructions="One word.",
    )
    result = scene.run(task, scene.kept)
    assert {item["custom_id"] for item in read_results(result)} == {"T-1", "T-2"}
    assert set(_asked(scene)) == {"Classify: My printer burns", "Classify: I want my money back"}


def test_a_bad_item_fails_alone_and_stands_in_an_input_for_a_second_run(scene: Scene, bulk: Bulk) -> None:
    _quick(scene)
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
    _failing(scene, "flaky", code="server_error", times=2)
    _failing(scene, "bad", code="invalid_prompt")
    _quick(scene)
    result = scene.run(bulk(items=["flaky", "bad", "good"]), scene.kept)
    assert (result["succeeded"], result["failed"]) == (2, 1)
    assert _asked(scene) == {"flaky": 3, "bad": 1, "good": 1}


def test_a_task_without_a_single_success_fails_with_its_manifest_pushed(scene: Scene, bulk: Bulk) -> None:
    _quick(scene, ends="failed", error={"code": "invalid_prompt", "message": "Oh."})
    task = bulk(items=["a", "b"])
    log = scene.log_of(task)
    with pytest.raises(RunEndedError, match=r"Not a single item.*Oh.*\(2 such items\)") as raised:
        scene.run(task, scene.kept)
    assert len([line for line in log if "has failed, the first one" in line and "Oh." in line]) == 1
    assert isinstance(raised.value, AirflowFailException)
    assert scene.kept["ti"].xcoms["return_value"]["failed"] == 2


def test_too_many_failures_end_what_is_active(scene: Scene, bulk: Bulk) -> None:
    _failing(scene, "bad", code="invalid_prompt")
    _quick(scene, in_progress=60)
    with pytest.raises(RunEndedError, match="max_failed=1"):
        scene.run(bulk(items=["slow", "bad", "bad 2"], max_failed=1), scene.kept)
    assert scene.simulator.count("POST", r"/cancel$") == 1
    assert scene.kept["ti"].xcoms["return_value"]["failed"] == 3


def test_the_end_of_the_window_keeps_what_is_done_and_ends_the_rest(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=60, when="quick", times=None))
    _quick(scene, in_progress=6000)
    left_going(scene, bulk(items=["quick", "slow"]))
    scene.simulator.advance(600)
    context = scene.retry(scene.kept)
    with pytest.raises(RunTimeoutError, match="completion_window"):
        scene.run(bulk(items=["quick", "slow"], completion_window=LONG_OVER), context)
    result = context["ti"].xcoms["return_value"]
    assert (result["succeeded"], result["failed"]) == (1, 1)
    assert [*_results(result)] == [0]
    assert not active(scene)


def test_the_end_of_the_window_leaves_going_what_the_user_wants_to_go_on(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=60, when="quick", times=None))
    _quick(scene, in_progress=6000)
    left_going(scene, bulk(items=["quick", "slow"]))
    scene.simulator.advance(600)
    context = scene.retry(scene.kept)
    task = bulk(items=["quick", "slow"], completion_window=LONG_OVER, cancel_on_timeout=False)
    with pytest.raises(RunTimeoutError, match=r"go on and bill.*stop --path"):
        scene.run(task, context)
    result = context["ti"].xcoms["return_value"]
    assert (result["succeeded"], result["active"]) == (1, 1)
    assert [*_results(result)] == [0]
    assert len(active(scene)) == 1


def test_no_more_are_active_than_allowed(scene: Scene, bulk: Bulk) -> None:
    _quick(scene, in_progress=0.2)
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
    _quick(scene)
    scene.simulator.fault(
        Fault(method="POST", path=r"^/responses$", kind="status", status=429, times=3, retry_after=1)
    )
    result = scene.run(bulk(items=["a", "b", "c", "d"]), scene.kept)
    assert result["succeeded"] == 4


def test_a_create_whose_answer_is_lost_is_named_and_not_sent_again(scene: Scene, bulk: Bulk) -> None:
    _quick(scene)
    scene.simulator.fault(Fault(method="POST", path=r"^/responses$", kind="lost", times=1))
    result = scene.run(bulk(items=["a", "b"]), scene.kept)
    assert (result["succeeded"], result["lost"]) == (1, 1)
    [lost] = [item for item in read_results(result, failed=True) if item["state"] == "lost"]
    assert "may be going and billing" in lost["error"]
    assert _asked(scene) == {"a": 1, "b": 1}


def test_an_answer_that_comes_with_its_create_is_kept(scene: Scene, bulk: Bulk) -> None:
    _quick(scene, ignores_background=True)
    result = scene.run(bulk(items=["a", "b"]), scene.kept)
    assert sorted(_results(result)) == [0, 1]
    assert scene.simulator.count("GET") == 0


# -- deferred -----------------------------------------------------------------------------------------------


def test_a_long_wait_is_handed_to_the_triggerer_and_a_worker_collects(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    _quick(scene, in_progress=2)
    task = bulk(deferrable=True, items=["a", "b", "c"])
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(scene.kept)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_provider_openai_runs.triggers.BulkCompletionTrigger"
    assert arguments["count"] == 3
    assert len(json.dumps(arguments)) < 2048
    event = scene.fire(deferred.value.trigger)
    assert event["reason"] == "ended"
    result = bulk(deferrable=True, items=["a", "b", "c"]).execute_complete(scene.kept, event)
    assert sorted(_results(result)) == [0, 1, 2]
    assert scene.creates() == 3


def test_a_worker_is_woken_when_there_is_room_for_further_creates(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    scene.simulator.script(Scenario(queued=0, in_progress=1, times=1))
    _quick(scene, in_progress=3)
    task = bulk(deferrable=True, items=[str(number) for number in range(6)], max_active=4)
    with scene.time_stands_still():
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(scene.kept)
        assert scene.creates() == 4
        scene.simulator.advance(2)
        event = scene.fire(deferred.value.trigger)
    assert (event["reason"], event["ended"]) == ("room", 1)
    result = scene.run(_Resumed(task, event), scene.kept)
    assert result["succeeded"] == 6
    assert scene.creates() == 6


def test_a_file_that_is_missing_is_never_the_end_of_the_wait(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.triggers.bulk.STORAGE_PAUSE", 0)
    trigger = BulkCompletionTrigger(path=f"{tmp_path}/waiting/x.jsonl", conn_id="openai_default", count=3)
    event = scene.fire(trigger)
    assert event["reason"] == "unreadable"
    _quick(scene)
    assert scene.run(_Resumed(bulk(), event), scene.kept)["succeeded"] == 20  # by the journal


def test_the_trigger_ends_the_runs_at_the_end_of_the_window(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.DEFERS_AFTER", 0.3)
    _quick(scene, in_progress=600)
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


# -- the next attempt ---------------------------------------------------------------------------------------


def test_a_retry_goes_on_with_every_run_and_creates_only_what_was_never_sent(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quick(scene, in_progress=1)
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.driver.BULK_KILL_SECONDS", 0.5)
    scene.store.fail("set", ConnectionError("Airflow is away"), skip=3)
    task = bulk(max_unrecorded=5)
    killer = when(lambda: scene.creates() and scene.store.failed, task.on_kill)
    with pytest.raises(OpenAIRunError, match="killed"):
        task.execute(scene.kept)
    killer.join()
    before = scene.creates()
    assert 0 < before < 20
    scene.store.recover()
    result = scene.run(bulk(max_unrecorded=5), scene.retry(scene.kept))
    assert result["succeeded"] + result["lost"] == 20
    assert max(_asked(scene).values()) == 1


def test_a_worker_that_goes_away_leaves_its_runs_to_the_retry(scene: Scene, bulk: Bulk) -> None:
    _quick(scene, in_progress=3)
    task = bulk(items=["a", "b"])
    killer = when_created(scene, 2, task.on_kill)
    with pytest.raises(OpenAIRunError, match="2 runs may be running"):
        task.execute(scene.kept)
    killer.join()
    assert scene.simulator.count("POST", r"/cancel$") == 0
    result = scene.run(bulk(items=["a", "b"]), scene.retry(scene.kept))
    assert result["succeeded"] == 2
    assert scene.creates() == 2


def test_a_marked_task_ends_its_runs(scene: Scene, bulk: Bulk) -> None:
    _quick(scene, in_progress=60)
    task = bulk(items=["a", "b"])

    def mark() -> None:
        scene.kept["ti"].state = "failed"
        task.on_kill()

    killer = when_created(scene, 2, mark)
    with pytest.raises(OpenAIRunError, match="No run of it is active"):
        task.execute(scene.kept)
    killer.join()
    assert not active(scene)


def test_a_mark_that_reaches_no_worker_is_found_by_the_worker(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.fence.FENCE_EVERY", 0.2)
    _quick(scene, in_progress=60)
    ti = scene.kept["ti"]
    marking = when_created(scene, 2, lambda: setattr(ti, "state", "success"))
    with pytest.raises(OpenAIRunError, match="killed"):
        bulk(items=["a", "b"]).execute(scene.kept)
    marking.join()
    assert not active(scene)


def test_a_worker_whose_task_a_scheduler_has_reset_leaves_its_runs_to_the_next_attempt(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.bulk.fence.FENCE_EVERY", 0.2)
    _quick(scene, in_progress=60)
    resetting = when_created(scene, 2, lambda: setattr(scene.kept["ti"], "state", None))
    with pytest.raises(OpenAIRunError, match="2 runs may be running"):
        bulk(items=["a", "b"]).execute(scene.kept)
    resetting.join()
    assert len(active(scene)) == 2
    scene.simulator.advance(60)
    assert scene.run(bulk(items=["a", "b"]), scene.retry(scene.kept, state="running"))["succeeded"] == 2
    assert scene.creates() == 2


def test_a_clear_ends_the_runs_of_before_and_begins_anew(scene: Scene, bulk: Bulk) -> None:
    _quick(scene, in_progress=1)
    task = bulk(items=["a", "b"])
    killer = when_created(scene, 2, task.on_kill)
    with pytest.raises(OpenAIRunError):
        task.execute(scene.kept)
    killer.join()
    result = scene.run(bulk(items=["a", "b"]), scene.clear(scene.kept))
    assert result["succeeded"] == 2
    assert scene.simulator.count("POST", r"/cancel$") == 2
    assert _asked(scene) == {"a": 2, "b": 2}


def test_an_attempt_that_was_replaced_ends_what_the_next_one_cannot_know(scene: Scene, bulk: Bulk) -> None:
    _quick(scene, in_progress=60)
    scene.store.fail("set", scene.gone, skip=1)
    with pytest.raises(OpenAIRunError, match="later attempt"):
        bulk(items=["a", "b"]).execute(scene.kept)
    assert scene.creates() == 2
    # Their segment was written within the seconds that the next attempt waits for, so it finds them.
    assert len(active(scene)) == 2
    scene.store.recover()
    with pytest.raises(RunTimeoutError):
        bulk(items=["a", "b"], completion_window=LONG_OVER).execute(scene.retry(scene.kept))
    assert scene.creates() == 2
    assert not active(scene)


def test_the_time_limit_of_airflow_ends_the_runs_and_a_retry_creates_others(scene: Scene, bulk: Bulk) -> None:
    _quick(scene, in_progress=600)
    over = when_created(scene, 2, lambda: os.kill(os.getpid(), signal.SIGALRM))
    with pytest.raises(AirflowTaskTimeout), timeout(60):
        bulk(items=["a", "b"]).execute(scene.kept)
    over.join()
    assert scene.creates() == 2
    assert not active(scene)
    scene.simulator.reset()
    _quick(scene)
    result = scene.run(bulk(items=["a", "b"], item_retries=0), scene.retry(scene.kept))
    assert (result["succeeded"], scene.creates()) == (2, 2)


def test_a_time_limit_that_is_over_while_the_task_is_deferred_leaves_its_items_to_a_retry(
    scene: Scene, bulk: Bulk
) -> None:
    _quick(scene, in_progress=600)
    left_going(scene, bulk(items=["a", "b"]))
    over = {"reason": "time_is_over", "attempt_deadline": time.time()}
    with pytest.raises(RunTimeoutError, match=r"execution_timeout is over.*stop --path") as raised:
        bulk(items=["a", "b"], item_retries=0).execute_complete(scene.retry(scene.kept), over)
    assert raised.value.retryable
    assert not active(scene)
    scene.simulator.reset()
    _quick(scene)
    result = scene.run(bulk(items=["a", "b"], item_retries=0), scene.retry(scene.kept, try_number=3))
    assert (result["succeeded"], scene.creates()) == (2, 2)


def test_a_time_limit_that_is_over_on_the_last_try_is_why_its_items_failed(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    _quick(scene, in_progress=600)
    left_going(scene, bulk(items=["a", "b"]))
    over = {"reason": "time_is_over", "attempt_deadline": time.time()}
    with pytest.raises(RunTimeoutError):
        bulk(items=["a", "b"]).execute_complete(scene.retry(scene.kept, try_number=3), over)
    said = "".join(path.read_text() for path in tmp_path.rglob("results/*.jsonl"))
    assert said.count("cancelled by this task: execution_timeout is over") == 2


def test_another_input_is_refused_before_anything_is_paid_for(scene: Scene, bulk: Bulk) -> None:
    _quick(scene, in_progress=60)
    task = bulk(items=["a", "b"])
    killer = when_created(scene, 2, task.on_kill)
    with pytest.raises(OpenAIRunError):
        task.execute(scene.kept)
    killer.join()
    with pytest.raises(RunRequestError, match="input has changed"):
        bulk(items=["a", "c"]).execute(scene.retry(scene.kept))
    assert scene.creates() == 2


# -- arguments ----------------------------------------------------------------------------------------------


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
    ],
)
def test_what_a_bulk_task_cannot_do_is_refused_when_its_dag_is_parsed(
    bulk: Bulk, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(RunRequestError, match=named):
        bulk(**arguments)


def test_airflow_shows_how_many_items_there_are_and_none_of_them(bulk: Bulk) -> None:
    task = bulk(items=["a secret question"])
    task.render_template_fields({})
    assert serialize_template_field(task.items, "items") == "1 items"
