# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.wire import ApiRequest, Flow
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"

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


@pytest.fixture(scope="session")
def recording() -> Callable[[str], list[dict[str, Any]]]:
    def read(name: str) -> list[dict[str, Any]]:
        if not RECORDINGS.is_dir():
            pytest.skip("the recordings of real traffic are not here")
        entries = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["Entries"]
        return [entry for entry in entries if isinstance(entry["ResponseBody"], dict)]

    return read
