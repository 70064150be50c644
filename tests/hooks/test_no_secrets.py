# SPDX-License-Identifier: Apache-2.0
"""A server repeats what it was sent, 64 KiB of it: none of that is in an error, its traceback or an event."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import OpenAIRunError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook, openai_runs
from airflow_provider_openai_runs.triggers import RunCompletionTrigger
from airflow_provider_openai_runs.wire import flows
from tests.support.scripted_server import Answer, ScriptedServer, reply

KEY = "correct/horse battery-staple"
HEADER = "header-credential-1"
SIGNATURE = "query+credential=2"
SECRETS = ("correct/horse", "battery", "header-cred", "query+cred", "query%2Bcred")
REF = {"kind": "response", "id": "resp_1", "conn_id": "telling"}
BODY = f"Wrong key '{KEY}' (api-key {HEADER}, sig={SIGNATURE}) " + "raw body " * 8000
EXTRA = {
    "default_headers": {"api-key": HEADER, "OpenAI-Beta": "assistants=v2"},
    "default_query": {"sig": SIGNATURE, "api-version": "2026-10-01"},
}
TEXT = ("Content-Type: text/plain",)
ANSWERS: dict[str, Callable[[], Answer]] = {
    "401": lambda: (401, {"error": {"message": BODY, "code": KEY, "param": KEY}}),
    "400": lambda: (400, {"error": {"message": BODY}}),
    "500 text": lambda: reply(BODY.encode(), *TEXT, status="500 No"),
    "500 list": lambda: (500, [BODY]),
    "422": lambda: (422, {"detail": [{"loc": ["body", KEY], "msg": BODY}]}),
    "200 text": lambda: reply(BODY.encode(), *TEXT),
    "200 no run": lambda: (200, {KEY: BODY}),
}


@pytest.fixture(autouse=True)
def telling(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "openai", "password": KEY, "host": scripted.url}
    with_extra = {**connection, "extra": json.dumps({"openai_client_kwargs": EXTRA})}
    monkeypatch.setenv("AIRFLOW_CONN_TELLING", json.dumps(with_extra))
    # No second try, and all the time that a busy machine may take for the first.
    monkeypatch.setattr(flows, "LEAST_REPLY_TIMEOUT", 30.0)
    monkeypatch.setattr(openai_runs, "DEFAULT_TIMEOUTS", {"create": 0.1, "read": 0.1, "delete": 0.1})


def acted(action: str) -> Any:
    hook = OpenAIRunsHook("telling")
    match action:
        case "create":
            return hook.create_background_response(model="m", input="x")
        case "read":
            return hook.retrieve(REF)
        case "read in the event loop":
            return asyncio.run(hook.aretrieve(REF))
        case _:
            return hook.cancel(REF, wait=0.1)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("action", ["create", "read", "read in the event loop", "cancel"])
def test_a_traceback_holds_neither_a_secret_nor_the_body(
    scripted: ScriptedServer, answer: str, action: str
) -> None:
    scripted.play(lambda _: ANSWERS[answer]())
    with pytest.raises(OpenAIRunError) as caught:
        acted(action)

    printed = "".join(traceback.format_exception(caught.value))
    assert [secret for secret in SECRETS if secret in printed] == []
    assert "openai." not in printed
    assert "raw body " * 100 not in printed
    assert len(str(caught.value)) < 1000
    assert answer[:3] in str(caught.value)


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_event_of_a_wait_holds_neither(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.triggers.completion.CANCEL_WAIT", 0.1)
    scripted.play(lambda _: ANSWERS[answer]())
    trigger = RunCompletionTrigger(ref=REF, created_at=1.0, deadline=time.time() + 0.2)

    async def fired() -> Any:
        return await anext(trigger.run())

    payload = asyncio.run(fired()).payload
    assert payload["trouble"]
    assert [secret for secret in SECRETS if secret in json.dumps(payload)] == []
    assert len(json.dumps(payload)) < 1200


def test_what_a_failed_run_quotes_is_redacted_and_its_answer_is_not(scripted: ScriptedServer) -> None:
    message = {"type": "message", "content": [{"type": "output_text", "text": f"It is {HEADER}."}]}
    run = {"id": "resp_1", "status": "failed", "error": {"message": BODY}, "output": [message]}
    scripted.play(lambda _: (200, run))
    found = OpenAIRunsHook("telling").retrieve(REF)

    assert found.last_error is not None
    assert [secret for secret in SECRETS if secret in str(found.last_error)] == []
    assert found.output_text == f"It is {HEADER}."


def test_what_is_no_secret_of_the_connection_stays(scripted: ScriptedServer) -> None:
    shown = "token limit: 5; api-version=2026-10-01 is not served by 127.0.0.1, ask for assistants=v2"
    scripted.play(lambda _: (400, {"error": {"message": shown}}))
    with pytest.raises(OpenAIRunError) as caught:
        acted("read")

    assert shown in str(caught.value)
