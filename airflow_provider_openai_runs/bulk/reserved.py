# SPDX-License-Identifier: Apache-2.0
"""What the active runs of a bulk task may take at most, each for itself and all together."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from airflow_provider_openai_runs.runs.ceiling import Amount

_NOTHING = Amount()


class Reserved:
    """The amounts of rows, with a sum that takes no pass over thousands of them: each create asks for it."""

    def __init__(self) -> None:
        self._amounts: dict[int, Amount] = {}
        self._tokens = 0
        self._cost = Decimal(0)
        #: How many of them have no known cost.
        self._unpriced = 0

    @property
    def total(self) -> Amount:
        """The sum; without a cost as long as one of them has none."""
        return Amount(tokens=self._tokens, cost=None if self._unpriced else self._cost)

    def __getitem__(self, row: int) -> Amount:
        """Return the amount of a row; one that is not here takes nothing."""
        return self._amounts.get(row, _NOTHING)

    def update(self, amounts: Mapping[int, Amount]) -> None:
        """Take the amounts of rows, in place of those that they had."""
        for row, amount in amounts.items():
            self.pop(row)
            self._amounts[row] = amount
            self._count(amount, 1)

    def pop(self, row: int) -> None:
        """Forget a row."""
        if (amount := self._amounts.pop(row, None)) is not None:
            self._count(amount, -1)

    def _count(self, amount: Amount, sign: int) -> None:
        self._tokens += sign * amount.tokens
        if amount.cost is None:
            self._unpriced += sign
        else:
            self._cost += sign * amount.cost
