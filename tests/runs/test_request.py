# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.request import RunRequest, checked_timeouts, fingerprint
from airflow_provider_openai_runs.runs.response_request import response_request
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.thread_run_request import thread_run_request

BARE_FUNCTION = {"type": "function"}
NAMELESS = {"type": "function", "function": {"description": "x"}}


def thread_run(**arguments: Any) -> RunRequest:
    return thread_run_request(**({"thread_id": "thread_1", "assistant_id": "asst_1"} | arguments))


def response(**arguments: Any) -> RunRequest:
    return response_request(**({"model": "gpt-5", "input": "Hi"} | arguments))


def test_a_thread_run_carries_what_was_given_and_nothing_else() -> None:
    request = thread_run(model=None, temperature=2, top_p="0.5", metadata={"team": "a"})
    assert request.kind is RunKind.THREAD_RUN
    assert request.thread_id == "thread_1"
    assert request.thread is None
    assert request.warnings == ()
    assert request.body == {
        "assistant_id": "asst_1",
        "temperature": 2.0,
        "top_p": 0.5,
        "metadata": {"team": "a"},
    }


def test_max_tokens_is_sent_under_its_new_name() -> None:
    assert thread_run(max_tokens=256).body["max_completion_tokens"] == 256
    assert "max_tokens" not in thread_run(max_tokens=256).body
    assert thread_run(max_completion_tokens="64").body["max_completion_tokens"] == 64


@pytest.mark.parametrize("value", [True, False])
def test_stream_for_tool_is_accepted_but_never_sent(*, value: bool) -> None:
    request = thread_run(stream_for_tool=value)
    assert "stream_for_tool" not in request.body
    (warning,) = request.warnings
    assert "stream_for_tool" in warning


def test_the_old_name_retrieval_is_warned_about() -> None:
    request = thread_run(tools=[{"type": "retrieval"}])
    assert request.body["tools"] == [{"type": "file_search"}]
    assert len(request.warnings) == 1


def test_a_thread_may_be_created_with_the_run() -> None:
    thread = {"messages": [{"role": "user", "content": "Hi"}], "metadata": {"a": "b"}}
    request = thread_run(thread_id=None, thread=thread)
    assert request.thread == thread
    assert request.thread_id is None
    assert thread_run(thread_id=None, thread={}).thread == {}


def test_a_response_works_in_the_background_and_is_stored() -> None:
    request = response(instructions=None)
    assert request.kind is RunKind.RESPONSE
    assert request.body == {"model": "gpt-5", "input": "Hi", "background": True, "store": True}
    assert response(background=False, store=False).body["background"] is False
    assert response(background=False, store=False).body["store"] is False


@pytest.mark.parametrize("conversation", ["conv_1", {"id": "conv_1"}])
def test_a_response_may_go_on_with_a_conversation(conversation: object) -> None:
    assert response(conversation=conversation).body["conversation"] == conversation


def test_arguments_this_package_has_never_heard_of_go_out_as_they_are() -> None:
    assert thread_run(response_format="auto", parallel_tool_calls=False).body["parallel_tool_calls"] is False
    assert response(extra_body={"service_tier": None, "temperature": 9}).body["temperature"] == 9


def test_tools_and_metadata_are_checked_wherever_they_come_from() -> None:
    flat = {"type": "function", "name": "f"}
    assert response(extra_body={"tools": [flat]}).body["tools"] == [
        {"type": "function", "function": {"name": "f"}}
    ]
    with pytest.raises(RunRequestError, match=r"metadata=None: must be a dict"):
        response(extra_body={"metadata": None})


ERRORS: list[tuple[Callable[..., RunRequest], dict[str, Any], list[str]]] = [
    (thread_run, {"thread_id": None}, ["either thread_id or thread", "neither"]),
    (thread_run, {"thread": {}}, ["either thread_id or thread", "both"]),
    (thread_run, {"thread_id": " "}, ["thread_id=' '", "must be the id of a thread"]),
    (thread_run, {"assistant_id": None}, ["assistant_id=None", "is required"]),
    (thread_run, {"assistant_id": 5}, ["assistant_id=5", "must be a non-empty string"]),
    (
        thread_run,
        {"max_tokens": 1, "max_completion_tokens": 2},
        ["max_tokens=1", "max_completion_tokens=2", "give one"],
    ),
    (thread_run, {"max_tokens": 0}, ["max_tokens=0", "at least 1"]),
    (thread_run, {"max_prompt_tokens": 1.5}, ["max_prompt_tokens=1.5", "whole number"]),
    (thread_run, {"truncation_strategy": "auto"}, ["truncation_strategy='auto'", "must be a dict"]),
    (thread_run, {"additional_messages": "Hi"}, ["additional_messages='Hi'", "must be a list"]),
    (
        thread_run,
        {"thread_id": None, "thread": {"messages": [{"role": "user", "content": "x"}, {"role": "user"}]}},
        ["thread['messages'][1]={'role': 'user'}", "needs 'role' and 'content'"],
    ),
    (thread_run, {"thread_id": None, "thread": {"messages": "Hi"}}, ["thread['messages']='Hi'", "a list"]),
    (thread_run, {"thread_id": None, "thread": "thread_1"}, ["thread='thread_1'", "must be a dict"]),
    (response, {"input": None}, ["input=None", "is required"]),
    (
        response,
        {"conversation": "conv_1", "previous_response_id": "resp_1"},
        ["conversation='conv_1'", "previous_response_id='resp_1'", "exclude each other"],
    ),
    (response, {"conversation": ""}, ["conversation=''", "must be a non-empty string"]),
    (response, {"reasoning": "high"}, ["reasoning='high'", "must be a dict"]),
    (response, {"extra_body": "x"}, ["extra_body='x'", "must be a dict"]),
]
SHARED: list[tuple[dict[str, Any], list[str]]] = [
    ({"temperature": 3}, ["temperature=3", "between 0 and 2"]),
    ({"top_p": 2}, ["top_p=2", "between 0 and 1"]),
    ({"model": ""}, ["model=''", "must be a non-empty string"]),
    ({"metadata": dict.fromkeys(map(str, range(16)), "x")}, ["metadata={'0'", "16 pairs", "at most 15"]),
    ({"metadata": {"n": None}}, ["metadata['n']=None", "must be text"]),
    ({"tools": [BARE_FUNCTION]}, ["tools[0]={'type': 'function'}", "needs 'function'"]),
    ({"tools": [NAMELESS]}, ["tools[0]['function']={'description': 'x'}", "needs a 'name'"]),
    ({"include": "x"}, ["include='x'", "must be a list"]),
    ({"extra_body": {"model": "x"}, "model": "y"}, ["extra_body={'model': 'x'}", "repeats", "'model'"]),
    ({"stream": True}, ["stream=True", "cannot stream"]),
    ({"stream_options": {"include_usage": True}}, ["stream_options=", "cannot stream"]),
    ({"extra_body": {"stream": True}}, ["extra_body['stream']=True", "cannot stream"]),
]


@pytest.mark.parametrize(
    ("build", "arguments", "words"),
    ERRORS + [(build, *case) for build in (thread_run, response) for case in SHARED],
)
def test_a_wrong_argument_is_refused_with_its_name_its_value_and_the_rule(
    build: Callable[..., RunRequest], arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RunRequestError) as caught:
        build(**arguments)
    assert all(word in str(caught.value) for word in [*words, "Nothing was sent."]), str(caught.value)


def test_timeouts_have_the_defaults_of_the_contract() -> None:
    assert checked_timeouts(None) == DEFAULT_TIMEOUTS == {"create": 600, "read": 300, "delete": 300}
    assert checked_timeouts({"delete": timedelta(minutes=1)}) == {"create": 600, "read": 300, "delete": 60}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"update": 5}, ["timeouts={'update': 5}", "knows create, read and delete, not 'update'"]),
        ({"read": 0}, ["timeouts['read']=0", "more than 0 seconds"]),
        ({"read": "5m"}, ["timeouts['read']='5m'", "must be a number"]),
        (600, ["timeouts=600", "must be a dict"]),
    ],
)
def test_wrong_timeouts_are_refused(value: object, words: list[str]) -> None:
    with pytest.raises(RunRequestError) as caught:
        checked_timeouts(value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@given(value=st.text(min_size=20), other=st.text(min_size=20))
def test_a_fingerprint_changes_with_its_argument_and_does_not_contain_it(value: str, other: str) -> None:
    one = response(input=value).fingerprint()
    assert value not in str(one)
    assert one == response(input=value).fingerprint()
    two = response(input=other).fingerprint()
    assert {name for name in one if one[name] != two[name]} == ({"input"} if value != other else set())


def test_a_fingerprint_knows_the_thread_and_not_the_order_of_keys() -> None:
    assert thread_run(thread_id="a").fingerprint() != thread_run(thread_id="b").fingerprint()
    assert fingerprint({"text": {"a": 1, "b": 2}}) == fingerprint({"text": {"b": 2, "a": 1}})
    assert fingerprint({"when": timedelta(1)}) != fingerprint({"when": timedelta(2)})
