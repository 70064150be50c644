# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunCallError,
    RunConnectionError,
    RunNotFoundError,
    ThreadBusyError,
    ThreadsNotServedError,
)
from airflow_provider_openai_runs.operators import CreateRunOperator
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator
from tests.support.scene import Make, Scene

LONG = Scenario(in_progress=500)


def refused(operator: Any, context: dict[str, Any], kind: type[OpenAIRunError], *words: str) -> None:
    """Check that a task fails at once, and that its error says all of this."""
    with pytest.raises(kind) as caught:
        operator.execute(context)
    assert isinstance(caught.value, AirflowFailException)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_a_wrong_key_fails_at_once_and_creates_nothing(
    scene: Scene, create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Simulator(require_key="sk-right-one") as strict:
        connection = {**strict.connection, "password": "sk-wrong-one"}
        monkeypatch.setenv("AIRFLOW_CONN_STRICT", json.dumps(connection))
        operator = create(conn_id="strict")
        refused(
            operator, scene.context, RunConnectionError, "'strict'", "HTTP 401", "refused the key", "clear"
        )

        assert strict.runs() == []


def test_a_connection_that_does_not_exist_is_named(scene: Scene, create: Make) -> None:
    refused(
        create(conn_id="no_such_conn"),
        scene.context,
        RunConnectionError,
        "There is no connection 'no_such_conn'",
        "type openai",
    )
    assert scene.creates() == 0


def test_a_connection_without_a_key_is_named(
    scene: Scene, create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_KEYLESS", json.dumps({"conn_type": "openai"}))
    refused(create(conn_id="keyless"), scene.context, RunConnectionError, "'keyless'", "api_key")

    assert scene.creates() == 0


def test_a_model_that_does_not_exist_fails_at_once(scene: Scene, create: Make) -> None:
    refused(
        create(model="no-such-model"), scene.context, RunCallError, "no-such-model", "does not exist", "again"
    )
    assert scene.simulator.runs() == []


def test_an_intent_whose_create_was_refused_is_taken_off_the_record(scene: Scene, create: Make) -> None:
    refused(create(model="no-such-model"), scene.kept, RunCallError)

    assert len(scene.store.writes) == 1
    assert scene.store.record is None


@pytest.mark.parametrize("wrong", ["thread_id", "assistant_id"])
def test_a_thread_or_assistant_that_does_not_exist_is_not_found(
    scene: Scene, run_on: Make, wrong: str
) -> None:
    refused(run_on(**{wrong: "unknown_1"}), scene.context, RunNotFoundError, "unknown_1", "HTTP 404")


def test_a_conversation_or_response_that_does_not_exist_is_named(scene: Scene, respond: Make) -> None:
    refused(respond(conversation="conv_unknown"), scene.context, RunCallError, "conv_unknown")
    refused(respond(previous_response_id="resp_unknown"), scene.context, RunCallError, "resp_unknown")


@pytest.mark.parametrize(
    "of_thread", [{"thread_id": "thread_1"}, {"thread": {"messages": []}}], ids=["existing", "new"]
)
def test_a_server_without_threads_says_since_when_and_which_lines_change(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, of_thread: dict[str, Any]
) -> None:
    with Simulator(no_threads=True) as today:
        monkeypatch.setenv("AIRFLOW_CONN_TODAY", today.connection_json)
        operator = CreateRunOperator(
            task_id="ask", conn_id="today", assistant_id="asst_1", completion_window=5, **of_thread
        )
        refused(
            operator,
            scene.context,
            ThreadsNotServedError,
            "2026-08-26",
            "CreateResponseOperator",
            "model=",
            "input=",
            "conversation=",
        )


def test_a_thread_that_is_busy_with_somebody_elses_run_is_left_alone(scene: Scene, run_on: Make) -> None:
    scene.simulator.script(LONG)
    other = scene.post(f"/threads/{scene.thread_id}/runs", assistant_id=scene.assistant_id)
    with pytest.raises(ThreadBusyError, match=f"busy with run {other['id']}, which was left alone") as caught:
        run_on().execute(scene.context)

    assert not isinstance(caught.value, AirflowFailException)
    assert [run["id"] for run in scene.simulator.active()] == [other["id"]]


def test_a_thread_that_is_busy_with_our_own_run_gives_it_back(scene: Scene, run_on: Make) -> None:
    scene.simulator.script(Scenario(in_progress=8))
    first = run_on(completion_window=None).execute(scene.context_of(None))
    scene.simulator.script(LONG)
    # The same attempt once more, as after a worker that lost everything it knew.
    found = run_on(completion_window=20).execute(scene.context_of(None))

    assert (found["id"], found["status"]) == (first["id"], "completed")


def test_a_create_that_is_to_come_back_later_is_sent_again_and_the_log_says_so(
    scene: Scene, create: Make
) -> None:
    path = r"^/(responses|threads/[^/]+/runs)$"
    scene.simulator.script(Scenario(queued=0, in_progress=0.1))
    scene.simulator.fault(Fault(method="POST", path=path, status=429))
    log = scene.log_of(operator := create())
    assert operator.execute(scene.context)["status"] == "completed"
    [line] = [line for line in log if "sent again" in line]
    assert "The create was not accepted (HTTP 429" in line
    assert line.endswith("it is sent again in 1 s")


def test_an_account_without_quota_fails_at_once(scene: Scene, create: Make) -> None:
    path = r"^/(responses|threads/[^/]+/runs)$"
    scene.simulator.fault(Fault(method="POST", path=path, status=429, code="insufficient_quota"))
    refused(create(), scene.context, RunCallError, "quota")


def test_missing_rights_fail_at_once(scene: Scene, create: Make) -> None:
    scene.simulator.fault(Fault(method="POST", status=403, times=None))
    refused(create(), scene.context, RunConnectionError, "HTTP 403", "key or its rights")


def test_a_key_that_is_refused_while_waiting_is_read_again_and_the_wait_goes_on(
    scene: Scene, respond: Make
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1))
    scene.simulator.fault(Fault(method="GET", path="^/responses/", status=401))

    assert respond().execute(scene.context)["status"] == "completed"


def test_a_key_that_stays_refused_ends_the_wait_and_leaves_the_run_alone(
    scene: Scene, respond: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.PERMANENT_FAILURE_BUDGET", 0.5)
    scene.simulator.script(LONG)
    scene.simulator.fault(Fault(path="^/responses/", status=401, times=None))
    with pytest.raises(OpenAIRunError, match=r"left running and billing.*Fix the connection") as caught:
        respond().execute(scene.context)

    assert not isinstance(caught.value, AirflowFailException)
    assert len(scene.simulator.active()) == 1
