# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.bulk.reserved import Reserved
from airflow_provider_openai_runs.runs.ceiling import Amount

COSTS = st.none() | st.decimals(min_value=0, max_value=1_000, places=9)
AMOUNTS = st.builds(Amount, tokens=st.integers(0, 10**9), cost=COSTS)


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | AMOUNTS)))
def test_the_sum_is_that_of_the_amounts_that_are_there(steps: list[tuple[int, Amount | None]]) -> None:
    reserved, expected = Reserved(), dict[int, Amount]()
    for row, amount in steps:
        if amount is None:
            reserved.pop(row)
            expected.pop(row, None)
        else:
            reserved.update({row: amount})
            expected[row] = amount
        assert reserved.total == sum(expected.values(), Amount())
    assert {row: reserved[row] for row in expected} == expected


def test_a_sum_of_costs_that_were_given_back_is_exact() -> None:
    reserved = Reserved()
    reserved.update({row: Amount(tokens=1, cost=Decimal("0.1")) for row in range(10_000)})
    for row in range(9_999):
        reserved.pop(row)
    assert reserved.total == Amount(tokens=1, cost=Decimal("0.1"))
