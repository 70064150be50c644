# SPDX-License-Identifier: Apache-2.0
"""A connection that can never work, and says so at once."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from airflow_provider_openai_runs.exceptions import RunConnectionError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.hooks.settings import check_base_url, unused_port
from airflow_provider_openai_runs.operators import CreateResponseOperator
from tests.support.scene import Scene


def connect(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    connection = {"conn_type": "openai", "password": "sk-x", **fields}
    monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", json.dumps(connection))


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("127.0.0.1:8000/v1", "no http://"),
        ("localhost:8000", "no http://"),
        ("api.example.com/v1", "no http://"),
        ("//api.example.com/v1", "no http://"),
        ("https:/api.example.com/v1", "no http://"),
        ("htps://api.example.com/v1", "no http://"),
        ("https://", "names no host"),
        ("https:///v1", "names no host"),
        ("https://https://api.example.com", "names no host"),
        ("https://a b/v1", "names no host"),
        ("https://<resource>.openai.azure.com", "names no host"),
        ("https://host:port/v1", "is no URL"),
        ("https://host:99999/v1", "is no URL"),
        ("https://[::1/v1", "is no URL"),
        ("http://a..com/v1", "is no URL"),
        (f"http://{'a' * 64}.example/v1", "is no URL"),
    ],
)
def test_an_address_that_no_request_can_be_sent_to_is_refused_with_the_way_to_write_it(
    url: str, word: str
) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        check_base_url(url)
    assert "https://host/v1" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "http://127.0.0.1:8000/v1",
        "https://host",
        "HTTPS://Host:443/v1?api-version=1",
        "http://[::1]:8/v1",
    ],
)
def test_other_addresses_are_not(url: str | None) -> None:
    check_base_url(url)


@pytest.mark.parametrize(
    ("url", "port", "words"),
    [
        ("http://vllm", 9000, "its Port 9000 is not used: requests go to http://vllm:80"),
        ("https://host/v1", "9000", "write it into the Host, https://host:9000/v1"),
        ("http://127.0.0.1:8000/v1", 9000, "requests go to http://127.0.0.1:8000"),
        ("http://vllm:9000/v1", "9000", None),
        ("https://host/v1", 443, None),
        ("http://host", "0", None),
        ("http://host", None, None),
        ("http://host", "", None),
    ],
)
def test_a_port_beside_the_address_is_not_passed_over_in_silence(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, url: str, port: object, words: str | None
) -> None:
    """Of `airflow connections add --conn-port`. Not refused: a server may listen where it is not meant."""
    found = unused_port(url, port)
    assert (words in found) if words and found else found is None


def test_a_port_that_is_not_used_is_in_the_log(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, host=scene.simulator.base_url, port=9)
    hook = OpenAIRunsHook()
    lines = scene.log_of(hook)
    hook.get_conn()
    assert [line for line in lines if "Port 9 is not used" in line]


def test_a_connection_as_a_uri_names_its_port_in_what_it_should_be(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", "openai://:sk-x@vllm:9000/v1")
    with pytest.raises(RunConnectionError, match=r"'vllm' has no http://.*https://host:9000/v1"):
        CreateResponseOperator(task_id="ask", model="m", input="Why?").execute(scene.context)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"extra": {"base_url": "https://host/v1"}}, "base_url in its Extra is read by nobody"),
        ({"password": "Bearer sk-x"}, "begins with 'Bearer'"),
        ({"password": '"sk-x"'}, "quotes around it"),
        (
            {"extra": {"openai_client_kwargs": {"default_headers": {"X-Team": 5}}}},
            r"\['X-Team'\] must be text",
        ),
        ({"extra": {"openai_client_kwargs": {"default_headers": ["X-Team: a"]}}}, "must be an object"),
        ({"extra": {"openai_client_kwargs": {"timeout": "5"}}}, "must be seconds"),
    ],
)
def test_a_slip_in_a_connection_is_no_lost_create(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], words: str
) -> None:
    is_of_openai = "headers" not in str(fields) and "timeout" not in str(fields)
    connect(monkeypatch, **({} if is_of_openai else {"host": scene.simulator.base_url}), **fields)
    with pytest.raises(RunConnectionError, match=words) as caught:
        CreateResponseOperator(task_id="ask", model="m", input="Why?").execute(scene.context)
    assert not caught.value.retryable
    assert "sk-x" not in str(caught.value)
    assert scene.creates() == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": {"base_url": ""}},
        {"extra": {"base_url": "https://api.openai.com/v1"}},
        {"extra": {"base_url": "https://other/v1"}, "host": "https://host/v1"},
        {"password": "''", "host": "http://no-key-asked/v1"},
        {"extra": {"openai_client_kwargs": {"default_headers": []}}},
        {"host": "", "port": 443},
    ],
)
def test_what_works_all_the_same_is_no_slip(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, object]
) -> None:
    connect(monkeypatch, **fields)
    assert OpenAIRunsHook().get_conn().base_url


@pytest.mark.parametrize("place", ["host", "base_url", "environment"])
def test_a_task_fails_at_once_and_names_its_connection(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    address = scene.simulator.base_url.removeprefix("http://")
    if place == "base_url":
        connect(monkeypatch, extra={"openai_client_kwargs": {"base_url": address}})
    elif place == "host":
        connect(monkeypatch, host=address)
    else:
        connect(monkeypatch)
        monkeypatch.setenv("OPENAI_BASE_URL", address)
    operator = CreateResponseOperator(task_id="ask", model="m", input="Why?")
    began = time.monotonic()
    with pytest.raises(RunConnectionError) as caught:
        operator.execute(scene.context)

    assert time.monotonic() - began < 5
    text = str(caught.value)
    assert not [word for word in ("'openai_default'", address, "https://host/v1") if word not in text], text
    assert not caught.value.retryable
    with pytest.raises(RunConnectionError, match="openai_default"):
        asyncio.run(OpenAIRunsHook().acreate_background_response(model="m", input="Why?"))
