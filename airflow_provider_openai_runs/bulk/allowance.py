# SPDX-License-Identifier: Apache-2.0
"""What the runs of a bulk task may take, by its ceiling, and what they cost, by its connection's prices."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal

from airflow_provider_openai_runs.bulk.events import Asked
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.ceiling import (
    Amount,
    Ceiling,
    at_most,
    check_bounded,
    estimate,
    no_price,
    output_ceiling,
    prompt_bound,
)
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.prices import Prices, Tariff


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """
    What a generation of a task may spend.

    :param conn_id: whose prices these are.
    """

    conn_id: str = ""
    ceiling: Ceiling = field(default_factory=Ceiling)
    prices: Prices = field(default_factory=Prices)

    def measured(self, row: Row) -> Row:
        """
        Return a row with what its run may take, and what the price of that goes by.

        :raises RunRequestError: if there is a ceiling, and nobody can tell.
        """
        body = row.values or {}
        tariff = Tariff.of(self.prices, body)
        if self.prices.by_pattern:
            row = replace(row, asked=Asked(model=tariff.model, processing=tariff.processing))
        if not self.ceiling.is_set:
            return row
        check_bounded(body, self.ceiling)
        reserved = estimate(tariff, prompt=prompt_bound(body), completion=output_ceiling(body) or 0)
        if self.ceiling.cost is not None and reserved.cost is None:
            raise no_price(self.conn_id, tariff.model)
        return replace(row, reserved=reserved)

    def has_room(self, items: Items, *, more: Amount, asked: Asked | None) -> bool:
        """
        Return whether more may be paid for now.

        :param more: what is about to be.
        :param asked: what its price goes by.
        """
        if not self.ceiling.is_set:
            return True
        return self._refusal(items, items.kept + items.reserved.total, more, asked) is None

    def refusal(self, items: Items, *, more: Amount, asked: Asked | None) -> str | None:
        """Return why more may not be paid for even if what is active takes nothing; None if it may."""
        return self._refusal(items, items.kept, more, asked)

    def cost_of(self, run: Run, asked: Asked | None) -> Decimal | None:
        """
        Return what the tokens of a run cost; None if nobody knows.

        :param asked: what its price goes by; None of a run that was created before there were prices.
        """
        return self._tariff(asked).cost_of(run)

    def _refusal(self, items: Items, reserved: Amount, more: Amount, asked: Asked | None) -> str | None:
        said, tariff = items.results + items.others, self._tariff(asked)
        used = Amount(tokens=said.usage.total_tokens if said.usage else 0, cost=said.cost)
        return self.ceiling.refusal(
            used=at_most(used, tariff, usage=said.usage), reserved=at_most(reserved, tariff), more=more
        )

    def _tariff(self, asked: Asked | None) -> Tariff:
        asked = asked or Asked()
        return Tariff(prices=self.prices, model=asked.model, processing=asked.processing)
