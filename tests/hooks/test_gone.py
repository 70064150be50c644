# SPDX-License-Identifier: Apache-2.0
"""Which 404s say that a run is gone, and which say nothing of it: bodies of servers and of gateways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from tests.support.scripted_server import ScriptedServer, reply

REFS = [
    RunRef(kind="response", id="resp_0a1b2c", conn_id="scripted"),
    RunRef(kind="thread_run", id="run_0a1b2c", thread_id="thread_9z", conn_id="scripted"),
]


def _error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, **more}}


@pytest.mark.parametrize("ref", REFS, ids=["response", "thread run"])
@pytest.mark.parametrize(
    ("body", "is_gone"),
    [
        (_error("Response with id '{id}' not found."), True),
        (_error("No run found with id '{id}'."), True),
        (_error("No thread found with id 'thread_9z'."), True),
        (_error("{id} is not known here"), True),
        ({"detail": "Run not found"}, True),
        ({"detail": "The requested run could not be found"}, True),
        ("Response {id} does not exist", True),
        ({"detail": "Not Found"}, False),
        ("404 page not found", False),
        ("<html><head><title>404 Not Found</title></head><body>nginx</body></html>", False),
        ("The requested URL /v1/responses/{id} was not found on this server.", False),
        ({"message": "no Route matched with those values"}, False),
        ({"message": "no healthy upstream"}, False),
        ("Cannot GET /v1/responses/{id}", False),
        ("404 Not Found: Requested route ('ai.example.com') does not exist.", False),
        ({"message": "No method found matching route responses/{id} for http method GET."}, False),
        (_error("Invalid URL (GET /v1/responses/{id})"), False),
        (_error("The API deployment for this resource does not exist.", code="DeploymentNotFound"), False),
        (_error("No deployments available for selected model"), False),
        (_error("litellm.NotFoundError: <html><h1>404 Not Found</h1></html>", type="not_found_error"), False),
        ("", False),
    ],
)
def test_a_404_says_that_a_run_is_gone_if_it_names_the_run(
    scripted: ScriptedServer, ref: RunRef, body: Any, is_gone: bool
) -> None:
    written = (body if isinstance(body, str) else json.dumps(body)).replace("{id}", ref.id)
    scripted.play(lambda _: reply(written.encode(), "Connection: close", status="404 As Scripted"))
    with pytest.raises(ApiRequestFailed) as caught:
        OpenAIRunsHook("scripted").run_flow(flows.single(wire_of(ref.kind).poll(ref)))

    assert caught.value.failure.says_gone is is_gone
