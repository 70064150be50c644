# SPDX-License-Identifier: Apache-2.0
"""A flow takes the same steps whichever of the two loops runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.transport import driver
from airflow_provider_openai_runs.wire import Flow, flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest, Sleep

GOOD: ApiRequest[str] = ApiRequest(method="GET", path="/good", read=lambda _reply: "")
BAD: ApiRequest[str] = ApiRequest(method="GET", path="/bad", read=lambda _reply: "")
FAILURE = RequestFailure(
    kind=FailureKind.OUTCOME_UNKNOWN, text="Why is the sky blue?", http_status=503, code="busy"
)

Drive = Callable[[Flow[Any], list[str]], Any]


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest) -> Drive:
    """Run a flow by one of the two loops; what it does is written down."""

    def run(flow: Flow[Any], done: list[str]) -> Any:
        def send(request: ApiRequest[Any]) -> str:
            done.append(request.path)
            if request.path == BAD.path:
                raise ApiRequestFailed(FAILURE)
            return "answered"

        def sleep(seconds: float) -> None:
            done.append(f"slept {seconds}")

        async def asend(request: ApiRequest[Any]) -> str:
            return send(request)

        async def asleep(seconds: float) -> None:
            sleep(seconds)

        def refresh() -> None:
            done.append("refreshed")

        if request.param == "sync":
            return driver.run(flow, send=send, sleep=sleep, refresh_connection=refresh)
        return asyncio.run(driver.arun(flow, send=asend, sleep=asleep, refresh_connection=refresh))

    return run


def test_answers_are_sent_in_pauses_are_slept_and_the_result_returned(drive: Drive) -> None:
    def flow() -> Flow[list[Any]]:
        first = yield GOOD
        pause = yield Sleep(2.0)
        second = yield GOOD
        return [first, pause, second]

    done: list[str] = []
    assert drive(flow(), done) == ["answered", None, "answered"]
    assert done == ["/good", "slept 2.0", "/good"]


def test_the_connection_is_refreshed_after_the_pause_that_asks_for_it(drive: Drive) -> None:
    def flow() -> Flow[None]:
        yield Sleep(1.0, refresh_connection=True)
        yield GOOD

    done: list[str] = []
    drive(flow(), done)
    assert done == ["slept 1.0", "refreshed", "/good"]


def test_a_failed_call_is_thrown_into_the_flow_which_may_go_on(drive: Drive) -> None:
    def flow() -> Flow[Any]:
        try:
            yield BAD
        except ApiRequestFailed:
            return (yield GOOD)

    assert drive(flow(), []) == "answered"


def test_a_failed_call_that_the_flow_leaves_alone_ends_it(drive: Drive) -> None:
    def flow() -> Flow[Any]:
        yield BAD

    with pytest.raises(ApiRequestFailed):
        drive(flow(), [])


def test_a_request_that_is_sent_again_is_named_in_the_log_without_what_the_server_said(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(driver._log, "warning", lambda text, *values: lines.append(text % values))
    with pytest.raises(ApiRequestFailed):
        drive(flows.with_retries(flows.single(BAD), budget=2.5), [])
    assert lines == [
        f"GET /bad failed: HTTP 503 (busy). It is sent again in {seconds} s" for seconds in (1, 2)
    ]


def test_a_flow_that_needs_nothing_has_its_result(drive: Drive) -> None:
    def flow() -> Flow[int]:
        return 3
        yield GOOD

    assert drive(flow(), []) == 3
