# SPDX-License-Identifier: Apache-2.0
"""``max_total_tokens`` and ``max_cost``: checked before everything that pays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_openai_runs.exceptions import (
    CeilingReachedError,
    OpenAIRunError,
    RunConnectionError,
    RunFailedError,
    RunRequestError,
)
from airflow_provider_openai_runs.operators import (
    CreateResponseOperator,
    CreateRunOperator,
    SubmitToolOutputsOperator,
)
from airflow_provider_openai_runs.runs.ceiling import Amount, Ceiling, prompt_bound
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.airflow_versions import needs_store
from tests.support.scene import Make, Scene

pytestmark = needs_store

GOOD = Scenario(queued=0, in_progress=0.06, usage=(40, 20))
FAILED = Scenario(queued=0, in_progress=0.06, ends="failed", usage=(40, 20))
SILENT = Scenario(queued=0, in_progress=0.06, ends="failed")
CALLED: list[str] = []
REF = {"kind": "response", "id": "resp_1", "conn_id": "openai_default"}
THREAD_RUN = {"kind": "thread_run", "id": "run_1", "thread_id": "thread_1", "conn_id": "openai_default"}


def weather(city: str) -> str:
    """Say how the weather is."""
    CALLED.append(city)
    return f"{city}: blue"


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    CALLED.clear()


@pytest.fixture
def bounded(create: Make) -> Callable[..., Any]:
    """Make an operator of either kind that may write 300 tokens, the least but 44 that a thread run takes."""

    def make(**arguments: Any) -> Any:
        is_response = isinstance(create(), CreateResponseOperator)
        return create(**{"max_output_tokens" if is_response else "max_completion_tokens": 300, **arguments})

    return make


def set_prices(scene: Scene, table: Any) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_OPENAI_DEFAULT"])
    connection["extra"] = {"prices": table}
    scene.monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", json.dumps(connection))


def refused(scene: Scene, operator: Any, context: Any) -> str:
    before = scene.simulator.count("POST", "")
    with pytest.raises(CeilingReachedError) as caught:
        scene.run(operator, context)
    assert isinstance(caught.value, AirflowFailException)
    assert scene.simulator.count("POST", "") == before
    return str(caught.value)


def test_nothing_is_created_whose_request_alone_may_pass_the_ceiling(scene: Scene, bounded: Make) -> None:
    text = refused(scene, bounded(max_total_tokens=301), scene.kept)

    assert "max_total_tokens=301: 0 tokens are used, and the next request may take " in text
    assert scene.store.record is None
    assert scene.simulator.runs() == []


def test_a_retry_may_spend_what_is_left_and_a_clear_all_of_it_again(scene: Scene, bounded: Make) -> None:
    scene.simulator.script(FAILED, FAILED, GOOD)
    operator = bounded(max_total_tokens=730)
    contexts = [scene.kept]
    for _ in range(2):
        with pytest.raises(RunFailedError):
            scene.run(operator, contexts[-1])
        contexts.append(scene.retry(contexts[-1]))
    # Another 60 would fit, but nobody knows before that it takes no more.
    text = refused(scene, bounded(max_total_tokens=400), contexts[-1])
    assert "max_total_tokens=400: 120 tokens are used, and the next request may take" in text
    assert scene.run(operator, scene.clear(contexts[-1]))["usage_total"]["total_tokens"] == 180


def test_a_run_that_does_not_say_its_tokens_counts_as_what_was_reserved_for_it(
    scene: Scene, bounded: Make
) -> None:
    scene.simulator.script(SILENT, GOOD)
    with pytest.raises(RunFailedError):
        scene.run(bounded(max_total_tokens=600), scene.kept)
    reserved = scene.store.record["spending"]["open"][0]["tokens"]
    text = refused(scene, bounded(max_total_tokens=2 * reserved - 1), scene.retry(scene.kept))

    assert f"0 tokens are used, {reserved} may be by runs that have not said theirs" in text
    assert f"may take {reserved}" in text
    assert scene.run(bounded(max_total_tokens=2 * reserved), scene.retry(scene.kept))["status"] == "completed"


def test_a_create_that_was_lost_stays_reserved(scene: Scene, respond: Make) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.RESUBMIT_PAUSE", 0.05)
    scene.simulator.fault(Fault(method="POST", path="^/responses$", kind="lost"))
    operator = respond(on_lost_create="resubmit", max_output_tokens=300, max_total_tokens=800)
    with pytest.raises(CeilingReachedError, match="may be by runs that have not said theirs") as caught:
        scene.run(operator, scene.kept)

    assert scene.creates() == 1
    token = scene.simulator.runs()[0]["metadata"]["airflow_token"]
    assert f"Runs with metadata tokens '{token}' may be running and billing." in str(caught.value)


@pytest.mark.usefixtures("quick_retries")
def test_a_create_that_was_not_accepted_takes_nothing_of_the_ceiling(scene: Scene, bounded: Make) -> None:
    scene.simulator.script(GOOD)
    scene.simulator.fault(Fault(method="POST", path="(responses|runs)$", status=429, times=2))

    assert scene.run(bounded(max_total_tokens=600), scene.kept)["status"] == "completed"


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_an_answer_to_calls_that_may_pass_the_ceiling_is_not_sent_and_no_function_called_for_it(
    scene: Scene, bounded: Make, *, deferrable: bool
) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Oslo"})
    scene.simulator.script(
        Scenario(queued=0, in_progress=0.06, function_calls=[(call,)] * 9, usage=(200, 50), times=None)
    )
    operator = bounded(functions=[weather], max_total_tokens=1500, deferrable=deferrable)
    with pytest.raises(CeilingReachedError, match=r"max_total_tokens=1500: .*Nothing was sent for it"):
        scene.run(operator, scene.kept)

    assert 1 <= len(CALLED) <= 2
    answers = scene.simulator.count("POST", "(submit_tool_outputs|/responses)$")
    assert answers - len(CALLED) in {0, 1}  # of responses, the first is created in the same way
    assert scene.simulator.active() == []
    assert scene.kept["ti"].xcoms["return_value"]["tool_calls"]


def test_an_answer_that_is_sent_again_takes_nothing_twice(scene: Scene, run_on: Make) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Oslo"})
    scene.simulator.script(
        Scenario(queued=0, in_progress=0.06, function_calls=[(call,)], usage=(200, 50), times=None)
    )
    operator = run_on(
        functions=[weather], max_total_tokens=2000, max_completion_tokens=300, timeouts={"create": 5}
    )
    # It asks for more time than an attempt has, so each sends one answer.
    busy = Fault(method="POST", path="submit_tool_outputs$", status=429, retry_after=60, times=5)
    scene.simulator.fault(busy)
    context, reserved = scene.context_of(scene.store, max_tries=9), set()
    for _ in range(5):
        with pytest.raises(OpenAIRunError, match="429"):
            scene.run(operator, context)
        reserved.add(scene.store.record["spending"]["open"][0]["tokens"])
        context = scene.retry(context)

    assert len(reserved) == 1
    assert scene.run(operator, context)["status"] == "completed"
    assert len(scene.simulator.runs()) == 1


def test_a_run_that_is_adopted_takes_nothing_twice(scene: Scene, bounded: Make) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500, usage=(40, 20)))
    operator = bounded(max_total_tokens=600, deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(scene.kept)
    with pytest.raises(TaskDeferred):
        operator.execute(scene.retry(scene.kept))
    scene.simulator.advance(550)

    assert operator.execute(scene.retry(scene.kept))["status"] == "completed"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"max_total_tokens": 1000}, "max_total_tokens: without max_output_tokens"),
        ({"max_cost": 1}, "max_cost: without max_output_tokens"),
        (
            {"max_total_tokens": 10, "max_cost": "1"},
            "max_total_tokens and max_cost: without max_output_tokens",
        ),
        ({"max_total_tokens": 0, "max_output_tokens": 9}, "max_total_tokens=0: must be a whole number"),
        ({"max_cost": "one", "max_output_tokens": 9}, "max_cost='one': must be a decimal number above 0"),
        ({"max_cost": 0, "max_output_tokens": 9}, "max_cost=0: must be"),
        ({"max_cost": True, "max_output_tokens": 9}, "max_cost=True: must be"),
        ({"max_cost": float("nan"), "max_output_tokens": 9}, "max_cost=nan: must be"),
    ],
)
def test_a_ceiling_that_means_nothing_is_an_error_when_the_dag_is_parsed(
    arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(RunRequestError) as caught:
        CreateResponseOperator(task_id="ask", input="Hi", completion_window=9, **arguments)
    assert named in str(caught.value)


def test_what_bounds_a_run_may_be_a_template_or_in_extra_body(scene: Scene) -> None:
    given: dict[str, Any] = {"task_id": "ask", "max_total_tokens": 1000, "completion_window": 9}

    template: Any = "{{ params.limit }}"
    CreateResponseOperator(**given, input="Hi", max_output_tokens=template)
    CreateResponseOperator(**given, input="Hi", extra_body={"max_output_tokens": 100})
    CreateRunOperator(**given, thread_id="t", assistant_id="a", max_tokens=100)
    SubmitToolOutputsOperator(**given, ref=REF, outputs={}, extra_body={"max_output_tokens": 100})
    with pytest.raises(RunRequestError, match="without max_output_tokens"):
        SubmitToolOutputsOperator(**given, ref=REF, outputs={"call_1": "x"})
    with pytest.raises(RunRequestError, match="extra_body"):
        CreateResponseOperator(**given, input="Hi", extra_body=template).execute(scene.kept)


def test_the_answers_to_a_thread_run_of_another_task_have_no_ceiling_of_their_own(scene: Scene) -> None:
    operator = SubmitToolOutputsOperator(
        task_id="answer",
        ref=THREAD_RUN,
        outputs={"call_1": "x"},
        max_cost=1,
        completion_window=9,
        extra_body={"max_completion_tokens": 5},
    )
    with pytest.raises(RunRequestError, match=r"extra_body|Give them to the task that creates it"):
        operator.execute(scene.kept)


def test_below_airflow_3_3_a_ceiling_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.operators.parse_checks.sdk", object())
    with pytest.raises(RunRequestError, match=r"max_cost: needs Airflow 3\.3"):
        CreateResponseOperator(task_id="ask", input="Hi", max_cost=1, max_output_tokens=9)


def test_a_ceiling_of_cost_needs_a_price(scene: Scene, respond: Make) -> None:
    with pytest.raises(RunRequestError, match=r"no price for model 'gpt-4o-mini'.*Nothing was sent"):
        respond(max_cost="0.1", max_output_tokens=100).execute(scene.kept)

    assert scene.creates() == 0


@pytest.mark.parametrize(
    ("table", "named"),
    [("{", "prices='{': must be a JSON object"), ({"other": {"input": 1, "output": 1}}, "has no price for")],
)
def test_a_run_that_waits_for_an_answer_outlives_a_price_that_is_lost_meanwhile(
    scene: Scene, bounded: Make, table: Any, named: str
) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Oslo"})
    scene.simulator.script(
        Scenario(queued=0, in_progress=0.1, function_calls=[(call,)], usage=(200, 50), times=None)
    )
    good = {"gpt-4o*": {"input": 1, "output": 1}}
    operator = bounded(model="gpt-4o", functions=[weather], max_cost="0.01", deferrable=True)
    set_prices(scene, good)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    event = scene.fire(deferred.value.trigger)
    set_prices(scene, table)
    with pytest.raises(OpenAIRunError, match="goes on waiting for the answer to its calls") as caught:
        operator.execute_complete(scene.kept, event)
    assert named in str(caught.value)
    assert not isinstance(caught.value, AirflowFailException)
    assert CALLED == []
    assert len(scene.simulator.runs()) == 1
    assert not scene.store.record.get("ended_by_us")

    set_prices(scene, good)
    found = scene.run(operator, scene.retry(scene.kept))
    assert found["status"] == "completed"
    assert CALLED == ["Oslo"]
    assert scene.creates() == (2 if found["ref"]["kind"] == "response" else 1)


def test_a_run_that_ended_while_the_prices_were_wrong_counts_by_them_once_they_are_right(
    scene: Scene, bounded: Make
) -> None:
    scene.simulator.script(FAILED, GOOD)
    a_token_each = {"gpt-4o*": {"input": 1_000_000, "output": "1e6", "cached_input": "2e6"}}
    given: dict[str, Any] = {"model": "gpt-4o", "deferrable": True}
    operator = bounded(max_cost=2000, **given)
    set_prices(scene, a_token_each)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    event = scene.fire(deferred.value.trigger)
    set_prices(scene, "{")
    with pytest.raises(RunFailedError):
        operator.execute_complete(scene.kept, event)
    again = scene.retry(scene.kept)
    with pytest.raises(RunConnectionError, match=r"prices='\{'"):
        operator.execute(again)

    set_prices(scene, a_token_each)
    text = refused(scene, bounded(max_cost=400, **given), again)
    assert text.startswith("max_cost=400: 100 is used, and")  # 40 by the dearer price, and 20
    assert "without a price in the extra 'prices' of connection 'openai_default'" in text
    assert scene.run(operator, again)["status"] == "completed"


def test_what_an_edited_dag_had_reserved_in_tokens_alone_has_the_price_of_the_dearer_ones(
    scene: Scene, bounded: Make
) -> None:
    scene.simulator.script(SILENT, GOOD)
    given: dict[str, Any] = {"model": "gpt-4o", "max_total_tokens": 2000}
    with pytest.raises(RunFailedError):
        scene.run(bounded(**given), scene.kept)
    reserved = scene.store.record["spending"]["open"][0]["tokens"]
    set_prices(scene, {"gpt-4o*": {"input": 1_000_000, "output": 3_000_000}})
    again = scene.retry(scene.kept)

    assert f" {3 * reserved} may be by runs" in refused(scene, bounded(max_cost=1, **given), again)
    assert scene.run(bounded(max_cost=9000, **given), again)["status"] == "completed"


@pytest.mark.parametrize(("ceiling", "fits"), [(Decimal("10.5"), True), ("0.0001", False)])
def test_a_ceiling_of_cost_is_kept_in_decimals(
    scene: Scene, respond: Make, ceiling: Any, *, fits: bool
) -> None:
    set_prices(scene, {"*": {"input": 3, "output": "12"}})
    scene.simulator.script(GOOD)
    operator = respond(max_cost=ceiling, max_output_tokens=100)
    if fits:
        assert scene.run(operator, scene.kept)["cost"] == "0.00036"
    else:
        text = refused(scene, operator, scene.kept)
        assert text.startswith("max_cost=0.0001: 0 is used, and the next request may cost 0.00")


def test_a_picture_and_a_file_are_in_no_estimate_and_every_other_byte_is() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}
    file = {"type": "input_file", "file_data": "A" * 100_000, "filename": "a.pdf"}
    body = {"input": [{"role": "user", "content": [picture, file]}], "metadata": {"team": "x" * 500}}

    assert prompt_bound(body) < 300
    assert prompt_bound({"input": "é" * 1000}) >= 2000
    assert (
        prompt_bound({"tools": [{"parameters": {"properties": {"metadata": {"description": "x" * 500}}}}]})
        > 500
    )


def test_used_and_reserved_and_more_may_just_reach_the_ceiling() -> None:
    used, reserved, more = Amount(tokens=1), Amount(tokens=2), Amount(tokens=3)

    assert Ceiling(tokens=6).refusal(used=used, reserved=reserved, more=more) is None
    assert "5" in str(Ceiling(tokens=5).refusal(used=used, reserved=reserved, more=more))
