# SPDX-License-Identifier: Apache-2.0
"""The page about alerts, tried: what its callbacks send for a run that failed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Self

import pytest

from airflow_provider_openai_runs.exceptions import RunFailedError
from airflow_provider_openai_runs.operators import CreateResponseOperator
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Scene
from tests.support.scripted_server import ScriptedServer

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "alerts.md"


@pytest.fixture
def page() -> dict[str, Any]:
    """Give the functions of the page."""
    functions: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(example, functions)  # noqa: S102 # our own page
    return functions


@pytest.fixture
def failed(scene: Scene) -> Any:
    """Give the context of a task whose run has failed, as Airflow hands it to a callback."""
    error = {"code": "invalid_prompt", "message": "Not like this."}
    scene.simulator.script(Scenario(queued=0, in_progress=0, ends="failed", error=error, usage=(7, 2)))
    ask = CreateResponseOperator(task_id="ask", model="m", input="Hello", completion_window=30, retries=2)
    with pytest.raises(RunFailedError) as caught:
        scene.run(ask)
    return {**scene.context, "exception": caught.value}


def test_slack_hears_which_run_failed_and_what_it_has_used(
    scene: Scene,
    page: dict[str, Any],
    failed: Any,
    scripted: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = {"conn_type": "slackwebhook", "password": f"{scripted.url}/services/hook"}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_WEBHOOK", json.dumps(connection))
    scripted.play({"POST /services/hook": (200, {})})
    page["alert"](failed)

    (body,) = scripted.bodies()
    first, second = body["text"].splitlines()
    assert first.startswith("a_dag.ask failed: Response ")
    assert "invalid_prompt: Not like this." in first
    (run,) = scene.simulator.runs()
    assert second == f"Run {run['id']} (status failed, 9 tokens): no page"


def test_a_callback_without_an_exception_finds_the_run_in_xcom(page: dict[str, Any], failed: Any) -> None:
    run_id = failed.pop("exception").ref["id"]
    assert page["message_of"](failed) == (
        f"a_dag.ask failed: its worker was lost\nRun {run_id} (status None, None tokens): no page"
    )


def test_an_email_says_the_same(page: dict[str, Any], failed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    smtp = pytest.importorskip("airflow.providers.smtp.hooks.smtp")
    sent: dict[str, Any] = {}

    class Outbox:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing is open."""

        def send_email_smtp(self, **message: Any) -> None:
            sent.update(message)

    monkeypatch.setattr(smtp, "SmtpHook", Outbox)
    page["alert_by_email"](failed)

    assert sent["subject"].startswith("a_dag.ask failed: ")
    assert failed["exception"].ref["id"] in sent["html_content"]
