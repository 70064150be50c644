# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.prices import Prices, Tariff
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.usage import Usage, amount_of, as_text

LUNA: dict[str, Any] = {
    "input": "0.10",
    "cached_input": "0.01",
    "cache_write": "0.20",
    "output": "0.50",
    "factors": {"flex": "0.5", "2h": "0.7", "8h": "0.6", "batch": "0.5", "priority": 2},
}
TABLE = {
    "gpt-6-luna*": LUNA,
    "gpt-*": {"input": 1, "output": 2.5},
    "gpt-6-luna-old": {"input": 3, "output": 3},
}

amounts = st.decimals(min_value="0", max_value="1000", places=4)
counts = st.integers(min_value=0, max_value=10**7)


def run(model: str | None = "gpt-6-luna", tier: str | None = None, **usage: int) -> Run:
    ref = RunRef(kind="response", id="resp_1", conn_id="ai")
    counted = Usage(**{"total_tokens": 1, **usage}) if usage else None
    return Run(
        ref=ref,
        status=RunStatus.COMPLETED,
        raw_status="completed",
        object="response",
        model=model,
        service_tier=tier,
        usage=counted,
    )


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-6-luna", "0.1"),
        ("gpt-6-luna-2026-11-01", "0.1"),
        ("gpt-6-luna-old", "3"),
        ("gpt-5", "1"),
        ("GPT-5", None),
        ("o4", None),
        (None, None),
    ],
)
def test_the_longest_pattern_that_matches_wins(model: str | None, price: str | None) -> None:
    found = Prices.from_json(TABLE).of(model)

    assert (found and as_text(found.input)) == price


def test_what_was_cached_has_a_price_of_its_own_and_else_that_of_the_input() -> None:
    usage: dict[str, Any] = {
        "prompt_tokens": 1_000_000,
        "cached_tokens": 600_000,
        "cache_write_tokens": 100_000,
    }
    tariff = Tariff(prices=Prices.from_json(TABLE))

    assert tariff.cost_of(run(**usage, completion_tokens=2_000_000)) == Decimal("0.03") + Decimal(
        "0.006"
    ) + Decimal("0.02") + Decimal(1)
    assert tariff.cost_of(run("gpt-5", **usage)) == 1


@pytest.mark.parametrize(
    ("body", "tier", "factor"),
    [
        ({}, None, "1"),
        ({}, "default", "1"),
        ({}, "flex", "0.5"),  # the project's default
        ({"service_tier": "flex"}, "flex", "0.5"),
        ({"service_tier": "flex"}, None, "0.5"),  # a server that does not say
        ({"service_tier": "priority"}, "default", "1"),  # the server had no place
        ({"service_tier": "unknown"}, "unknown", "1"),
        ({"background_options": {"completion_window": "2h"}}, "default", "0.7"),
        ({"background_options": {"completion_window": "8h"}}, None, "0.6"),
        ({"background_options": {"completion_window": "soonest"}}, None, "1"),
    ],
)
def test_the_way_of_processing_is_a_factor(body: dict[str, Any], tier: str | None, factor: str) -> None:
    tariff = Tariff.of(Prices.from_json(TABLE), {"model": "gpt-6-luna", **body})

    assert tariff.cost_of(run(tier=tier, prompt_tokens=10_000_000)) == Decimal(factor)


def test_the_model_that_was_asked_for_decides_and_without_one_that_of_the_reply() -> None:
    prices = Prices.from_json(TABLE)
    tokens: dict[str, Any] = {"prompt_tokens": 1_000_000}

    assert Tariff(prices=prices, model="gpt-5").cost_of(run("gpt-6-luna", **tokens)) == 1
    assert Tariff(prices=prices, model="my-router").cost_of(run("gpt-5", **tokens)) == 1
    assert Tariff(prices=prices).cost_of(run("gpt-6-luna-old", **tokens)) == 3
    assert Tariff(prices=prices).cost_of(run("o4", **tokens)) is None
    assert Tariff(prices=prices).cost_of(run("gpt-5")) is None


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ([], "prices=[]: must be a JSON object"),
        ("{", "prices='{': must be a JSON object"),
        ({"gpt-*": 3}, "prices['gpt-*']=3: must be a JSON object"),
        ({"gpt-*": {"input": 1}}, "prices['gpt-*'] lacks 'output'"),
        ({"gpt-*": {"output": 1}}, "prices['gpt-*'] lacks 'input'"),
        ({"gpt-*": {"input": 1, "output": 1, "cached": 1}}, "not 'cached'; did you mean 'cached_input'?"),
        (
            {"gpt-*": {"input": "0,10", "output": 1}},
            "prices['gpt-*']['input']='0,10': must be a decimal number",
        ),
        ({"gpt-*": {"input": -1, "output": 1}}, "prices['gpt-*']['input']=-1"),
        ({"gpt-*": {"input": True, "output": 1}}, "['input']=True"),
        ({"gpt-*": {"input": "NaN", "output": 1}}, "['input']='NaN'"),
        ({"gpt-*": {"input": "1e999999999", "output": 1}}, "['input']='1e999999999'"),
        (
            {"gpt-*": {"input": 1, "output": 1, "factors": [2]}},
            "prices['gpt-*']['factors']=[2]: must be a JSON",
        ),
        ({"gpt-*": {"input": 1, "output": 1, "factors": {"flex": "half"}}}, "['factors']['flex']='half'"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_the_entry(table: Any, named: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 # the text is checked
        Prices.from_json(table)

    assert named in str(caught.value)


@pytest.mark.parametrize("value", [None, "", {}, "{}", json.dumps(TABLE), TABLE])
def test_a_table_may_be_text_and_may_be_missing(value: Any) -> None:
    prices = Prices.from_json(value)

    assert bool(prices.by_pattern) == bool(value and value != "{}")
    assert Prices.from_json(json.loads(json.dumps(prices.to_json()))) == prices


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        # Some servers count what was thought in the total alone; a total alone may be all of it.
        ({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 1000}, "0.0004872"),
        ({"total_tokens": 1000}, "0.0005"),
        ({"prompt_tokens": 600, "completion_tokens": 400, "total_tokens": 1000}, "0.00026"),
        ({"prompt_tokens": 600, "completion_tokens": 400, "total_tokens": 9}, "0.00026"),
        # Others leave what was cached out of the prompt.
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 1015, "cached_tokens": 1000},
            "0.0000175",
        ),
    ],
)
def test_tokens_of_a_total_that_nothing_else_names_are_paid_as_an_answer(usage: Any, cost: str) -> None:
    found = Tariff(prices=Prices.from_json(TABLE), model="gpt-6-luna").cost_of(run(**usage))
    assert found is not None
    assert as_text(found) == cost


@given(
    input_=amounts,
    output=amounts,
    cached=amounts,
    written=amounts,
    prompt=counts,
    completion=counts,
    data=st.data(),
)
def test_no_run_costs_more_than_its_tokens_cost_at_most(
    *,
    input_: Decimal,
    output: Decimal,
    cached: Decimal,
    written: Decimal,
    prompt: int,
    completion: int,
    data: st.DataObject,
) -> None:
    entry = {"input": input_, "output": output, "cached_input": cached, "cache_write": written}
    table = {"m*": {**{name: str(amount) for name, amount in entry.items()}, "factors": LUNA["factors"]}}
    body: dict[str, Any] = data.draw(
        st.sampled_from([{}, {"service_tier": "flex"}, {"background_options": {"completion_window": "2h"}}])
    )
    of_cache = data.draw(st.integers(min_value=0, max_value=prompt))
    of_write = data.draw(st.integers(min_value=0, max_value=prompt - of_cache))
    tariff = Tariff.of(Prices.from_json(table), {"model": "m1", **body})
    # A tier that was asked for is used, or the server says that it was not; "auto" may be any.
    tier = data.draw(st.sampled_from([None, "default", "flex", "priority"] if not body else [None, "flex"]))
    cost = tariff.cost_of(
        run(
            tier=tier,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=of_cache,
            cache_write_tokens=of_write,
        )
    )
    most = tariff.at_most(prompt=prompt, completion=completion)

    assert most is not None
    assert cost is not None
    assert 0 <= cost <= most
    assert amount_of(as_text(cost)) == cost
