# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.failure import Trouble, TroubleKind
from airflow_provider_openai_runs.wire import Call, Flow
from airflow_provider_openai_runs.wire.errors import CallFailed
from airflow_provider_openai_runs.wire.protocol import Reply

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"

Answer = Mapping[str, Any] | int


def drive(flow: Flow[Any], answers: Iterable[Answer]) -> tuple[Any, list[Call[Any]]]:
    """Feed answers to a flow, an HTTP status being a failed call; return its result and its calls."""
    left = iter(answers)
    calls = []
    try:
        step = next(flow)
        while True:
            assert isinstance(step, Call)
            calls.append(step)
            answer = next(left)
            if isinstance(answer, int):
                trouble = Trouble(kind=TroubleKind.REFUSED, text="no", http_status=answer)
                step = flow.throw(CallFailed(trouble))
            else:
                step = flow.send(step.read(Reply(data=answer)))
    except StopIteration as stop:
        return stop.value, calls


@pytest.fixture(name="drive", scope="session")
def _drive() -> Callable[..., tuple[Any, list[Call[Any]]]]:
    return drive


@pytest.fixture(scope="session")
def recording() -> Callable[[str], list[dict[str, Any]]]:
    def read(name: str) -> list[dict[str, Any]]:
        if not RECORDINGS.is_dir():
            pytest.skip("the recordings of real traffic are not here")
        entries = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["Entries"]
        return [entry for entry in entries if isinstance(entry["ResponseBody"], dict)]

    return read
