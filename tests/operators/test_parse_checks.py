# SPDX-License-Identifier: Apache-2.0
"""Mistakes are refused when the Dag is parsed; templates wait for their turn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_openai_runs.exceptions import RunRequestError
from airflow_provider_openai_runs.operators import (
    CancelRunOperator,
    CreateResponseOperator,
    CreateRunOperator,
    GetResponseOperator,
    SubmitToolOutputsOperator,
)
from airflow_provider_openai_runs.sensors import ResponseSensor, ThreadRunSensor
from tests.support.scene import Scene

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
NESTED = {"type": "function", "function": {"name": "weather"}}


def weather(city: str) -> str:
    """Tell the weather."""
    return city


def ask(**given: Any) -> CreateResponseOperator:
    """Build a task that creates a response."""
    return CreateResponseOperator(**{"task_id": "ask", "model": "m", "input": "Why?", **given})


def run(**given: Any) -> CreateRunOperator:
    """Build a task that creates a thread run."""
    return CreateRunOperator(**{"task_id": "ask", "thread_id": "thread_1", "assistant_id": "asst_1", **given})


def sensor(**given: Any) -> ResponseSensor:
    """Build a sensor."""
    return ResponseSensor(task_id="wait", response_id="resp_1", **given)


@pytest.mark.parametrize("create", [ask, run])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"completion_window": "2h"}, "write 7200 or timedelta(hours=2)"),
        ({"completion_window": "90 minutes"}, "write 5400 or timedelta(minutes=90)"),
        ({"completion_window": "soon"}, "it is how long this task waits. The API"),
        ({"completion_window": 0}, "more than 0 seconds"),
        ({"completion_window": timedelta(seconds=-1)}, "more than 0 seconds"),
        ({"poll_interval": "1.5m"}, "write 90 or timedelta(minutes=1.5)"),
        ({"poll_interval": "{{ params.often }}"}, "must be a number"),
        (
            {"poll_interval": 61, "completion_window": timedelta(minutes=1)},
            "longer than completion_window=60 s",
        ),
        ({"timeouts": {"creat": 3}}, "not 'creat'; did you mean 'create'?"),
        ({"timeouts": {"read": "5m"}}, "write 300 or timedelta(minutes=5)"),
        ({"on_incomplete": "acept"}, "did you mean 'accept'?"),
        ({"on_incomplete": "zzz"}, "must be one of 'fail', 'accept'. Nothing"),
        ({"on_lost_create": "resubmitt"}, "did you mean 'resubmit'?"),
        ({"on_active_run": "canceled"}, "did you mean 'cancel'?"),
        ({"on_unendable": "giveup"}, "did you mean 'give_up'?"),
        ({"on_tool_calls": "returns"}, "did you mean 'return'?"),
        ({"on_approval_timeout": "rejected"}, "did you mean 'reject'?"),
        ({"on_second_approval": True}, "on_second_approval=True"),
        ({"functions": weather}, "must be a list"),
    ],
)
def test_a_literal_that_can_never_work_is_refused_by_the_parse(
    create: Callable[..., Any], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(RunRequestError) as caught:
        create(**given)

    assert words in str(caught.value)


@pytest.mark.parametrize("window", ["{{ params.window }}", "{% if x %}1{% endif %}"])
def test_a_template_waits_for_its_turn_and_is_checked_then(scene: Scene, window: str) -> None:
    task = ask(completion_window=window, poll_interval=1)
    rendered: Any = "2h"
    task.completion_window = rendered
    with pytest.raises(RunRequestError, match=r"write 7200 or timedelta\(hours=2\)") as caught:
        task.execute(scene.context)

    assert isinstance(caught.value, AirflowFailException)
    assert scene.simulator.requests == []


def test_the_output_of_another_task_waits_for_its_turn() -> None:
    with DAG("asking", schedule=None):
        before: Any = GetResponseOperator(task_id="before", response_id="resp_1")
        ask(completion_window=before.output["window"], poll_interval=1, tools=before.output["tools"])
        sensor(target_statuses=before.output["statuses"])
    sensor(target_statuses=["{{ params.status }}", "completed"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ask(openai_conn_id="x"), "has no argument 'openai_conn_id'; did you mean 'conn_id'?"),
        (lambda: ask(timeout=60), "did you mean 'completion_window' or 'execution_timeout'?"),
        (lambda: ask(max_tokens=60), "did you mean 'max_output_tokens'?"),
        (lambda: ask(messages=[]), "did you mean 'input'?"),
        (lambda: run(messages=[]), "did you mean 'thread'?"),
        (lambda: run(asistant_id="asst_1"), "did you mean 'assistant_id'?"),
        (lambda: run(retrys=3), "did you mean 'retries'?"),
        (lambda: run(zzz=3), "CreateRunOperator has no argument 'zzz'"),
        (lambda: sensor(targets=["completed"]), "has no argument 'targets'"),
        (lambda: sensor(poll_interval=3), "did you mean 'poke_interval'?"),
        (lambda: sensor(completion_window=3), "did you mean 'timeout'?"),
        (
            lambda: CancelRunOperator(task_id="end", response_id="resp_1", openai_conn_id="x"),
            "CancelRunOperator has no argument 'openai_conn_id'; did you mean 'conn_id'?",
        ),
    ],
)
def test_an_argument_of_another_package_or_a_typo_is_refused_and_the_right_name_is_given(
    make: Callable[[], Any], words: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make()

    assert words in str(caught.value)


def test_an_operator_of_a_users_own_keeps_its_arguments() -> None:
    class Own(CreateResponseOperator):
        def __init__(self, *, team: str, **kwargs: Any) -> None:
            super().__init__(metadata={"team": team}, **kwargs)

    assert Own(task_id="ask", model="m", input="Why?", team="a", retries=2, pool="p").metadata == {
        "team": "a"
    }
    with pytest.raises(TypeError, match="did you mean 'team'"):
        Own(task_id="ask", model="m", input="Why?", team="a", teem="b")


@pytest.mark.parametrize("tool", [TOOL, NESTED])
@pytest.mark.parametrize("place", ["tools", "extra_body"])
def test_a_response_whose_functions_nobody_answers_is_refused(tool: dict[str, Any], place: str) -> None:
    tools: dict[str, Any] = {"tools": [tool]} if place == "tools" else {"extra_body": {"tools": [tool]}}
    with pytest.raises(RunRequestError) as caught:
        ask(**tools, completion_window=60)

    assert "nobody here can answer a call of 'weather'" in str(caught.value)
    assert "on_tool_calls='return'" in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"completion_window": 60, "on_tool_calls": "return"},
        {"completion_window": 60, "functions": [weather]},
        {"completion_window": 60, "tool_choice": "none"},
        {"completion_window": 60, "tool_choice": {"type": "web_search"}, "tools": [{"type": "web_search"}]},
        {"completion_window": 60, "tools": "{{ params.tools }}"},
        {"completion_window": 60, "tools": [{"type": "web_search"}]},
    ],
)
def test_tools_that_are_answered_or_never_called_are_no_mistake(given: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for create in (ask, run):
            create(**{"tools": [TOOL], **given})
        SubmitToolOutputsOperator(task_id="on", ref={}, outputs={}, tools=[TOOL], completion_window=60)


def test_a_thread_run_whose_functions_nobody_answers_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="ask: tools: nobody here can answer a call of 'weather'"):
        run(tools=[TOOL], completion_window=60)


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        (["completd"], "no status of the API; did you mean 'completed'?"),
        (["completed", "canceled"], "did you mean 'cancelled'?"),
        ("completed", "must be a list"),
        ([""], "must be a non-empty string"),
        ([3], "must be a non-empty string"),
    ],
)
def test_a_status_that_is_nearly_one_is_refused(statuses: Any, words: str) -> None:
    with pytest.raises(RunRequestError) as caught:
        sensor(target_statuses=statuses)

    assert words in str(caught.value)


def test_a_status_that_only_a_server_knows_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="'paused' is no status of the API"):
        ThreadRunSensor(task_id="wait", run_id="thread_1:run_1", target_statuses=["paused"])


@pytest.mark.parametrize(
    "name", ["deferrable", "cancel_on_kill", "cancel_on_timeout", "end_from_trigger", "provider_metadata"]
)
def test_a_flag_that_is_a_text_is_read_or_refused_and_never_simply_true(name: str) -> None:
    assert getattr(ask(**{name: "False"}), name) is False
    assert getattr(ask(**{name: "true"}), name) is True
    with pytest.raises(RunRequestError, match=f"{name}='no': must be true or false"):
        ask(**{name: "no"})
