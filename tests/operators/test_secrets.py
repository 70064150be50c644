# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk.log import redact  # type: ignore[attr-defined]  # as Airflow itself imports it

from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Make, Scene

MCP = {
    "type": "mcp",
    "server_label": "tickets",
    "server_url": "https://tickets.example.com",
    "authorization": "Bearer {{ 'of-the-server-1234' }}",
    "headers": {"X-Tenant-Key": "tenant-key-5678"},
}


def test_the_credentials_of_a_tool_do_not_get_into_the_rendered_fields(respond: Callable[..., Any]) -> None:
    operator = respond(tools=[MCP])
    operator.render_template_fields({})
    shown = str(redact(operator.tools, "tools"))

    assert operator.tools[0]["headers"] == {"X-Tenant-Key": "tenant-key-5678"}
    assert "of-the-server-1234" not in shown
    assert "tenant-key-5678" not in shown
    assert "tickets.example.com" in shown


def test_the_credentials_of_a_tool_in_extra_body_do_not_get_into_the_rendered_fields(
    respond: Callable[..., Any],
) -> None:
    tool = {**MCP, "headers": {"X-Tenant-Key": "tenant-key-of-extra"}}
    operator = respond(extra_body={"tools": [tool]})
    operator.render_template_fields({})

    assert "tenant-key-of-extra" not in str(redact(operator.extra_body, "extra_body"))


def test_the_credentials_of_a_tool_do_not_get_into_xcom(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1))
    found = respond(tools=[MCP]).execute(scene.context)

    assert "tenant-key-5678" in str(scene.simulator.requests[0].body)
    assert found["tools"][0]["server_label"] == "tickets"
    assert "of-the-server-1234" not in str(found)
    assert "tenant-key-5678" not in str(found)
