# SPDX-License-Identifier: Apache-2.0
"""Every row of wrong arguments: an error that names argument, value and rule, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_openai_runs.exceptions import RunRequestError
from airflow_provider_openai_runs.operators import (
    CancelRunOperator,
    CreateResponseOperator,
    CreateRunOperator,
    GetResponseOperator,
    GetThreadRunOperator,
)
from airflow_provider_openai_runs.sensors import ResponseSensor, ThreadRunSensor
from tests.support.scene import Scene

OF_RUN: dict[str, Any] = {"task_id": "ask", "thread_id": "thread_1", "assistant_id": "asst_1"}
PROMPT: Any = "Why?"
OF_RESPONSE: dict[str, Any] = {"task_id": "ask", "model": "gpt-4o-mini", "input": "Why?"}

#: As the task of another operator returns it.
RESULT: Any = {
    "ref": {"kind": "response", "id": "resp_1"},
    "id": "resp_1",
    "output_text": "Blue.",
    "usage": None,
}

BOTH: list[tuple[dict[str, Any], list[str]]] = [
    ({"temperature": 3}, ["temperature=3", "between 0 and 2"]),
    ({"temperature": "{{ high }}"}, ["temperature='{{ high }}'", "must be a number"]),
    ({"temperature": float("nan")}, ["temperature=nan", "not a finite number"]),
    ({"top_p": 2}, ["top_p=2", "between 0 and 1"]),
    ({"completion_window": "2h"}, ["completion_window='2h'", "seconds", "background_options", "batch"]),
    ({"completion_window": "24h"}, ["completion_window='24h'", "seconds"]),
    ({"completion_window": -1}, ["completion_window=-1", "more than 0 seconds"]),
    ({"completion_window": 0}, ["completion_window=0", "more than 0 seconds"]),
    ({"poll_interval": 0}, ["poll_interval=0", "more than 0 seconds"]),
    ({"poll_interval": "often"}, ["poll_interval='often'", "must be a number"]),
    ({"timeouts": {"delte": 3}}, ["timeouts", "delte", "create, read and delete"]),
    ({"timeouts": {"create": 0}}, ["timeouts['create']=0", "more than 0 seconds"]),
    ({"tools": {"type": "function"}}, ["tools=", "must be a list"]),
    ({"tools": [{"type": "function"}]}, ["tools[0]", "function"]),
    ({"tools": [{"type": "function", "function": {}}]}, ["tools[0]", "name"]),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": "[1]"}}]},
        ["parameters", "JSON object"],
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": "{"}}]},
        ["parameters", "JSON object"],
    ),
    ({"metadata": {f"k{n}": "v" for n in range(16)}}, ["metadata", "16 pairs", "at most 15"]),
    ({"metadata": {"k": None}}, ["metadata['k']=None", "must be text"]),
    ({"metadata": {"k": b"v"}}, ["metadata['k']=b'v'", "JSON has no form for a bytes"]),
    ({"metadata": "team=data"}, ["metadata='team=data'", "must be a dict"]),
    ({"model": ""}, ["model=''", "must be a non-empty string", "rendered to nothing"]),
    *(
        ({"model": value}, [f"model={value!r}", "must be a non-empty string", "rendered to nothing"])
        for value in ("None", " ")
    ),
    ({"instructions": "None"}, ["instructions='None'", "rendered to nothing, or to None"]),
    *(
        ({"completion_window": value}, [f"completion_window={value!r}", "seconds", "rendered to nothing"])
        for value in ("None", "", " ")
    ),
    ({"extra_body": {"model": "other"}, "model": "m"}, ["extra_body", "repeats the argument 'model'"]),
    ({"extra_body": {"stream": True}}, ["extra_body", "cannot stream"]),
]
OF_RUN_ONLY: list[tuple[dict[str, Any], list[str]]] = [
    ({"max_tokens": 500, "max_completion_tokens": 500}, ["max_tokens=500", "max_completion_tokens=500"]),
    ({"max_tokens": 0}, ["max_tokens=0", "at least 1"]),
    ({"max_prompt_tokens": 1.5}, ["max_prompt_tokens=1.5", "whole number"]),
    ({"thread_id": "a/../b"}, ["thread_id='a/../b'", "must be the id of a thread"]),
    *(
        ({"thread_id": value}, [f"thread_id={value!r}", "the id of a thread", "rendered to nothing"])
        for value in ("", " ", "None")
    ),
    *(
        ({name: value}, [f"{name}={value!r}", "must be a non-empty string", "rendered to nothing"])
        for name in ("assistant_id", "reasoning_effort")
        for value in ("", " ", "None")
    ),
    ({"additional_instructions": "None"}, ["additional_instructions='None'", "rendered to nothing"]),
    (
        {"additional_messages": [{"role": "user", "content": "None"}]},
        ["additional_messages[0]['content']='None'", "is blank"],
    ),
    (
        {"thread_id": None, "thread": {"messages": [{"role": "user", "content": " "}]}},
        ["thread['messages'][0]['content']=' '", "is blank"],
    ),
    (
        {"thread_id": None, "thread": {"metadata": {"a": b"x"}}},
        ["thread['metadata']['a']=b'x'", "JSON has no form"],
    ),
    ({"thread_id": None, "thread": {"messages": [{"role": "user"}]}}, ["thread['messages'][0]", "content"]),
]
OF_RESPONSE_ONLY: list[tuple[dict[str, Any], list[str]]] = [
    ({"max_output_tokens": 0}, ["max_output_tokens=0", "at least 1"]),
    ({"top_logprobs": 21}, ["top_logprobs=21", "whole number from 0 to 20"]),
    ({"input": ""}, ["input=''", "is blank"]),
    ({"input": " \n"}, ["input=' \\n'", "is blank"]),
    ({"input": "None"}, ["input='None'", "is blank", "template"]),
    ({"input": []}, ["input=[]", "is blank"]),
    ({"input": ["Why?", "How?"]}, ["input=['Why?', 'How?']", "is a list of texts", ".expand(input=...)"]),
    ({"input": ("Why?",)}, ["input=", "Why?", "is a list of texts"]),
    ({"input": {"role": "user", "content": "Why?"}}, ["is one message", "input=[...]"]),
    ({"conversation": RESULT}, ["conversation is the whole result", "task.output['thread_id']"]),
    ({"previous_response_id": RESULT}, ["previous_response_id is the whole", "task.output['id']"]),
    ({"processing": "batch"}, ["processing='batch'", "BulkCreateResponsesOperator"]),
    (
        {"input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "None"}]},
        ["input[1]['content']='None'", "is blank"],
    ),
    ({"input": [{"role": "user", "content": float("inf")}]}, ["input[0]['content']=inf", "finite"]),
    ({"input": [{"role": "user", "content": {"a": b"x"}}]}, ["input[0]['content']['a']=b'x'", "JSON"]),
    ({"input": [{"role": "user", "content": "Why?"}, "Why?"]}, ["input[1]='Why?'", "must be a dict"]),
    ({"extra_body": {"x": [object]}}, ["extra_body['x'][0]=", "JSON has no form"]),
    ({"prompt": "{{ text }}"}, ["prompt='{{ text }}'", "JSON object"]),
    ({"prompt": {"version": "2"}}, ["prompt['id']=None", "must be a non-empty string"]),
    ({"reasoning": "low"}, ["reasoning='low'", "must be a dict"]),
    *(
        ({name: value}, [f"{name}={value!r}", "must be a non-empty string", "rendered to nothing"])
        for name in (
            *("previous_response_id", "conversation", "service_tier", "truncation"),
            "prompt_cache_retention",
        )
        for value in ("", " ", "None")
    ),
    *(
        ({name: "None"}, [f"{name}='None'", "rendered to nothing"])
        for name in ("prompt_cache_key", "safety_identifier", "user")
    ),
    ({"conversation": {"id": "None"}}, ["conversation['id']='None'", "rendered to nothing"]),
    ({"prompt": {"id": "None"}}, ["prompt['id']='None'", "rendered to nothing"]),
]
CASES = [
    *((CreateRunOperator, OF_RUN, *case) for case in [*BOTH, *OF_RUN_ONLY]),
    *((CreateResponseOperator, OF_RESPONSE, *case) for case in [*BOTH, *OF_RESPONSE_ONLY]),
]


@pytest.mark.parametrize(
    ("operator", "base", "wrong", "words"),
    CASES,
    ids=[f"{kind.__name__} {str(wrong)[:60]}" for kind, _, wrong, _ in CASES],
)
def test_a_wrong_value_is_refused_before_anything_is_sent(
    scene: Scene, operator: type[Any], base: dict[str, Any], wrong: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RunRequestError) as caught:
        operator(**{**base, **wrong}).execute(scene.context)

    text = str(caught.value)
    assert not [word for word in (*words, "Nothing was sent") if word not in text]
    assert scene.simulator.requests == []
    # In truth: the store holds no intent of something that was never sent.
    store = scene.context.get("task_state_store")
    assert store is None or store.writes == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CreateRunOperator(task_id="a", assistant_id="asst_1"), ["thread_id", "thread", "neither"]),
        (lambda: CreateRunOperator(**OF_RUN, thread={"messages": []}), ["thread_id", "thread", "both"]),
        (lambda: CreateRunOperator(task_id="a", thread_id="thread_1"), ["assistant_id=None", "required"]),
        (lambda: CreateResponseOperator(task_id="a", model="m"), ["input=None", "required", "prompt={'id'"]),
        (lambda: CreateResponseOperator(task_id="a", prompt=PROMPT), ["prompt='Why?'", "input=..."]),
        (lambda: CreateResponseOperator(**OF_RESPONSE, stream=True), ["stream=True", "cannot stream"]),
        (lambda: CreateRunOperator(**OF_RUN, stream=True), ["stream=True", "cannot stream"]),
        (
            lambda: CreateResponseOperator(
                **OF_RESPONSE, conversation="conv_1", previous_response_id="resp_1"
            ),
            ["conversation='conv_1'", "previous_response_id='resp_1'", "exclude each other"],
        ),
        (lambda: GetThreadRunOperator(task_id="a"), ["Name one run", "run_id=None"]),
        (lambda: GetResponseOperator(task_id="a"), ["Name one run", "response_id=None"]),
        (lambda: CancelRunOperator(task_id="a"), ["Name one run"]),
        (
            lambda: CancelRunOperator(task_id="a", response_id="resp_1", run_id="thread_1:run_1"),
            ["Name one run", "resp_1", "thread_1:run_1"],
        ),
        (lambda: ThreadRunSensor(task_id="a"), ["Name one run"]),
        (
            lambda: ResponseSensor(task_id="a", response_id="resp_1", target_statuses=[]),
            ["target_statuses=[]", "names no status"],
        ),
        (lambda: ResponseSensor(task_id="a", ref={}, response_id="resp_1"), ["Name one run"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_missing_or_twice_is_refused_when_the_dag_is_parsed(
    make: Callable[[], Any], words: list[str]
) -> None:
    with pytest.raises(RunRequestError) as caught:
        make()

    assert not [word for word in words if word not in str(caught.value)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: CreateRunOperator(**OF_RUN, assistent="asst_1"),
        lambda: CreateResponseOperator(**OF_RESPONSE, max_tokenz=1),
        lambda: GetResponseOperator(task_id="a", response_id="resp_1", steps=True),
        lambda: CancelRunOperator(task_id="a", response_id="resp_1", force=True),
        lambda: ResponseSensor(task_id="a", response_id="resp_1", targets=["completed"]),
    ],
    ids=["assistent", "max_tokenz", "steps", "force", "targets"],
)
def test_an_unknown_argument_is_refused_by_name(make: Callable[[], Any], request: Any) -> None:
    with pytest.raises((TypeError, AirflowException), match=request.node.callspec.id):
        make()


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        (GetResponseOperator(task_id="a", response_id="None"), ["response_id='None'", "rendered to nothing"]),
        (GetResponseOperator(task_id="a", response_id=" "), ["response_id=' '", "rendered to nothing"]),
        (GetResponseOperator(task_id="a", response_id="a/../b"), ["response_id='a/../b'", "id of a run"]),
        (GetResponseOperator(task_id="a", response_id=RESULT), ["response_id is the whole", "output['id']"]),
        (CancelRunOperator(task_id="a", ref=RESULT), ["ref is the whole result", "task.output['ref']"]),
        (ResponseSensor(task_id="a", ref=RESULT), ["ref is the whole result", "task.output['ref']"]),
        (CancelRunOperator(task_id="a", ref=str(RESULT["ref"])), ["a template makes text of it"]),
        (GetThreadRunOperator(task_id="a", thread_id="None", run_id="r"), ["thread_id='None'", "a thread"]),
        (GetThreadRunOperator(task_id="a", thread_id="t", run_id="None"), ["run_id='None'", "of a run"]),
    ],
)
def test_a_slip_of_a_template_or_an_xcom_is_named_as_the_argument_that_was_written(
    scene: Scene, operator: Any, words: list[str]
) -> None:
    with pytest.raises(RunRequestError) as caught:
        operator.execute(scene.context)

    assert not [word for word in (*words, "Nothing was sent") if word not in str(caught.value)]
    assert scene.simulator.requests == []


@pytest.mark.parametrize(
    "operator",
    [
        GetThreadRunOperator(task_id="a", run_id="run_1"),
        GetThreadRunOperator(task_id="a", thread_id="thread_1"),
        GetResponseOperator(task_id="a", ref={"kind": "batch", "id": "batch_1"}),
        CancelRunOperator(task_id="a", ref={"kind": "thread_run", "id": "run_1"}),
        CancelRunOperator(task_id="a", response_id="resp_1", wait=0),
    ],
    ids=lambda operator: f"{type(operator).__name__} {operator.__dict__.get('ref')}",
)
def test_a_run_that_is_not_named_properly_is_refused_when_the_task_runs(scene: Scene, operator: Any) -> None:
    with pytest.raises(RunRequestError) as caught:
        operator.execute(scene.context)

    assert isinstance(caught.value, AirflowFailException)
    assert scene.simulator.requests == []
