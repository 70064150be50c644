# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.hooks.diagnosis import Level, diagnose
from airflow_provider_openai_runs.simulator import Simulator
from tests.support.scene import Scene
from tests.support.scripted_server import Answer, Asked, ScriptedServer

NO_RESPONSE: Answer = (404, {"error": {"message": "Response with id 'resp_0' not found.", "type": "invalid"}})
NO_URL: Answer = (404, {"error": {"message": "Invalid URL (GET /v1/responses/resp_0)", "type": "invalid"}})
REFUSED: Answer = (401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})


def levels(conn_id: str = "scripted", **options: Any) -> dict[str, Level]:
    hook = OpenAIRunsHook(conn_id, sleep=lambda _: None)
    return {finding.about: finding.level for finding in diagnose(hook, **options)}


def test_a_connection_to_the_simulator_is_sound(scene: Scene) -> None:
    works, text = OpenAIRunsHook().test_connection()

    assert works
    assert text.startswith(f"{scene.simulator.base_url} answers, and takes the key.")
    assert "The server knows responses." in text
    assert scene.creates() == 0


@pytest.mark.parametrize(
    ("today", "level"),
    [
        (date(2026, 3, 1), Level.OK),
        (date(2026, 11, 26), Level.WARNING),
        (date(2027, 1, 14), Level.FAILED),
        (date(2028, 1, 1), Level.FAILED),
    ],
)
def test_a_model_is_named_by_the_day_it_is_switched_off(scene: Scene, today: date, level: Level) -> None:
    found = levels("openai_default", models=["gpt-4o-mini", "gpt-6-luna", "no-such-model"], today=today)

    assert found["model gpt-4o-mini"] is level
    assert found["model gpt-6-luna"] is Level.OK
    assert found["model no-such-model"] is Level.FAILED


def test_a_server_without_threads_is_fit_for_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(no_threads=True) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_SCRIPTED", simulator.connection_json)

        found = levels()

    assert (found["responses"], found["thread runs"]) == (Level.OK, Level.WARNING)


@pytest.mark.parametrize("nothing", [(404, {"detail": "Not Found"}), NO_URL, (405, {}), (404, "<html>")])
def test_a_host_without_v1_is_said_to_be_one(scripted: ScriptedServer, nothing: Answer) -> None:
    scripted.play(lambda _: nothing)

    works, text = OpenAIRunsHook("scripted").test_connection()

    assert not works
    assert "The Host of connection 'scripted' usually ends in /v1" in text


def test_a_server_without_a_list_of_models_is_sound_all_the_same(scripted: ScriptedServer) -> None:
    def answer(asked: Asked) -> Answer:
        return NO_RESPONSE if asked.path.startswith("/responses/") else (404, {"detail": "Not Found"})

    scripted.play(answer)

    found = levels(models=["mine"])

    assert found["responses"] is Level.OK
    assert found["model mine"] is Level.WARNING


@pytest.mark.parametrize("path", ["/models", "/responses/"])
def test_a_refused_key_is_named_whichever_route_refuses_it(scripted: ScriptedServer, path: str) -> None:
    def answer(asked: Asked) -> Answer:
        return REFUSED if asked.path.startswith(path) else (404, {"detail": "Not Found"})

    scripted.play(answer)

    assert levels() == {"key": Level.FAILED}


@pytest.mark.parametrize(
    "connection",
    [
        {"host": "http://127.0.0.1:9/v1", "password": "k"},
        {"host": "127.0.0.1/v1", "password": "k"},
        {"host": "http://127.0.0.1:9/v1"},
    ],
    ids=["nobody listens", "no scheme", "no key"],
)
def test_a_connection_that_cannot_work_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, connection: dict[str, str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("airflow_provider_openai_runs.hooks.diagnosis._BUDGET", 0.1)
    monkeypatch.setenv("AIRFLOW_CONN_SCRIPTED", json.dumps({"conn_type": "openai", **connection}))

    works, text = OpenAIRunsHook("scripted").test_connection()

    assert not works
    assert "'scripted'" in text


def test_a_password_in_the_address_is_not_shown(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = scripted.url.replace("http://", "http://ada:opensesame@")
    monkeypatch.setenv(
        "AIRFLOW_CONN_SCRIPTED", json.dumps({"conn_type": "openai", "password": "k", "host": url})
    )

    assert "opensesame" not in OpenAIRunsHook("scripted").test_connection()[1]
