# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.wire import ApiRequest, Flow
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply

Answer = Mapping[str, Any] | int


def drive(flow: Flow[Any], answers: Iterable[Answer]) -> tuple[Any, list[ApiRequest[Any]]]:
    """Feed answers to a flow, an HTTP status being a failed call; return its result and its calls."""
    left = iter(answers)
    calls = []
    try:
        step = next(flow)
        while True:
            assert isinstance(step, ApiRequest)
            calls.append(step)
            answer = next(left)
            if isinstance(answer, int):
                failure = RequestFailure(kind=FailureKind.REJECTED, text="no", http_status=answer)
                step = flow.throw(ApiRequestFailed(failure))
            else:
                step = flow.send(step.read(ApiReply(data=answer)))
    except StopIteration as stop:
        return stop.value, calls


@pytest.fixture(name="drive", scope="session")
def _drive() -> Callable[..., tuple[Any, list[ApiRequest[Any]]]]:
    return drive
