# SPDX-License-Identifier: Apache-2.0
"""What a run has cost, where its connection says prices."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import RunConnectionError, RunFailedError, RunIncompleteError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.hooks.diagnosis import Level, diagnose
from airflow_provider_openai_runs.simulator import FunctionCall, Scenario
from tests.support.scene import Make, Scene

#: Ten and twenty for a token, so that sums can be read.
PRICES: dict[str, Any] = {"gpt-4o*": {"input": "10000000", "output": 20000000, "factors": {"flex": "0.5"}}}
GOOD = Scenario(queued=0, in_progress=0.02, usage=(200, 20))
FAILED = Scenario(queued=0, in_progress=0.02, ends="failed", usage=(100, 10))
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])


def weather(city: str) -> str:
    """Say how the weather is."""
    return f"{city}: blue"


@pytest.fixture
def prices(scene: Scene) -> Any:
    """Set the extra ``prices`` of the connection."""

    def set_them(table: Any) -> None:
        connection = json.loads(os.environ["AIRFLOW_CONN_OPENAI_DEFAULT"])
        extra = connection.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
        connection["extra"] = {**extra, "prices": table}
        scene.monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", json.dumps(connection))

    set_them(PRICES)
    return set_them


@pytest.mark.usefixtures("prices")
@BOTH
def test_the_cost_stands_beside_the_tokens_over_retries_and_clears(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    scene.simulator.script(FAILED, GOOD, GOOD)
    with pytest.raises(RunFailedError):
        scene.run(create(model="gpt-4o-mini", deferrable=deferrable), scene.kept)
    failed = scene.kept["ti"].xcoms["return_value"]
    assert (failed["cost"], failed["cost_total"]) == ("1200", "1200")
    second = scene.retry(scene.kept)
    found = scene.run(create(model="gpt-4o-mini", deferrable=deferrable), second)
    assert (found["cost"], found["cost_total"]) == ("2400", "3600")
    found = scene.run(create(model="gpt-4o-mini", deferrable=deferrable), scene.clear(second))
    assert (found["cost"], found["cost_total"]) == ("2400", "6000")


@pytest.mark.usefixtures("prices")
def test_each_round_has_its_cost(scene: Scene, respond: Make) -> None:
    call = FunctionCall(name="weather", arguments={"city": "Oslo"})
    scene.simulator.script(
        Scenario(queued=0, in_progress=0.02, function_calls=[(call,)] * 2, usage=(50, 5), times=None)
    )
    found = scene.run(respond(functions=[weather]), scene.kept)

    assert (found["cost"], found["cost_total"]) == ("1800", "1800")


@BOTH
def test_a_run_costs_what_its_own_model_and_window_do_once_the_dag_was_edited(
    scene: Scene, prices: Any, respond: Make, *, deferrable: bool
) -> None:
    dear = {"input": "40000000", "output": 40000000}
    prices({"gpt-4o": {**PRICES["gpt-4o*"], "factors": {"8h": "0.5"}}, "gpt-4.1": dear})
    scene.simulator.script(Scenario(queued=0, in_progress=500, usage=(200, 20)))
    operator = respond(model="gpt-4o", processing="8h", completion_window=36_000, deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(scene.kept)
    scene.simulator.advance(550)
    edited = respond(model="gpt-4.1", deferrable=deferrable)
    found = scene.run(edited, scene.retry(scene.kept))

    assert (found["cost"], found["cost_total"]) == ("1200", "1200")


@pytest.mark.usefixtures("prices")
def test_a_tier_that_was_used_counts(scene: Scene, respond: Make) -> None:
    scene.simulator.script(GOOD)

    assert scene.run(respond(service_tier="flex"), scene.kept)["cost"] == "1200"


def test_without_a_price_there_is_none_and_no_guess(scene: Scene, create: Make, prices: Any) -> None:
    prices({"other*": {"input": 1, "output": 1}})
    scene.simulator.script(GOOD)
    found = scene.run(create(), scene.kept)

    assert found["usage_total"]["total_tokens"] == 220
    assert (found["cost"], found["cost_total"]) == (None, None)


@pytest.mark.usefixtures("prices")
def test_lines_and_errors_say_the_cost(scene: Scene, respond: Make) -> None:
    scene.simulator.script(FAILED, Scenario(queued=0, in_progress=0.02, ends="incomplete", usage=(200, 20)))
    with pytest.raises(RunFailedError):
        scene.run(respond(), scene.kept)
    operator = respond()
    lines = scene.log_of(operator)
    with pytest.raises(RunIncompleteError, match="200 prompt and 20 completion tokens, which cost 2400"):
        scene.run(operator, scene.retry(scene.kept))

    finished = next(line for line in lines if line.startswith("Finished"))
    assert (
        " and 20 completion tokens (cost 2400); over all attempts of the task 330 tokens (cost 3600)"
        in finished
    )


@pytest.mark.usefixtures("prices")
def test_a_triggerer_that_ends_the_task_knows_the_price_of_its_run_alone(scene: Scene, respond: Make) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        respond(deferrable=True, end_from_trigger=True).execute(scene.kept)
    _, kwargs = deferred.value.trigger.serialize()

    assert kwargs["tariff"]["model"] == "gpt-4o-mini"
    assert kwargs["tariff"]["prices"] == {
        "gpt-4o*": {
            "input": "10000000",
            "output": "20000000",
            "cached_input": "10000000",
            "cache_write": "10000000",
            "factors": {"flex": "0.5"},
        }
    }
    with pytest.raises(TaskDeferred) as deferred:
        respond(deferrable=True).execute(scene.context_of(None))
    assert "tariff" not in deferred.value.trigger.serialize()[1]


def test_a_wrong_table_fails_before_anything_is_paid_and_names_the_entry(
    scene: Scene, create: Make, prices: Any
) -> None:
    prices({"gpt-4o*": {"input": "ten", "output": 1}})
    with pytest.raises(RunConnectionError, match=r"prices\['gpt-4o\*'\]\['input'\]='ten'") as caught:
        scene.run(create(), scene.kept)

    assert not caught.value.retryable
    assert scene.creates() == 0
    assert scene.store.record is None
    found = {finding.about: finding for finding in diagnose(OpenAIRunsHook())}
    assert found["prices"].level is Level.FAILED
    assert "prices['gpt-4o*']['input']='ten'" in found["prices"].text


def test_a_table_that_goes_wrong_after_the_create_loses_only_the_cost(
    scene: Scene, create: Make, prices: Any
) -> None:
    scene.simulator.script(replace(GOOD, in_progress=0.5))
    operator = create(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    event = scene.fire(deferred.value.trigger)
    prices("{")
    lines = scene.log_of(operator)
    found = operator.execute_complete(scene.kept, event)

    assert (found["usage_total"]["total_tokens"], found["cost"]) == (220, None)
    assert [line for line in lines if line.startswith("There are no costs: ")]


@pytest.mark.usefixtures("prices")
def test_no_client_gets_to_see_the_prices_and_doctor_says_that_they_are_there(scene: Scene) -> None:
    hook = OpenAIRunsHook()

    assert "prices" not in hook._client_kwargs(*hook._connection)
    found = {finding.about: finding.text for finding in diagnose(hook)}
    assert found["prices"] == "There are prices for gpt-4o*."


def test_airflow_hides_no_price_in_logs() -> None:
    from airflow.sdk import log  # noqa: PLC0415 # the edge of this test

    masker: Any = log
    amounts = {"input": "0.1234", "cached_input": "0.2345", "cache_write": "0.3456", "output": "0.4567"}
    table = {"gpt-6-luna*": {**amounts, "factors": {"flex": "0.5678", "2h": "0.6789"}}}
    masker.mask_secret({"prices": table, "api_key_provider": "my_company.secrets.key"})
    line = f"cost 0.1234 0.2345 0.3456 0.4567 0.5678 0.6789 {table}"

    assert masker.redact(line) == line
    assert masker.redact({"extra": {"prices": table}}) == {"extra": {"prices": table}}
    assert masker.redact("my_company.secrets.key") == "***"
