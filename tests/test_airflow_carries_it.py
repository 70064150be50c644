# SPDX-License-Identifier: Apache-2.0
"""
Any text of a server, through every boundary by Airflow's own encoders.

An event that cannot be encoded kills the triggerer with every wait in it, an XCom that cannot be pushed fails
a task that has been paid for.
"""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs import results
from airflow_provider_openai_runs.runs.error_of_request import error_of_request
from airflow_provider_openai_runs.runs.error_of_run import error_of_run, error_of_wait
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.plain import RESERVED_KEYS
from airflow_provider_openai_runs.runs.polling import Outcome
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.text import is_id, message_text
from airflow_provider_openai_runs.runs.tools import describe_calls, name_calls
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.tool_calls import approval_text
from airflow_provider_openai_runs.tool_calls.approval_shown import ShownCall
from airflow_provider_openai_runs.triggers import RunCompletionTrigger
from airflow_provider_openai_runs.typed.output import OutputType
from airflow_provider_openai_runs.wire import wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, Sleep
from airflow_provider_openai_runs.wire.wait import WaitResult, wait

any_text = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\0\n\x1b\x85\u2028\u202e\ud800"), max_size=30
)
ids = any_text.filter(is_id) | st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9)
words = any_text.filter(bool)
keys = any_text | st.sampled_from(sorted(RESERVED_KEYS))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**63, 2**70) | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)
responses = st.fixed_dictionaries(
    {
        "id": ids,
        "status": words | st.sampled_from(["completed", "failed", "incomplete", "queued"]),
        "model": any_text,
        "conversation": any_text,
        "metadata": st.dictionaries(keys, any_text, max_size=2),
        "usage": values,
        "created_at": values,
        "error": st.fixed_dictionaries({"code": any_text, "message": values, "more": values}),
        "incomplete_details": st.fixed_dictionaries({"reason": any_text}),
        "tools": st.lists(
            st.fixed_dictionaries({"type": any_text, "name": any_text, "more": values}), max_size=2
        ),
        "output": st.lists(
            st.fixed_dictionaries({"type": st.just("message"), "content": any_text, "more": values})
            | st.fixed_dictionaries(
                {
                    "type": st.just("message"),
                    "content": st.lists(
                        st.fixed_dictionaries({"type": st.just("refusal"), "refusal": any_text}), max_size=2
                    ),
                }
            )
            | st.fixed_dictionaries(
                {"type": any_text, "id": values, "status": values, "more": values, "results": values}
            )
            | st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["function_call", "mcp_approval_request"]),
                    "call_id": any_text,
                    "name": any_text,
                    "arguments": any_text | values,
                }
            ),
            max_size=3,
        ),
    }
)


def framed(message: Any) -> None:
    """Encode a message as a task and a triggerer send it to their supervisor."""
    from airflow.sdk.execution_time.comms import _RequestFrame  # noqa: PLC0415

    body = message if isinstance(message, Mapping) else message.model_dump()
    assert _RequestFrame(id=1, body=dict(body)).as_bytes()


def stored(value: Any) -> Any:
    """Write a value as a database's JSON column does: PostgreSQL takes neither NUL nor a lone surrogate."""
    written = json.dumps(value, allow_nan=False)
    assert "\\u0000" not in written.replace("\\\\", "")  # a backslash before these five letters is a text
    assert json.dumps(json.loads(written), ensure_ascii=False).encode()
    return json.loads(written)


def logged(line: str) -> None:
    """Write a line as Airflow's JSON log and its console do."""
    from airflow.sdk.log import logging_processors  # noqa: PLC0415

    for as_json in (True, False):
        event: Any = {"event": line, "level": "info", "timestamp": "2026-11-26T12:00:00Z"}
        written = logging_processors(json_output=as_json)[-1](structlog.get_logger(), "info", event)
        assert written if isinstance(written, bytes) else str(written).encode()
    assert not {unicodedata.category(char) for char in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def pushed(values: Mapping[str, Any]) -> None:
    from airflow.sdk.execution_time.comms import SetXCom  # noqa: PLC0415

    try:
        serde = import_module("airflow.sdk.serde")
    except ImportError:  # Airflow 3.1
        serde = import_module("airflow.serialization.serde")
    for key, value in values.items():
        carried = serde.serialize(value)
        framed(SetXCom(key=key, value=carried, dag_id="d", run_id="r", task_id="t", map_index=-1))
        assert serde.deserialize(stored(carried)) == value


def deferred(trigger: Any) -> None:
    from airflow.sdk.execution_time.comms import DeferTask  # noqa: PLC0415

    path, kwargs = trigger.serialize()
    framed(DeferTask(classpath=path, trigger_kwargs=kwargs, next_method="execute_complete", next_kwargs={}))
    try:
        encode = import_module("airflow.serialization.encoders").encode_trigger
    except ImportError:  # Airflow 3.1
        encode = import_module("airflow.serialization.serialized_objects")._encode_trigger
    stored(encode({"classpath": path, "kwargs": kwargs}))
    assert type(trigger)(**stored(kwargs)).serialize()[1] == kwargs


def fired(payload: dict[str, Any]) -> None:
    from airflow.triggers.base import TriggerEvent  # noqa: PLC0415

    framed({"type": "TriggerStateChanges", "events": [[1, TriggerEvent(payload).model_dump()]]})
    logged(repr(payload))
    stored(payload)


@given(data=responses)
def test_whatever_a_response_says_its_result_and_its_errors_are_carried(data: dict[str, Any]) -> None:
    wire = wire_of(RunKind.RESPONSE)
    ref = RunRef(kind=RunKind.RESPONSE, id=data["id"], conn_id="c")
    run: Run = wire.retrieve(ref).read(ApiReply(data=data, headers={}))

    pushed(results.to_xcom(run, log=structlog.get_logger(), text_limit=None))
    lines = [results.summary(run), describe_calls(run.tool_calls), name_calls(run.tool_calls)]
    calls, ti = [ShownCall.of(call) for call in run.tool_calls], SimpleNamespace(dag_id="d", task_id="t")
    if calls:
        lines.append(approval_text.subject(None, ti=ti, calls=calls, deadline=None))
    lines.append(str(run.ref))
    lines += [str(error) for ours in (True, False) if (error := error_of_run(run, is_ours=ours))]
    for line in lines:
        logged(line)
        assert len(line) < 3000


@given(
    data=st.fixed_dictionaries(
        {
            "id": ids,
            "status": words | st.sampled_from(["completed", "failed", "requires_action"]),
            "created_at": values,
            "last_error": st.fixed_dictionaries({"code": any_text, "message": values}),
            "metadata": st.dictionaries(keys, any_text, max_size=2),
            "required_action": values,
            "tools": st.lists(st.dictionaries(keys, values, max_size=2), max_size=2),
            "usage": values,
        }
    ),
    messages=st.lists(st.fixed_dictionaries({"role": st.just("assistant"), "content": values}), max_size=2),
    steps=st.lists(st.fixed_dictionaries({"id": any_text, "step_details": values}), max_size=2),
)
def test_whatever_a_thread_run_says_its_result_and_its_errors_are_carried(
    data: dict[str, Any], messages: list[Any], steps: list[Any]
) -> None:
    wire = wire_of(RunKind.THREAD_RUN)
    ref = RunRef(kind=RunKind.THREAD_RUN, id=data["id"], thread_id="thread_1", conn_id="c")
    flow = wire.complete(wire.retrieve(ref).read(ApiReply(data=data)), steps=True)
    next(flow)
    flow.send(ApiReply(data={"data": messages}))
    with pytest.raises(StopIteration) as stop:
        flow.send(ApiReply(data={"data": steps}))
    run: Run = stop.value.value

    pushed(results.to_xcom(run, log=structlog.get_logger(), text_limit=None))
    for line in (results.summary(run), *([str(error)] if (error := error_of_run(run)) else [])):
        logged(line)


@given(answer=values, schema=st.sampled_from([{}, {"type": "object"}, {"type": "integer"}, {"maxLength": 3}]))
def test_whatever_a_model_answers_in_a_type_is_carried_or_an_error_that_is(answer: Any, schema: Any) -> None:
    try:
        found = OutputType(schema).parse(json.dumps(answer))
    except ValueError as unfit:
        logged(str(unfit))
    else:
        pushed({"output": found})


@given(status=words, says=any_text, run_id=ids, thread_id=ids, code=any_text)
def test_whatever_polls_say_a_wait_its_event_its_record_and_its_trigger_are_carried(
    status: str, says: str, run_id: str, thread_id: str, code: str
) -> None:
    ref = RunRef(kind=RunKind.THREAD_RUN, id=run_id, thread_id=thread_id, conn_id="c")
    failure = RequestFailure(
        kind=FailureKind.ACCESS_DENIED, text=message_text(says), code=message_text(code), http_status=401
    )
    tracked = TrackedRun(
        ref=ref, created_at=1.0, deadline=2.0, rounds=Rounds(answered=1, errors=(message_text(says),))
    )
    polled: PollResult = wire_of(ref.kind).poll(ref).read(ApiReply(data={"status": status}, headers={}))

    for result, lines in (
        waited(tracked, polled),
        waited(tracked, ApiRequestFailed(failure)),
    ):
        fired(tracked.to_json() | result.to_json())
        lines.append(
            str(
                error_of_wait(
                    result.outcome,
                    ref,
                    limit="1 s",
                    fate=result.fate,
                    raw_status=result.raw_status,
                    failure=result.failure,
                )
            )
        )
        lines.append(str(error_of_request(failure, doing=f"read {ref}", conn_id="c")))
        for line in lines:
            logged(line)
    record = Record(generation=0, token="t/1", intent_at=1.0).with_run(tracked)
    framed({"type": "SetTaskState", "key": "openai_run", "value": json.dumps(record.to_json())})
    assert Record.from_json(stored(record.to_json())) == record
    deferred(RunCompletionTrigger(**tracked.to_json(), deferred_at=time.time()))


def waited(run: TrackedRun, *answers: PollResult | ApiRequestFailed) -> tuple[WaitResult, list[str]]:
    """Drive a wait whose time is over, and collect what it notes."""
    from airflow_provider_openai_runs.runs.polling import WaitLimits  # noqa: PLC0415

    lines: list[str] = []
    flow = wait(
        run.ref,
        WaitLimits.of(run),
        cancel_on_timeout=False,
        cancel_wait=1,
        note=lambda _level, line: lines.append(line),
        clock=lambda: 9.0,
    )
    step = next(flow)
    try:
        for answer in answers:
            assert not isinstance(step, Sleep)
            step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
    except StopIteration as stop:
        result: WaitResult = stop.value
        assert result.outcome in Outcome
        return result, lines
    raise AssertionError(step)
