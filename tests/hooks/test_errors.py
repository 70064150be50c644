# SPDX-License-Identifier: Apache-2.0
"""What each failure of a server or a connection becomes, and that no text shows a key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunCallError,
    RunConnectionError,
    RunNotFoundError,
)
from airflow_provider_openai_runs.hooks import OpenAIRunsHook, openai_runs
from airflow_provider_openai_runs.simulator import Fault, Simulator
from airflow_provider_openai_runs.transport.failures import failing, status_error
from airflow_provider_openai_runs.wire import flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest
from tests.support.airflow_versions import needs_store

REF = {"kind": "response", "id": "resp_unknown"}
KEY = "sk-proj-0123456789abcdef"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        pytest.param("[1]", "its Extra must be a JSON object", marks=needs_store),  # 3.1 refuses it itself
        ('{"openai_client_kwargs": "x"}', "openai_client_kwargs in its Extra must be a JSON object"),
        ('{"openai_client_kwargs": [1]}', "openai_client_kwargs in its Extra must be a JSON object"),
    ],
)
def test_an_extra_that_is_no_object_is_named(
    read: Callable[..., OpenAIRunError], monkeypatch: pytest.MonkeyPatch, extra: str, words: str
) -> None:
    connection = {"conn_type": "openai", "password": KEY, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps(connection))
    found = read("odd")
    assert isinstance(found, RunConnectionError)
    assert words in str(found)
    assert not found.retryable


def test_a_connection_without_a_key_says_where_it_belongs(
    read: Callable[..., OpenAIRunError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps({"conn_type": "openai", "login": KEY}))
    found = read("odd")
    assert "it has no key, which belongs into its Password" in str(found)


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., OpenAIRunError]:
    """Read a run through a connection, and return the error that comes of it."""
    budgets = {"create": 0.2, "read": 0.2, "delete": 0.2}
    # No second try, and all the time that a busy machine may take for the first.
    monkeypatch.setattr(flows, "LEAST_REPLY_TIMEOUT", 30.0)
    monkeypatch.setattr(openai_runs, "DEFAULT_TIMEOUTS", budgets)

    def run(conn_id: str = "openai_default") -> OpenAIRunError:
        hook = OpenAIRunsHook(conn_id)

        def retrieve() -> object:
            return hook.retrieve(REF) if request.param == "sync" else asyncio.run(hook.aretrieve(REF))

        with pytest.raises(OpenAIRunError) as caught:
            retrieve()
        return caught.value

    return run


@pytest.mark.parametrize(
    ("fault", "kind", "retryable", "words"),
    [
        (Fault(status=400, message="No."), RunCallError, False, "HTTP 400: No"),
        (Fault(status=401), RunConnectionError, False, "HTTP 401"),
        (Fault(status=403), RunConnectionError, False, "HTTP 403"),
        (Fault(status=404), RunNotFoundError, False, "HTTP 404"),
        (Fault(status=408), RunCallError, True, "HTTP 408"),
        (Fault(status=409), RunCallError, True, "HTTP 409"),
        (Fault(status=422), RunCallError, False, "HTTP 422"),
        (Fault(status=429, retry_after=7), RunCallError, True, "HTTP 429"),
        (Fault(status=429, code="insufficient_quota"), RunCallError, False, "quota"),
        (Fault(status=500), RunCallError, True, "HTTP 500"),
        (Fault(status=502), RunCallError, True, "HTTP 502"),
        (Fault(status=503), RunCallError, True, "HTTP 503"),
        (Fault(kind="reset"), RunCallError, True, "Connection error"),
        (Fault(kind="garbage"), RunCallError, True, "in an unreadable form"),
        (Fault(kind="lost"), RunCallError, True, "Connection error"),
    ],
    ids=lambda value: f"{value.kind} {value.status} {value.code}" if isinstance(value, Fault) else "",
)
def test_each_failure_has_its_error_and_says_whether_a_retry_can_help(
    read: Callable[..., OpenAIRunError],
    openai_runs_simulator: Simulator,
    fault: Fault,
    kind: type[OpenAIRunError],
    words: str,
    *,
    retryable: bool,
) -> None:
    openai_runs_simulator.fault(*[fault] * 3)
    error = read()

    assert isinstance(error, kind)
    assert isinstance(error, AirflowException)
    assert isinstance(error, AirflowFailException) is not retryable
    assert error.retryable is retryable
    assert words in str(error)
    assert "resp_unknown" in str(error)


def test_the_seconds_that_a_server_asks_for_are_kept(
    read: Callable[..., OpenAIRunError], openai_runs_simulator: Simulator
) -> None:
    openai_runs_simulator.fault(Fault(status=429, retry_after=7))

    assert read().retry_after == 7


def test_a_server_that_is_not_there_is_worth_a_retry(
    read: Callable[..., OpenAIRunError], monkeypatch: pytest.MonkeyPatch, openai_runs_simulator: Simulator
) -> None:
    with Simulator() as gone:
        monkeypatch.setenv("AIRFLOW_CONN_GONE", gone.connection_json)
    error = read("gone")

    assert isinstance(error, RunCallError)
    assert error.retryable


def test_a_connection_that_does_not_exist_is_named_with_what_to_do(
    read: Callable[..., OpenAIRunError], openai_runs_simulator: Simulator
) -> None:
    error = read("no_such_conn")

    assert isinstance(error, RunConnectionError)
    assert "'no_such_conn'" in str(error)
    assert isinstance(error, AirflowFailException)


@pytest.mark.parametrize("conn_type", ["aws", "http", "postgres"])
def test_the_secret_of_another_kind_of_connection_is_not_sent_to_openai(
    read: Callable[..., OpenAIRunError],
    monkeypatch: pytest.MonkeyPatch,
    openai_runs_simulator: Simulator,
    conn_type: str,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", openai_runs_simulator.base_url)
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": conn_type, "password": KEY}))
    error = read("other")

    assert isinstance(error, RunConnectionError)
    assert f"is of type '{conn_type}' and names no Host" in str(error)
    assert not error.retryable
    assert openai_runs_simulator.requests == []


def test_whoever_names_the_address_may_use_any_kind_of_connection(
    read: Callable[..., OpenAIRunError], monkeypatch: pytest.MonkeyPatch, openai_runs_simulator: Simulator
) -> None:
    connection = {"conn_type": "http", "password": KEY, "host": openai_runs_simulator.base_url}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
    assert isinstance(read("other"), RunNotFoundError)


@pytest.mark.parametrize(
    "connection",
    [
        {"conn_type": "openai"},
        {"conn_type": "openai", "password": KEY, "extra": {"openai_client_kwargs": {"no_such": 1}}},
        {"conn_type": "openai", "password": KEY, "extra": {"openai_client_kwargs": "no object"}},
        {"conn_type": "openai", "password": KEY, "extra": {"api_key_provider": "no.such.thing"}},
    ],
    ids=["no key", "unknown argument", "no object", "no such provider"],
)
def test_a_connection_that_makes_no_client_is_named_without_its_key(
    read: Callable[..., OpenAIRunError],
    monkeypatch: pytest.MonkeyPatch,
    openai_runs_simulator: Simulator,
    connection: dict[str, Any],
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps(connection))
    error = read("broken")

    assert isinstance(error, RunConnectionError)
    assert "broken" in str(error)
    assert KEY not in str(error)


@pytest.mark.parametrize(
    "message",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Authorization: Bearer {KEY}",
        f'{{"api_key": "{KEY}"}}',
        f"https://user:{KEY}@proxy.example/v1 refused",
    ],
)
def test_no_text_of_a_server_shows_a_key_or_goes_on_for_ever(
    read: Callable[..., OpenAIRunError], openai_runs_simulator: Simulator, message: str
) -> None:
    openai_runs_simulator.fault(Fault(status=400, message=f"{message} {'x' * 3000}"))
    error = read()

    assert KEY not in str(error)
    assert len(str(error)) < 800


@pytest.mark.parametrize(
    "said", ["Invalid URL (GET /responses/x)", "Cannot GET /responses/x", "Route not found"]
)
def test_a_missing_route_is_no_missing_run_and_the_address_is_named(
    openai_runs_simulator: Simulator, read: Callable[..., OpenAIRunError], said: str
) -> None:
    openai_runs_simulator.fault(Fault(status=404, message=said, times=None))
    error = read()

    assert isinstance(error, RunConnectionError)
    assert not isinstance(error, RunNotFoundError)
    assert "Host usually ends in /v1" in str(error)
    assert said.split(" (", maxsplit=1)[0] in str(error)


def test_the_address_is_named_as_it_is(openai_runs_simulator: Simulator) -> None:
    openai_runs_simulator.fault(Fault(status=404, message="Invalid URL (POST /responses)", times=None))
    hook = OpenAIRunsHook()
    with pytest.raises(RunConnectionError) as caught:
        hook.create_background_response(model="m", input="Why?")

    assert f"is missing at {str(hook.conn.base_url).rstrip('/')}. " in str(caught.value)


def test_https_on_a_port_without_tls_fails_at_once(
    openai_runs_simulator: Simulator, read: Callable[..., OpenAIRunError], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(OpenAIRunsHook().conn.base_url).replace("http://", "https://")
    monkeypatch.setenv(
        "AIRFLOW_CONN_TLS", json.dumps({"conn_type": "openai", "password": KEY, "host": address})
    )
    monkeypatch.setattr(openai_runs, "DEFAULT_TIMEOUTS", {"create": 60, "read": 60, "delete": 60})
    error = read("tls")

    assert isinstance(error, RunConnectionError)
    assert isinstance(error, AirflowFailException)
    assert "does not speak TLS" in str(error)
    assert openai_runs_simulator.requests == []


@pytest.mark.parametrize(
    "body",
    [
        "The reason.",
        '"The reason."',
        {"error": "The reason."},
        {"error": {"message": {"text": 1, "message": "The reason."}}},
        {"error": {"error": {"message": "The reason."}}},
        {"errors": [{"message": "The reason."}]},
        {"errors": ["The reason."]},
        {"detail": {"msg": "The reason."}},
        [{"error": {"message": "The reason."}}],
        {"Message": "The reason."},
        {"fault": {"faultstring": "The reason.", "detail": {"errorcode": "x"}}},
        {"error": {"message": "", "detail": "The reason."}},
    ],
    ids=str,
)
def test_the_servers_own_sentence_is_found_wherever_it_writes_it(body: object) -> None:
    request: ApiRequest[Any] = ApiRequest(method="GET", path="/responses/x", read=lambda reply: reply)
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    with pytest.raises(ApiRequestFailed) as failed, failing(request, str):
        raise status_error(request, status=400, headers={}, content=content)
    assert str(failed.value.failure) == "HTTP 400: The reason"


@pytest.mark.parametrize("body", ["", "{}", "null", "[]", "7", json.dumps({"error": {"a": {"b": "c"}}})])
def test_an_error_without_a_sentence_has_its_status(body: str) -> None:
    request: ApiRequest[Any] = ApiRequest(method="GET", path="/responses/x", read=lambda reply: reply)
    with pytest.raises(ApiRequestFailed) as failed, failing(request, str):
        raise status_error(request, status=400, headers={}, content=body.encode())
    assert "HTTP 400" in str(failed.value.failure)
