# SPDX-License-Identifier: Apache-2.0
"""Calls that another task answers: ``on_tool_calls="return"``, then ``SubmitToolOutputsOperator``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import (
    LostCreateError,
    RunCancelledError,
    RunRequestError,
    ToolCallsPendingError,
)
from airflow_provider_openai_runs.operators import SubmitToolOutputsOperator
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario, Simulator

ASKS = (FunctionCall(name="weather", arguments={"city": "Oslo"}),)


@pytest.fixture
def waiting(
    create: Callable[..., Any],
    run_task: Callable[..., Any],
    context_of: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> Callable[..., dict[str, Any]]:
    """Make a run that waits for the answers to its calls, by a task of its own."""

    def make(*rounds: Any, in_progress: float = 0.02) -> dict[str, Any]:
        openai_runs_simulator.script(
            Scenario(
                function_calls=rounds or (ASKS,),
                queued=0.01,
                in_progress=in_progress,
                times=None,
                text="Blue.",
            )
        )
        found: dict[str, Any] = run_task(create(on_tool_calls="return"), context_of(None, task_id="ask"))
        return found

    return make


@pytest.fixture
def submit(openai_runs_simulator: Simulator) -> Callable[..., SubmitToolOutputsOperator]:
    def make(run: dict[str, Any], outputs: Any = None, **arguments: Any) -> SubmitToolOutputsOperator:
        answers = {call["id"]: "sunny" for call in run["tool_calls"]}
        given = {
            "task_id": "ask",
            "ref": run["ref"],
            "outputs": answers if outputs is None else outputs,
            "completion_window": 30,
            "poll_interval": 0.05,
            "deferrable": False,
        }
        return SubmitToolOutputsOperator(**{**given, **arguments})

    return make


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_another_task_answers_and_waits_for_the_end(
    waiting: Callable[..., Any],
    submit: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    *,
    deferrable: bool,
) -> None:
    run = waiting()
    found = run_task(submit(run, deferrable=deferrable), context)

    assert found["status"] == "completed"
    assert found["output_text"] == "Blue."
    assert (found["id"] == run["id"]) is (run["ref"]["kind"] == "thread_run")


def test_the_next_round_may_be_returned_again(
    waiting: Callable[..., Any],
    submit: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    retry: Callable[..., Any],
    context_of: Callable[..., Any],
) -> None:
    run = waiting(ASKS, (FunctionCall(name="rain"),))
    second = run_task(submit(run, on_tool_calls="return"), context)
    third = run_task(submit(second), context_of(None, task_id="again"))

    assert [call["name"] for call in second["tool_calls"]] == ["rain"]
    assert third["status"] == "completed"


def test_functions_may_answer_the_rounds_that_follow(
    waiting: Callable[..., Any],
    submit: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
) -> None:
    def rain() -> str:
        """Say whether it rains."""
        return "no"

    run = waiting(ASKS, (FunctionCall(name="rain"),))
    found = run_task(submit(run, functions=[rain]), context)

    assert found["status"] == "completed"


@pytest.mark.parametrize("outputs", [{"call_other": "x"}, {"call_other": "x", "call_more": "y"}])
def test_outputs_for_other_calls_are_refused_and_the_run_goes_on_waiting(
    waiting: Callable[..., Any],
    submit: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
    outputs: dict[str, str],
) -> None:
    run = waiting()
    with pytest.raises(RunRequestError, match=r"waits for \['call_"):
        run_task(submit(run, outputs), context)
    found = run_task(submit(run), context)

    assert found["status"] == "completed"
    assert openai_runs_simulator.count("POST", "/cancel$") == 0


def test_a_run_that_waits_for_nothing_is_refused_with_its_status(
    waiting: Callable[..., Any],
    submit: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    context_of: Callable[..., Any],
) -> None:
    run = waiting()
    done = run_task(submit(run), context)
    again = submit(run, {"call_x": "late"})
    if run["ref"]["kind"] == "response":
        again = submit({**run, "ref": done["ref"]}, {"call_x": "late"})
    with pytest.raises(Exception, match=r"waits for no answer: its status is completed"):
        run_task(again, context_of(None, task_id="late"))


def test_no_outputs_at_all_are_refused(waiting: Callable[..., Any], submit: Callable[..., Any]) -> None:
    run = waiting()
    with pytest.raises(RunRequestError, match="outputs"):
        submit(run, {}).execute({"ti": None})


def test_a_retry_after_the_answer_was_sent_does_not_send_it_again(
    waiting: Callable[..., Any],
    submit: Callable[..., Any],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    retry: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    run = waiting()
    with pytest.raises(TaskDeferred):
        submit(run, deferrable=True).execute(kept)
    found = run_task(submit(run, deferrable=True), retry(kept))
    answers = openai_runs_simulator.count("POST", "submit_tool_outputs$")

    assert found["status"] == "completed"
    assert answers + openai_runs_simulator.count("POST", "^/responses$") == (
        1 if run["ref"]["kind"] == "thread_run" else 2
    )


def test_a_clear_answers_a_response_anew_and_tells_what_to_do_about_a_thread_run(
    waiting: Callable[..., Any],
    submit: Callable[..., Any],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    clear: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    run = waiting(in_progress=0.8)
    with pytest.raises(TaskDeferred):
        submit(run, deferrable=True).execute(kept)
    if run["ref"]["kind"] == "thread_run":
        with pytest.raises(RunCancelledError):
            run_task(submit(run), clear(kept))
    else:
        assert run_task(submit(run), clear(kept))["status"] == "completed"
    assert openai_runs_simulator.active() == []


def test_a_lost_answer_to_the_next_response_follows_on_lost_create(
    waiting: Callable[..., Any],
    submit: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    run = waiting()
    openai_runs_simulator.fault(Fault(path="(^/responses|submit_tool_outputs)$", method="POST", kind="lost"))
    if run["ref"]["kind"] == "thread_run":
        assert run_task(submit(run), context)["status"] == "completed"
        return
    with pytest.raises(LostCreateError):
        run_task(submit(run), context)


def test_the_answer_may_be_one_to_an_mcp_tool_that_asks_for_approval(
    respond: Callable[..., Any],
    submit: Callable[..., Any],
    run_task: Callable[..., Any],
    context_of: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(
        Scenario(mcp_approval=FunctionCall(name="roll"), queued=0.01, in_progress=0.02, times=None)
    )
    run = run_task(respond(on_tool_calls="return"), context_of(None))
    (call,) = run["tool_calls"]
    found = run_task(submit(run, {call["id"]: True}), context_of(None, task_id="answer"))
    sent = openai_runs_simulator.requests[-1]
    items = next(
        r.body["input"]
        for r in reversed(openai_runs_simulator.requests)
        if r.method == "POST" and isinstance((r.body or {}).get("input"), list)
    )

    assert sent is not None
    assert items == [{"type": "mcp_approval_response", "approval_request_id": call["id"], "approve": True}]
    assert found["status"] == "completed"


def test_without_an_answer_the_task_fails_and_says_which_call_waits(
    create: Callable[..., Any],
    run_task: Callable[..., Any],
    context: dict[str, Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(Scenario(function_calls=(ASKS,), queued=0.01, in_progress=0.01))
    with pytest.raises(ToolCallsPendingError, match="weather"):
        run_task(create(), context)
