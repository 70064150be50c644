# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_openai_runs import results
from airflow_provider_openai_runs.runs.model import Run, RunRef, Step
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.tool_secrets import secrets_of, without_secrets

MCP = {
    "type": "mcp",
    "server_label": "tickets",
    "server_url": "https://tickets.example.com",
    "authorization": "Bearer of-the-server-1234",
    "headers": {"X-Tenant-Key": "tenant-key-5678"},
}
DEEP = {
    "type": "namespace",
    "name": "n",
    "tools": [
        {**MCP, "headers": {"X": "header-in-a-namespace"}},
        {"type": "mcp", "server_url": "https://user:of-the-url@mcp.example.com/s?api_key=of-the-query&v=1"},
    ],
}
SHELL = {
    "type": "shell",
    "environment": {
        "type": "container_auto",
        "network_policy": {
            "type": "allowlist",
            "domain_secrets": [{"domain": "example.com", "name": "K", "value": "of-the-domain"}],
        },
    },
}
FUNCTION = {"type": "function", "name": "f", "parameters": {"properties": {"headers": {"type": "string"}}}}
DEEP_SECRETS = ("header-in-a-namespace", "of-the-url", "of-the-query", "of-the-domain")


@pytest.mark.parametrize(
    ("tool", "secrets", "shown"),
    [
        (
            {"server_url": "https://h/p?api_key=ab%3D%3D&a=api_key"},
            {"ab%3D%3D", "ab=="},
            "https://h/p?api_key=***&a=api_key",
        ),
        (
            {"server_url": "https://h/?token=t&a=tt#sig=x+y"},
            {"t", "x+y", "x y"},
            "https://h/?token=***&a=tt#sig=***",
        ),
        ({"server_url": "https://admin@h/"}, set(), "https://***@h/"),
        ({"headers": [{"name": "X-Key", "value": "of-a-list"}]}, {"of-a-list"}, "***"),
        ({"headers": {"X": 5}}, set(), "***"),
    ],
)
def test_each_credential_is_known_as_it_is_written_and_as_it_is_meant(
    tool: dict[str, Any], secrets: set[str], shown: str
) -> None:
    assert {*secrets_of([tool])} == secrets
    assert [*without_secrets(tool).values()] == [shown]


def test_credentials_within_tools_are_known_and_taken_out() -> None:
    tools = [DEEP, SHELL, FUNCTION]
    assert {*DEEP_SECRETS} <= {*secrets_of(tools)}
    shown = json.dumps(without_secrets(tools))
    assert [secret for secret in DEEP_SECRETS if secret in shown] == []
    assert "https://***@mcp.example.com/s?api_key=***&v=1" in shown
    assert without_secrets(FUNCTION) == FUNCTION
    assert "string" not in {*secrets_of(tools)}


@pytest.mark.parametrize("value", [None, 5, "x", [None], [5], {"tools": 5}, [{"server_url": "http://[x"}]])
def test_whatever_else_stands_among_the_tools_is_left_as_it_is(value: Any) -> None:
    without_secrets(value)
    list(secrets_of(value))


def test_tools_that_a_server_lists_among_its_items_show_no_credentials() -> None:
    step = Step(id="s", type="additional_tools", status=None, details={"tools": [MCP, DEEP]})
    ref = RunRef(kind="response", id="resp_1", conn_id="ai")
    run = Run(ref=ref, status=RunStatus.COMPLETED, raw_status="completed", object="response", steps=(step,))
    shown = json.dumps(results.whole(run))
    assert "header-in-a-namespace" not in shown
    assert "tenant-key-5678" not in shown
