# SPDX-License-Identifier: Apache-2.0
"""An item is judged as a task of one run is: the same run, its task's end beside the item's."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import BaseModel

from airflow_provider_openai_runs.bulk.commands import StopReason, Verdict
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.judging import RunJudge
from airflow_provider_openai_runs.exceptions import OpenAIRunError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.operators import CreateResponseOperator
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.simulator import FunctionCall, ImageGeneration, Scenario
from airflow_provider_openai_runs.wire import flows
from tests.support.scene import Scene


class Ticket(BaseModel):
    team: str


BAD_KEY = {"authorization": "Bearer secret-of-the-tool"}
TOOLS = [{"type": "mcp", "server_label": "s", "server_url": "https://example.com", "headers": BAD_KEY}]


@pytest.mark.parametrize(
    ("scenario", "arguments"),
    [
        ({}, {}),
        ({"text": "blue\x00", "usage": (7, 3)}, {"tools": TOOLS}),
        ({"text": ""}, {}),
        ({"refusal": "I cannot."}, {}),
        ({"refusal": "I cannot."}, {"output_type": Ticket}),
        ({"text": '{"team": "billing"}'}, {"output_type": Ticket}),
        ({"text": '{"team": 7}'}, {"output_type": Ticket}),
        ({"text": "cut", "ends": "incomplete", "incomplete_reason": "max_output_tokens"}, {}),
        (
            {"text": "cut", "ends": "incomplete", "incomplete_reason": "max_output_tokens"},
            {"on_incomplete": "accept"},
        ),
        ({"text": "", "ends": "incomplete", "incomplete_reason": "content_filter"}, {}),
        ({"ends": "failed", "error": {"code": "server_error", "message": "A bad day."}}, {}),
        ({"ends": "failed", "error": {"code": "invalid_prompt", "message": "Not so."}}, {}),
        ({"ends": "cancelled"}, {}),
        (
            {"function_calls": [[FunctionCall(name="find", arguments={})]]},
            {},
        ),
    ],
)
def test_an_item_ends_as_its_run_alone_would(
    scene: Scene, scenario: dict[str, Any], arguments: dict[str, Any]
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0, **scenario))
    operator = CreateResponseOperator(
        task_id="ask",
        **{"model": "m", "input": "Which?", "completion_window": 30, "deferrable": False, **arguments},
    )
    error = None
    try:
        result = scene.run(operator, scene.context)
    except OpenAIRunError as raised:
        error, result = raised, scene.context["ti"].xcoms["return_value"]
    verdict = _judge(result["ref"], **arguments)
    result = {name: value for name, value in result.items() if name not in SUMS_OF_A_TASK}
    assert _as_json(verdict.outcome.result) == _as_json(result)
    assert verdict.outcome.state is (ItemState.SUCCEEDED if error is None else ItemState.FAILED)
    assert verdict.retryable == (error is not None and error.retryable)
    assert verdict.outcome.error is None or verdict.outcome.error in str(error)
    assert b"secret-of-the-tool" not in verdict.outcome.to_line()


def test_a_picture_that_is_too_large_for_xcom_stays_in_the_result(scene: Scene) -> None:
    picture = ImageGeneration(size=1_200_000)
    scene.simulator.script(Scenario(queued=0, in_progress=0, text="Here.", output=[picture]))
    ref = OpenAIRunsHook().create_background_response(model="m", input="Draw.").ref
    result = _judge(ref.to_json()).outcome.result
    assert result is not None
    assert len(base64.b64decode(result["steps"][0]["details"]["result"])) == 1_200_000
    assert "steps_truncated" not in result


def test_a_run_that_an_earlier_attempt_may_have_cancelled_is_created_again(scene: Scene) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0, ends="cancelled"))
    ref = OpenAIRunsHook().create_background_response(model="m", input="Which?").ref
    assert not _judge(ref.to_json()).retryable
    assert _judge(ref.to_json(), is_retry=True).retryable


def test_a_run_that_the_task_itself_has_cancelled_says_why(scene: Scene) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0, ends="cancelled"))
    ref = OpenAIRunsHook().create_background_response(model="m", input="Which?").ref
    verdict = RunJudge(stopped=lambda: StopReason.WINDOW_OVER)(0, None, _read(ref.to_json()))
    assert verdict.outcome.error is not None
    assert "was cancelled by this task: completion_window is over" in verdict.outcome.error


#: An item is no task instance: what all its runs took is in the sums of the bulk task.
SUMS_OF_A_TASK = {"usage_total", "runs_without_usage", "cost", "cost_total"}


def _judge(ref: dict[str, Any], **arguments: Any) -> Verdict:
    names = ("on_incomplete", "output_type", "is_retry")
    judge = RunJudge(**{name: arguments[name] for name in names if name in arguments})
    return judge(3, "label", _read(ref))


def _read(ref: dict[str, Any]) -> Run:
    hook = OpenAIRunsHook()
    return hook.run_flow(flows.with_retries(flows.read(hook.retrieve(ref).ref, steps=True), budget=30))


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))
