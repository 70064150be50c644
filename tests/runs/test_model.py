# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.model import Run, RunRef, Step, ToolCall
from airflow_provider_openai_runs.runs.plain import MAX_DEPTH, RESERVED_KEYS, plain
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.text import is_id
from airflow_provider_openai_runs.runs.usage import Usage

THREAD_REF = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="ai")
RESPONSE_REF = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="ai")
#: What the two contract documents name, and what this package adds.
CONTRACT = {
    *("id", "object", "created_at", "started_at", "completed_at", "status", "file_ids", "usage", "thread_id"),
    *("assistant_id", "model", "instructions", "tools", "metadata"),
}
OURS = {
    *(
        "output_text",
        "refusal",
        "last_error",
        "incomplete_details",
        "tool_calls",
        "expires_at",
        "cancelled_at",
    ),
    *("failed_at", "ref", "service_tier", "files", "citations", "reply_uri", "output_uri"),
}
ids = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1).filter(is_id)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=8,
)


def run(**values: Any) -> Run:
    known: dict[str, Any] = {
        "ref": THREAD_REF,
        "status": RunStatus.COMPLETED,
        "raw_status": "completed",
        "object": "thread.run",
    }
    return Run(**(known | values))


@given(kind=st.sampled_from(RunKind), run_id=ids, thread_id=ids, conn_id=ids)
def test_a_ref_survives_its_public_form(kind: RunKind, run_id: str, thread_id: str, conn_id: str) -> None:
    ref = RunRef(kind=kind, id=run_id, thread_id=thread_id, conn_id=conn_id)
    assert RunRef.from_json(json.loads(json.dumps(ref.to_json()))) == ref


def test_a_ref_tells_only_what_it_knows() -> None:
    assert RESPONSE_REF.to_json() == {"kind": "response", "id": "resp_1", "conn_id": "ai"}
    assert RunRef.from_json(RESPONSE_REF) is RESPONSE_REF


def test_a_ref_without_a_connection_means_the_default_one() -> None:
    assert RunRef.from_json({"kind": "response", "id": "x", "color": "red"}).conn_id == "openai_default"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ["must be a dict", "None"]),
        ("thread_1:run_1", ["must be a dict", "thread_1:run_1"]),
        ({}, ["ref['kind']", "None"]),
        ({"kind": ["response"], "id": "x"}, ["ref['kind']", "['response']"]),
        ({"kind": "response"}, ["ref['id']", "None"]),
        ({"kind": "response", "id": 5}, ["ref['id']", "5"]),
        ({"kind": "thread_run", "id": "run_1"}, ["run_1", "lacks 'thread_id'"]),
    ],
)
def test_what_is_no_ref_is_refused_with_what_is_missing(value: object, words: list[str]) -> None:
    with pytest.raises(RunRequestError) as caught:
        RunRef.from_json(value)
    assert all(word in str(caught.value) for word in words)


def test_people_read_where_a_run_lives() -> None:
    assert str(THREAD_REF) == "thread run run_1 of thread thread_1"
    assert str(RESPONSE_REF) == "response resp_1"


def test_xcom_has_every_name_of_the_contract_even_of_a_run_that_says_nothing() -> None:
    assert set(run().to_xcom()) == CONTRACT | OURS


def test_xcom_is_plain_json_under_the_names_of_the_contract() -> None:
    pushed = run(
        usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        tools=({"type": "code_interpreter"},),
        file_ids=("file_1",),
        tool_calls=(ToolCall(id="call_1", name="f", arguments="{}"),),
        steps=(Step(id="step_1", type="tool_calls", details={"tool_calls": []}),),
        raw={"previous_response_id": "resp_0"},
    ).to_xcom()
    assert json.loads(json.dumps(pushed)) == pushed
    assert pushed["id"] == "run_1"
    assert pushed["thread_id"] == "thread_1"
    assert pushed["status"] == "completed"
    unsaid = dict.fromkeys(("cached_tokens", "cache_write_tokens", "reasoning_tokens"))
    assert pushed["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, **unsaid}
    assert pushed["tools"] == [{"type": "code_interpreter"}]
    assert pushed["file_ids"] == ["file_1"]
    assert pushed["tool_calls"] == [{"id": "call_1", "name": "f", "arguments": "{}", "type": "function"}]
    assert pushed["steps"][0]["details"] == {"tool_calls": []}
    assert pushed["raw"] == {"previous_response_id": "resp_0"}
    assert pushed["ref"] == THREAD_REF.to_json()


def test_xcom_tells_an_unknown_status_in_the_words_of_the_server() -> None:
    assert run(status=RunStatus.UNKNOWN, raw_status="pondering").to_xcom()["status"] == "pondering"


def test_steps_that_were_not_asked_for_are_not_an_empty_list() -> None:
    assert "steps" not in run().to_xcom()
    assert run(steps=()).to_xcom()["steps"] == []


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({}, False),
        ({"tool_calls": (ToolCall(id="c", name="f", arguments=""),)}, True),
        ({"status": RunStatus.REQUIRES_ACTION, "raw_status": "requires_action"}, True),
    ],
)
def test_a_run_needs_action_when_a_call_waits_for_its_answer(values: dict[str, Any], *, needed: bool) -> None:
    assert run(**values).needs_action is needed


@given(value=json_values)
def test_every_json_becomes_json_that_a_database_takes(value: Any) -> None:
    text = json.dumps(plain(value), allow_nan=False, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text.replace("\\\\", "")


def test_ordinary_json_is_not_changed() -> None:
    value = {"a": [1, 2.5, None, True, "täxt\n"], "b": {"c": []}}
    assert plain(value) == value


def test_what_a_database_refuses_is_replaced() -> None:
    pushed = run(output_text="a\0b\ud800", last_error={"x": float("nan")}).to_xcom()
    assert pushed["output_text"] == "a\ufffdb\ufffd"
    assert pushed["last_error"] == {"x": None}


def test_an_abyss_of_nested_lists_is_cut() -> None:
    abyss: list[Any] = []
    for _ in range(100_000):
        abyss = [abyss]
    text = json.dumps(run(steps=(Step(id="s", type="t", details={"x": abyss}),)).to_xcom())
    assert "\\u2026" in text
    assert text.count("[[") < MAX_DEPTH


@pytest.mark.parametrize(
    ("value", "carried"),
    [
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        ([{"a": 10**30}], [{"a": "1" + "0" * 30}]),
        (True, True),
        (float("nan"), None),
        ({"__type": "dag", "__var": {}}, '{"__type": "dag", "__var": {}}'),
        (
            {"a": {"__id__": "x", "b": "\0"}},
            {"a": '{"__id__": "x", "b": "\\ufffd"}'.replace("\\ufffd", "\ufffd")},
        ),
        ({"__classname": 1}, {"__classname": 1}),
    ],
)
def test_what_airflow_cannot_carry_is_replaced(value: object, carried: object) -> None:
    assert plain(value) == carried


@pytest.mark.parametrize("key", sorted(RESERVED_KEYS))
def test_no_dict_with_a_key_of_airflows_own_is_left(key: str) -> None:
    found = plain({"output": [{"deep": {key: {"x": 1}}}]})
    assert found == {"output": [{"deep": json.dumps({key: {"x": 1}})}]}
    assert plain({key: 1}, reserves_keys=False) == {key: 1}


def test_the_reserved_keys_are_all_that_airflow_has() -> None:
    serde = pytest.importorskip("airflow.sdk.serde")
    names = ("CLASSNAME", "VERSION", "DATA", "SCHEMA_ID", "OLD_TYPE", "OLD_DATA")
    assert {getattr(serde, name) for name in names if hasattr(serde, name)} <= RESERVED_KEYS
    enums = pytest.importorskip("airflow.serialization.enums")
    assert {item.value for item in enums.Encoding} <= RESERVED_KEYS
