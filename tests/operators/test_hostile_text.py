# SPDX-License-Identifier: Apache-2.0
"""What a server writes into its statuses, ids and errors, and where a task lets it through."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_openai_runs.exceptions import LostCreateError, RunFailedError
from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator
from tests.support.scene import Scene
from tests.support.scripted_server import Answer, Asked, ScriptedServer

FORGED = "queued\n[2026-11-26] ERROR - \x1b[31mforged\u202e \ud83d\0"
UNFIT_IDS = ["resp_1\nforged", "resp_\ud800", "resp_\0", "..", "x" * 3_000_000, "resp_\u202e1"]


def response(**more: Any) -> dict[str, Any]:
    """Return a response as the API writes it."""
    fixed = {"id": "resp_1", "object": "response", "created_at": int(time.time()), "status": "completed"}
    answer = {"type": "message", "content": [{"type": "output_text", "text": "The Elbe."}]}
    return {**fixed, "model": "m", "output": [answer], **more}


@pytest.fixture
def ask(scene: Scene) -> Callable[..., CreateResponseOperator]:
    def make(**arguments: Any) -> CreateResponseOperator:
        fixed = {"conn_id": "scripted", "model": "m", "input": "x", "completion_window": 5}
        return CreateResponseOperator(task_id="ask", deferrable=False, **{**fixed, **arguments})

    return make


@pytest.mark.parametrize("unfit", UNFIT_IDS, ids=[repr(text[:12]) for text in UNFIT_IDS])
def test_a_create_with_an_id_that_nothing_can_carry_is_a_lost_create(
    scene: Scene, scripted: ScriptedServer, ask: Callable[..., Any], unfit: str
) -> None:
    scripted.play(lambda _: (200, response(id=unfit, status="queued")))
    operator = ask()
    lines = scene.log_of(operator)
    with pytest.raises(LostCreateError) as caught:
        operator.execute(scene.kept)

    shown = str(caught.value)
    assert isinstance(caught.value, AirflowFailException)
    assert shown.isprintable()
    assert len(shown) < 1000
    assert any("its id cannot be used" in line for line in lines)
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    assert "may be running and billing" in shown
    assert scripted.count("POST /responses") == 1


def test_a_thread_run_with_such_an_id_is_not_adopted_from_the_list_either(
    scene: Scene, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.SEARCH_SECONDS", 0.2)
    monkeypatch.setattr("airflow_provider_openai_runs.attempts.acquire.SEARCH_PAUSE", 0.1)
    runs: list[dict[str, Any]] = []

    def play(asked: Asked) -> Answer:
        if asked.method == "POST":
            made = {"id": "../../files", "created_at": int(time.time()), "status": "queued"}
            runs.append({**made, "id": "run_1\n", "metadata": asked.body["metadata"]})
            return 200, runs[-1]
        return 200, {"data": runs, "has_more": False}

    scripted.play(play)
    operator = CreateRunOperator(
        task_id="ask",
        conn_id="scripted",
        thread_id="thread_1",
        assistant_id="asst_1",
        completion_window=5,
        deferrable=False,
    )
    with pytest.raises(LostCreateError):
        operator.execute(scene.kept)

    assert scripted.count("POST /threads/thread_1/runs") == 1


def test_a_status_cannot_forge_a_line_of_the_log(
    scene: Scene, scripted: ScriptedServer, ask: Callable[..., Any]
) -> None:
    states = iter(["queued", FORGED, FORGED + "x" * 3_000_000])

    def play(_: Asked) -> Answer:
        return 200, response(status=next(states, "completed"))

    scripted.play(play)
    operator = ask(poll_interval=0.05)
    lines = scene.log_of(operator)
    found = operator.execute(scene.context)

    assert found["status"] == "completed"
    assert any(r"\x1b[31mforged\u202e" in line for line in lines)
    assert [line for line in lines if not line.isprintable() or len(line) > 700] == []


def test_what_a_failed_run_says_is_message_text_in_its_error_and_in_xcom(
    scene: Scene, scripted: ScriptedServer, ask: Callable[..., Any]
) -> None:
    wrong = {"code": FORGED * 1000, "message": FORGED + " sk-proj-0123456789abcdef " + "y" * 3_000_000}
    scripted.play(lambda _: (200, response(status="failed", error=wrong)))
    with pytest.raises(RunFailedError) as caught:
        ask().execute(scene.context)

    pushed = scene.context["ti"].xcoms["return_value"]["last_error"]
    for shown in (str(caught.value), *pushed.values()):
        assert shown.isprintable()
        assert len(shown) < 1200
        assert "0123456789abcdef" not in shown
    assert json.dumps(pushed, ensure_ascii=False).encode()
