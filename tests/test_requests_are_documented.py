# SPDX-License-Identifier: Apache-2.0
"""Every request that the package can send, held against descriptions of the API: ours, and OpenAI's own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario, Simulator
from dev.conformance.oracle import DESCRIPTION, Oracle
from tests.support import api_description
from tests.support.scene import Scene

#: OpenAI's own lies beside the repository, for those who have it.
ORACLES = {"ours": api_description.DESCRIPTION, **({"OpenAI's": None} if DESCRIPTION.is_file() else {})}

AT_ONCE = Scenario(queued=0, in_progress=0, times=None)
WAITING: dict[str, Any] = {
    "task_id": "ask",
    "completion_window": 30,
    "poll_interval": 0.05,
    "deferrable": False,
    "on_tool_calls": "return",
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NESTED = {"type": "function", "function": {"name": "f", "description": "Say f.", "parameters": SCHEMA}}
FLAT = {"type": "function", "name": "g", "parameters": SCHEMA, "strict": True}
BARE = {"type": "function", "function": {"name": "h"}}
AS_TEXT = {"type": "function", "function": {"name": "i", "parameters": '{"type": "object"}'}}

#: Two values at least of whatever has more than one form.
RESPONSE_ARGUMENTS: dict[str, list[Any]] = {
    "model": ["gpt-4o"],
    "input": [
        "Why?",
        [{"role": "user", "content": "Why?"}, {"role": "developer", "content": "Be brief."}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Why?"}]}],
    ],
    "instructions": ["Be brief."],
    "tools": [
        [NESTED, FLAT, BARE, AS_TEXT],
        [{"type": "code_interpreter", "container": {"type": "auto"}}],
        [{"type": "web_search"}],
        [
            {
                "type": "mcp",
                "server_label": "s",
                "server_url": "https://example.com",
                "require_approval": "never",
            }
        ],
    ],
    "conversation": ["conv", {"id": "conv"}],
    "previous_response_id": ["resp"],
    "metadata": [{"team": "data"}, {f"key {number}": "x" for number in range(15)}],
    "temperature": [0, 1.5, "0.5"],
    "top_p": [0.3],
    "max_output_tokens": [64, "64"],
    "max_tool_calls": [3],
    "reasoning": [{"effort": "low"}],
    "text": [
        {"format": {"type": "text"}},
        {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": False}},
    ],
    "background_options": [{"completion_window": "soonest", "continuation_id": "one-of-several"}],
    "service_tier": ["flex"],
    "include": [["reasoning.encrypted_content"]],
    "background": [True, False],
    "store": [True, False],
    "prompt": [{"id": "pmpt_1", "version": "2", "variables": {"city": "Rome"}}],
    "tool_choice": ["auto", {"type": "function", "name": "g"}],
    "parallel_tool_calls": [False],
    "top_logprobs": [5],
    "image": [{"context_compression": "auto"}],
    "truncation": ["auto"],
    "context_management": [[{"type": "compaction", "compact_threshold": 200000}]],
    "prompt_cache_key": ["reports"],
    "prompt_cache_options": [{"mode": "implicit"}],
    "prompt_cache_retention": ["24h"],
    "moderation": [{"model": "omni-moderation-latest"}],
    "safety_identifier": ["user 1"],
    "access_programs": [{"cyber": "standard"}],
    "user": ["user 1"],
    "extra_body": [{}],
}
THREAD_RUN_ARGUMENTS: dict[str, list[Any]] = {
    "thread_id": [],  # in all of them but the next
    "thread": [
        {"messages": [{"role": "user", "content": "Why?"}]},
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}],
            "metadata": {"a": "b"},
        },
    ],
    "assistant_id": [],  # in all of them
    "model": ["gpt-4o"],
    "instructions": ["Be brief."],
    "additional_instructions": ["And polite."],
    "additional_messages": [[{"role": "user", "content": "Why not?"}]],
    "tools": [
        [NESTED, FLAT, BARE, AS_TEXT],
        [{"type": "code_interpreter"}, {"type": "file_search"}],
        [{"type": "retrieval"}],
    ],
    "metadata": [{"team": "data"}, {f"key {number}": "x" for number in range(15)}],
    "temperature": [0, 1.5, "0.5"],
    "top_p": [0.3],
    "max_tokens": [256],
    "max_completion_tokens": [256, "256"],
    "max_prompt_tokens": [256],
    "truncation_strategy": [{"type": "last_messages", "last_messages": 3}],
    "tool_choice": ["none", {"type": "function", "function": {"name": "f"}}],
    "parallel_tool_calls": [False],
    "response_format": ["auto", {"type": "json_object"}],
    "reasoning_effort": ["low"],
    "include": [["step_details.tool_calls[*].file_search.results[*].content"]],
    "stream_for_tool": [True],
    "extra_body": [{}],
}


def cases(arguments: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param({name: value}, id=f"{name} {number}")
        for name, values in arguments.items()
        for number, value in enumerate(values)
    ]


@pytest.fixture(scope="session")
def oracles() -> Iterator[list[Any]]:
    """Give the oracles, and the validator that `make steady` installs."""
    found = [Oracle(description) for description in ORACLES.values()]
    command = os.environ.get("STEADY")
    if command is None:
        yield found
        return
    from dev.conformance.steady import steady  # noqa: PLC0415 - only then

    with steady(command) as validator:
        yield [*found, validator]


@pytest.fixture
def simulator(scene: Scene, oracles: list[Any]) -> Iterator[Simulator]:
    """Give a simulator; in the end, all that it was asked must be documented."""
    yield scene.simulator
    for oracle in oracles:
        assert oracle.check(scene.simulator.requests)


@pytest.mark.parametrize("description", ORACLES.values(), ids=ORACLES)
def test_the_oracle_refuses_what_is_wrong(description: Any) -> None:
    oracle = Oracle(description)
    right = {"assistant_id": "asst_1", "tools": [{"type": "code_interpreter"}]}
    assert oracle.complaints("POST", "/threads/thread_1/runs", {}, right) == []
    for body in ({}, {**right, "tools": [{"type": "retrieval"}]}, {**right, "max_tokens": 5}):
        assert oracle.complaints("POST", "/threads/thread_1/runs", {}, body)
    wrong: list[dict[str, Any]] = [{"temperature": 3}, {"input": 5}, {"tools": [NESTED]}, {"bogus": 1}]
    for change in wrong:
        assert oracle.complaints("POST", "/responses", {}, {"model": "m", "input": "Why?", **change})
    assert oracle.complaints("GET", "/threads/thread_1/runs", {"limit": "many"}, None)
    assert oracle.complaints("GET", "/threads/thread_1/runs", {"sorted": "asc"}, None)
    assert oracle.complaints("POST", "/responses/resp_1/cancel", {}, {"why": "late"})
    assert oracle.complaints("GET", "/responses", {}, None)


def test_no_argument_is_forgotten() -> None:
    airflows = {"conn_id", "completion_window", "output_path", "approval_subject"}
    assert airflows | {*RESPONSE_ARGUMENTS} == set(CreateResponseOperator.template_fields)
    assert airflows | {*THREAD_RUN_ARGUMENTS} == set(CreateRunOperator.template_fields)


@pytest.mark.parametrize("arguments", cases(RESPONSE_ARGUMENTS))
def test_a_response_is_created_as_documented(
    scene: Scene, simulator: Simulator, arguments: dict[str, Any]
) -> None:
    simulator.script(AT_ONCE)
    ids = {
        "conv": scene.post("/conversations")["id"],
        "resp": scene.post("/responses", model="m", input="Hello.")["id"],
    }
    given = {name: _with_ids(value, ids) for name, value in arguments.items()}
    operator = CreateResponseOperator(**{**WAITING, "model": "gpt-4o-mini", "input": "Why?", **given})
    scene.run(operator)


def test_a_response_with_everything_is_created_as_documented(scene: Scene, simulator: Simulator) -> None:
    simulator.script(AT_ONCE)
    apart = {"conversation", "previous_response_id"}
    given = {name: values[0] for name, values in RESPONSE_ARGUMENTS.items() if name not in apart}
    scene.run(CreateResponseOperator(**{**WAITING, **given}))


@pytest.mark.parametrize("arguments", cases(THREAD_RUN_ARGUMENTS))
@pytest.mark.filterwarnings("ignore:tool type")
def test_a_thread_run_is_created_as_documented(
    scene: Scene, simulator: Simulator, assistant_id: str, thread_id: str, arguments: dict[str, Any]
) -> None:
    simulator.script(AT_ONCE)
    thread = {} if "thread" in arguments else {"thread_id": thread_id}
    scene.run(CreateRunOperator(**{**WAITING, "assistant_id": assistant_id, **thread, **arguments}))


def test_a_thread_run_with_everything_is_created_as_documented(
    scene: Scene, simulator: Simulator, assistant_id: str, thread_id: str
) -> None:
    simulator.script(AT_ONCE)
    given = {name: values[0] for name, values in THREAD_RUN_ARGUMENTS.items() if values}
    for other in ("thread", "max_tokens"):
        del given[other]
    operator = CreateRunOperator(**WAITING, **given, assistant_id=assistant_id, thread_id=thread_id)
    scene.run(operator)


def test_every_other_request_is_documented(
    scene: Scene, simulator: Simulator, assistant_id: str, thread_id: str
) -> None:
    """Polls, lists and their pages, a search, cancels, and answers to calls of every kind."""
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 - Airflow is set up by then

    hook = OpenAIRunsHook()
    calls = ((FunctionCall(name="f"), FunctionCall(name="g")),)
    simulator.script(Scenario(queued=0, in_progress=0, function_calls=calls, steps=150))
    run = hook.create_thread_run(thread_id=hook.create_thread(), assistant_id=assistant_id)
    run = hook.retrieve(run.ref, include_steps=True)
    hook.submit_tool_outputs(run, {call.id: "Yes." for call in run.tool_calls})
    hook.steps(run.ref)
    hook.list_thread_runs(str(run.ref.thread_id))

    simulator.script(Scenario(queued=0, in_progress=0, function_calls=calls))
    response = hook.retrieve(hook.create_background_response(model="m", input="Why?", tools=[NESTED]).ref)
    hook.submit_tool_outputs(response, {call.id: "Yes." for call in response.tool_calls}, tools=[NESTED])

    simulator.script(Scenario(in_progress=60, times=2))
    hook.cancel(hook.create_background_response(model="m", input="Why?").ref)
    hook.cancel(hook.create_thread_run(thread_id=thread_id, assistant_id=assistant_id).ref)

    simulator.fault(Fault(method="POST", path="/runs$", kind="lost"))
    scene.run(CreateRunOperator(**WAITING, thread_id=thread_id, assistant_id=assistant_id))

    asked = {
        f"{r.method} {re.sub('(?<=/)(thread|run|resp)_[^/]+', 'ID', r.path)}" for r in simulator.requests
    }
    assert asked >= {
        "POST /responses",
        "GET /responses/ID",
        "POST /responses/ID/cancel",
        "POST /threads",
        "POST /threads/ID/runs",
        "GET /threads/ID/runs",
        "GET /threads/ID/runs/ID",
        "POST /threads/ID/runs/ID/cancel",
        "POST /threads/ID/runs/ID/submit_tool_outputs",
        "GET /threads/ID/runs/ID/steps",
        "GET /threads/ID/messages",
    }
    assert any("after" in r.query for r in simulator.requests if r.path.endswith("/steps"))


def _with_ids(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _with_ids(item, ids) for name, item in value.items()}
    return ids.get(value, value) if isinstance(value, str) else value
