# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import ApiRequest, flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, Sleep

REF = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="ai")


@pytest.mark.parametrize("kind", [FailureKind.RETRY_LATER, FailureKind.NOT_ACCEPTED, FailureKind.REJECTED])
@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_refused_cancel_is_polled_at_once_whatever_its_code_says(kind: FailureKind, status: int) -> None:
    flow = flows.with_retries(flows.cancel(REF, wait=300), budget=300)
    first = next(flow)
    assert isinstance(first, ApiRequest)
    assert first.method == "POST"
    step = flow.throw(ApiRequestFailed(RequestFailure(kind=kind, text="It has ended.", http_status=status)))
    assert isinstance(step, ApiRequest)
    assert step.method == "GET"
    with pytest.raises(StopIteration) as stop:
        flow.send(step.read(ApiReply(data={"id": "resp_1", "status": "completed", "output": []})))
    assert (stop.value.value.has_ended, stop.value.value.raw_status) == (True, "completed")


@pytest.mark.parametrize("status", [429, 503])
def test_a_cancel_that_may_pass_later_is_sent_again(status: int) -> None:
    flow = flows.with_retries(flows.cancel(REF, wait=300), budget=300)
    next(flow)
    later = RequestFailure(kind=FailureKind.RETRY_LATER, text="Slow down.", http_status=status)
    assert isinstance(flow.throw(ApiRequestFailed(later)), Sleep)
    again = next(flow)
    assert isinstance(again, ApiRequest)
    assert again.path == "/responses/resp_1/cancel"
