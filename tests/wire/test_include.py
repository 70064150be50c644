# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

REF = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="c")
DONE = {"id": "resp_1", "status": "completed", "output": []}
ASKED = RunRequest(kind=RunKind.RESPONSE, body={"include": ["code_interpreter_call.outputs"]})
QUERY = {"include": ["code_interpreter_call.outputs"]}


def test_the_read_repeats_what_the_create_asked_for(drive: Any) -> None:
    _, sent = drive(flows.read(REF, steps=True, request=ASKED), [DONE])
    assert [request.query for request in sent] == [QUERY]


def test_a_poll_does_not_repeat_it() -> None:
    assert wire_of(REF.kind).poll(REF).query == {}


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_takes_no_include_in_a_read_costs_no_result(drive: Any, status: int) -> None:
    run, sent = drive(flows.read(REF, steps=True, request=ASKED), [status, DONE])
    assert run.raw_status == "completed"
    assert [request.query for request in sent] == [QUERY, {}]


@pytest.mark.parametrize("status", [401, 404, 500])
def test_another_failure_of_that_read_is_one(drive: Any, status: int) -> None:
    with pytest.raises(ApiRequestFailed):
        drive(flows.read(REF, steps=True, request=ASKED), [status])


def test_what_a_reader_asks_for_itself_is_not_left_out(drive: Any) -> None:
    with pytest.raises(ApiRequestFailed):
        drive(flows.read(REF, steps=True, include=["nothing"]), [400])


@pytest.mark.parametrize("include", [None, "x", 5, {}, [5, None]])
def test_an_include_of_another_form_asks_for_nothing(include: Any) -> None:
    assert RunRequest(kind=RunKind.RESPONSE, body={"include": include}).include == ()
