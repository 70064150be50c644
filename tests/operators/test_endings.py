# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunCancelledError,
    RunExpiredError,
    RunFailedError,
    RunIncompleteError,
    ToolCallsPendingError,
)
from airflow_provider_openai_runs.simulator import FunctionCall, Scenario
from tests.support.scene import Make, Scene

RATE_LIMIT = {"code": "rate_limit_exceeded", "message": "Slow down."}
INVALID = {"code": "invalid_prompt", "message": "Not like this."}


def quick(**rest: Any) -> Scenario:
    return Scenario(queued=0.02, in_progress=0.05, **rest)


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@pytest.mark.parametrize(
    ("scenario", "kind", "retryable", "words"),
    [
        (quick(ends="failed", error=RATE_LIMIT), RunFailedError, True, ["rate_limit_exceeded", "new run"]),
        (quick(ends="failed", error=INVALID), RunFailedError, False, ["invalid_prompt", "fail again"]),
        (quick(ends="cancelled"), RunCancelledError, False, ["somebody other", "clear the task"]),
        (
            quick(ends="incomplete", incomplete_reason="content_filter"),
            RunIncompleteError,
            False,
            ["content_filter", "on_incomplete='accept'", "completion tokens"],
        ),
    ],
    ids=["rate limit", "invalid prompt", "cancelled by somebody", "incomplete"],
)
def test_a_run_that_ends_without_an_answer_fails_the_task_with_its_own_error_and_leaves_its_result_in_xcom(
    scene: Scene,
    create: Make,
    scenario: Scenario,
    kind: type[OpenAIRunError],
    words: list[str],
    *,
    retryable: bool,
    deferrable: bool,
) -> None:
    scene.simulator.script(scenario)
    with pytest.raises(kind) as caught:
        scene.run(create(deferrable=deferrable))

    text = str(caught.value)
    run = scene.simulator.runs()[0]
    assert isinstance(caught.value, AirflowException)
    assert isinstance(caught.value, AirflowFailException) is not retryable
    assert not [word for word in (*words, run["id"], "XCom 'return_value'") if word not in text]
    left = scene.context["ti"].xcoms["return_value"]
    assert (left["id"], left["status"]) == (run["id"], scenario.ends)
    assert scene.creates() == 1


def test_a_thread_run_that_the_server_gives_up_is_expired_and_may_be_tried_again(
    scene: Scene, run_on: Make
) -> None:
    scene.simulator.script(Scenario(in_progress=60, expires_after=0.2))
    with pytest.raises(RunExpiredError, match="expired") as caught:
        run_on().execute(scene.context)

    assert not isinstance(caught.value, AirflowFailException)
    assert scene.context["ti"].xcoms["return_value"]["status"] == "expired"


def test_the_partial_answer_of_an_incomplete_run_is_accepted_on_demand(scene: Scene, create: Make) -> None:
    scene.simulator.script(quick(ends="incomplete", text="The sky is"))
    found = create(on_incomplete="accept").execute(scene.context)

    assert found["status"] == "incomplete"
    assert found["incomplete_details"]["reason"]


def test_an_incomplete_run_names_the_ceiling_that_it_reached(scene: Scene, respond: Make) -> None:
    scene.simulator.script(quick(ends="incomplete", incomplete_reason="max_output_tokens"))
    with pytest.raises(RunIncompleteError, match=r"max_output_tokens.*max_output_tokens=64"):
        respond(max_output_tokens=64).execute(scene.context)


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_thread_run_that_waits_for_a_tool_call_is_cancelled_before_the_task_fails(
    scene: Scene, run_on: Make, *, deferrable: bool
) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Oslo"})
    scene.simulator.script(quick(function_calls=((call,),)))
    with pytest.raises(ToolCallsPendingError, match=r"weather\(.*Oslo.*The run was cancelled") as caught:
        scene.run(run_on(deferrable=deferrable), scene.kept)

    assert isinstance(caught.value, AirflowFailException)
    assert scene.simulator.active() == []
    assert scene.store.record["ended_by_us"]
    assert scene.kept["ti"].xcoms["return_value"]["tool_calls"][0]["name"] == "weather"


def test_a_response_that_ends_in_a_tool_call_fails_the_task_and_is_not_finished_from_by_a_retry(
    scene: Scene, respond: Make
) -> None:
    scene.simulator.script(quick(function_calls=((FunctionCall(name="weather"),),)), quick())
    with pytest.raises(ToolCallsPendingError, match="weather"):
        scene.run(respond(deferrable=True), scene.kept)

    assert scene.store.record["refused"]
    assert scene.run(respond(), scene.retry(scene.kept))["output_text"]
    assert len(scene.simulator.runs()) == 2


def test_what_a_server_says_is_cut_and_its_keys_are_taken_out(scene: Scene, respond: Make) -> None:
    error = {"code": "invalid_prompt", "message": "Bad key sk-verysecret1234 " + "x" * 2000}
    scene.simulator.script(quick(ends="failed", error=error))
    with pytest.raises(RunFailedError) as caught:
        respond().execute(scene.context)

    assert "sk-verysecret" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_steps_of_more_than_a_megabyte_stay_at_the_server(scene: Scene, respond: Make) -> None:
    scene.simulator.script(quick(text="x" * 600_000))
    found = respond().execute(scene.context)

    assert found["steps_truncated"] is True
    assert found["steps"]
    assert not [step for step in found["steps"] if step["details"]]
    assert len(found["output_text"]) == 600_000


def test_the_credentials_of_an_mcp_server_do_not_get_into_xcom(scene: Scene, respond: Make) -> None:
    scene.simulator.script(quick())
    tool = {"type": "mcp", "server_label": "a", "server_url": "https://a", "authorization": "secret-1"}
    found = respond(tools=[tool]).execute(scene.context)

    created = scene.simulator.requests[0]
    assert created.body["tools"][0]["authorization"] == "secret-1"
    assert "secret-1" not in str(found)
