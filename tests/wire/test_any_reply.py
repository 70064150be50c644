# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire import wire_of
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest

REFS = [
    RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="ai"),
    RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="ai"),
]
#: Every key that is read, so that arbitrary values meet it.
KEYS = [
    *("id", "status", "object", "created_at", "started_at", "completed_at", "expires_at", "usage", "tools"),
    *("metadata", "file_ids", "tool_resources", "last_error", "incomplete_details", "required_action"),
    *("submit_tool_outputs", "tool_calls", "function", "name", "arguments", "type", "output", "content"),
    *("text", "value", "conversation", "max_output_tokens", "max_prompt_tokens", "previous_response_id"),
    *("output_text", "container", "call_id", "input", "data", "has_more", "last_id", "step_details"),
    *("run_id", "role", "attachments", "file_id", "prompt_tokens", "output_tokens", "total_tokens"),
    *("refusal", "phase", "transcript", "audio", "image_url", "result", "error", "tool_call_id"),
]
WORDS = [
    *RunStatus,
    "output_audio",
    "image_url",
    "function_call",
    "custom_tool_call",
    "code_interpreter",
    "assistant",
    "run_1",
]
keys = st.sampled_from(KEYS) | st.text(max_size=3)
leaves = (
    st.sampled_from(WORDS)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=8)
runs = st.builds(
    lambda data, status: {**data, "id": "run_1", "status": status}, objects, st.sampled_from(RunStatus)
)
Drive = Callable[..., tuple[Any, list[ApiRequest[Any]]]]
fuzz = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def abyss(depth: int) -> Any:
    value: Any = "end"
    for level in range(depth):
        value = [value] if level % 2 else {"text": value, "name": "f"}
    return value


@pytest.mark.parametrize("ref", REFS)
@given(data=objects)
@fuzz
def test_any_object_is_read_or_is_unreadable(ref: RunRef, data: dict[str, Any]) -> None:
    wire = wire_of(ref.kind)
    for call in (wire.retrieve(ref), wire.poll(ref), wire.cancel(ref)):
        try:
            call.read(ApiReply(data=data))
        except ValueError as error:
            assert "the answer has no" in str(error)  # noqa: PT017 # what is read need not raise


@pytest.mark.parametrize("ref", REFS)
@given(data=runs, messages=values, steps=values)
@fuzz
def test_any_run_with_any_lists_becomes_json(
    ref: RunRef, data: dict[str, Any], messages: Any, steps: Any, drive: Drive
) -> None:
    wire = wire_of(ref.kind)
    run = wire.retrieve(ref).read(ApiReply(data=data))
    done: Run = drive(wire.complete(run, steps=True), [{"data": messages}, {"data": steps}])[0]
    json.dumps(done.to_xcom(), allow_nan=False, ensure_ascii=False).encode()
    json.dumps(wire.answer(done, {}, None, token="t").body)


@given(listed=st.lists(objects, max_size=2), token=st.sampled_from(["", "hash/"]))
@fuzz
def test_any_list_of_runs_can_be_searched(listed: list[dict[str, Any]], token: str, drive: Drive) -> None:
    wire = wire_of(RunKind.THREAD_RUN)
    result, _ = drive(
        wire.search(thread_id="thread_1", token=token or "x", since=0, conn_id="ai"), [{"data": listed}]
    )
    assert result.ref is None


@pytest.mark.parametrize(("ref", "status"), [(REFS[0], "requires_action"), (REFS[1], "completed")])
@pytest.mark.parametrize("key", KEYS)
def test_neither_depth_nor_length_is_too_much(ref: RunRef, status: str, key: str, drive: Drive) -> None:
    deep, long = abyss(2000), "x" * 20_000
    for value in (deep, [deep], {"file_ids": deep, "tool_calls": [deep]}, long, [long], {long: long}):
        nested = {"type": "function_call", "content": [{"type": "output_text", key: value}], key: value}
        data = {key: value, "output": [nested]} | {"id": "run_1", "status": status}
        wire = wire_of(ref.kind)
        run = wire.retrieve(ref).read(ApiReply(data=data))
        message = {"run_id": "run_1", "role": "assistant", "content": [nested], key: value}
        pages = [{"data": [message]}, {"data": [nested], key: value}]
        done = drive(wire.complete(run, steps=True), pages)[0]
        json.dumps(done.to_xcom())
