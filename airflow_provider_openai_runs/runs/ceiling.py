# SPDX-License-Identifier: Apache-2.0
"""
How much a task may pay for: before each create *used + reserved + what it may take* stays below the ceiling.

*Used* is what runs have said, *reserved* what those may still take that have not: each as many tokens as its
request has bytes in UTF-8, and its ceiling of what is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.prices import Tariff
from airflow_provider_openai_runs.runs.usage import Usage, as_text, sum_of_costs

#: By the API's own names: what bounds that which a run writes.
OUTPUT_CEILINGS = ("max_output_tokens", "max_completion_tokens")
#: What is not billed by its length.
_FILES = frozenset({"file_data", "image_url"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """
    Tokens, and what they cost.

    :param cost: None where nobody knows a price of some of them.
    """

    tokens: int = 0
    cost: Decimal | None = Decimal(0)

    def __add__(self, other: Amount) -> Amount:
        """Add another amount."""
        return Amount(tokens=self.tokens + other.tokens, cost=sum_of_costs([self.cost, other.cost]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """
    What may be spent from one clear to the next; None is no limit.

    :param tokens: ``max_total_tokens``.
    :param cost: ``max_cost``.
    """

    tokens: int | None = None
    cost: Decimal | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is a limit at all."""
        return self.tokens is not None or self.cost is not None

    @property
    def names(self) -> str:
        """The arguments that are set, as people read them."""
        given = {"max_total_tokens": self.tokens, "max_cost": self.cost}
        return " and ".join(name for name, limit in given.items() if limit is not None)

    def refusal(self, *, used: Amount, reserved: Amount, more: Amount) -> str | None:
        """Return why nothing more may be paid for, naming all numbers; None if it may."""
        if self.tokens is not None and used.tokens + reserved.tokens + more.tokens > self.tokens:
            return (
                f"max_total_tokens={self.tokens}: {used.tokens} tokens are used{_open(reserved.tokens)}, and "
                f"the next request may take {more.tokens}"
            )
        if self.cost is None:
            return None
        if used.cost is None or reserved.cost is None or more.cost is None:
            return f"max_cost={as_text(self.cost)}: what was used before has no price"
        if used.cost + reserved.cost + more.cost > self.cost:
            pending = _open(as_text(reserved.cost) if reserved.cost else 0)
            return (
                f"max_cost={as_text(self.cost)}: {as_text(used.cost)} is used{pending}, and the next request "
                f"may cost {as_text(more.cost)}"
            )
        return None


def _open(reserved: object) -> str:
    return f", {reserved} may be by runs that have not said theirs" if reserved else ""


def check_ceilings(*, max_total_tokens: object, max_cost: object) -> Ceiling:
    """
    Return the ceilings that a user has set.

    :raises RunRequestError: for a value that is none.
    """
    tokens = None if max_total_tokens is None else checks.count("max_total_tokens", max_total_tokens)
    if max_cost is None:
        return Ceiling(tokens=tokens)
    try:
        is_number = isinstance(max_cost, (str, int, float, Decimal)) and not isinstance(max_cost, bool)
        cost = Decimal(str(max_cost).strip()) if is_number else Decimal(-1)
    except ArithmeticError:
        cost = Decimal(-1)
    if not cost.is_finite() or cost <= 0:
        raise checks.invalid(
            "max_cost", max_cost, "must be a decimal number above 0, as a number or as text with a point"
        )
    return Ceiling(tokens=tokens, cost=cost)


def check_bounded(body: Mapping[str, Any], ceiling: Ceiling) -> None:
    """
    Refuse a ceiling over a request that nothing bounds.

    :raises RunRequestError: naming what is missing.
    """
    if output_ceiling(body) is None:
        raise RunRequestError(
            f"{ceiling.names}: without max_output_tokens (of a thread run max_completion_tokens) nobody "
            "knows what a run may take at most; give it. Nothing was sent."
        )


def output_ceiling(body: Mapping[str, Any]) -> int | None:
    """Return how many tokens a request lets a run write; None if it does not say."""
    found = (body.get(name) for name in OUTPUT_CEILINGS)
    return next((limit for limit in found if isinstance(limit, int) and not isinstance(limit, bool)), None)


def prompt_bound(*parts: Any) -> int:
    """
    Return how many tokens the model reads of a request at most: as many as it has bytes in UTF-8.

    :param parts: its body, and what else is sent for it. Pictures and files are left out, and metadata.
    """
    return sum(len(_written(part)) for part in parts if part is not None)


def _written(part: Any) -> bytes:
    if isinstance(part, Mapping):
        part = {name: value for name, value in part.items() if name != "metadata"}
    return json.dumps(_without_files(part), ensure_ascii=False, default=str).encode("utf-8", "replace")


def _without_files(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: "" if name in _FILES and isinstance(item, str) else _without_files(item)
            for name, item in value.items()
        }
    return [_without_files(item) for item in value] if isinstance(value, (list, tuple)) else value


def no_price(conn_id: str, model: str | None) -> RunRequestError:
    """Return the error for a ceiling of cost over a model that nobody knows the price of."""
    return RunRequestError(
        f"max_cost: connection {conn_id!r} has no price for model {model!r} in its extra 'prices', so nobody "
        "knows what a run costs. Nothing was sent."
    )


def at_most(amount: Amount, tariff: Tariff, *, usage: Usage | None = None) -> Amount:
    """
    Return an amount whose cost nobody knew with the most that it costs by the prices of now.

    :param usage: what it is made of, if that is known.
    """
    if amount.cost is not None:
        return amount
    all_ways = (
        [(usage.prompt_tokens, usage.completion_tokens)]
        if usage
        else [(amount.tokens, 0), (0, amount.tokens)]
    )
    costs = [tariff.at_most(prompt=prompt, completion=completion) for prompt, completion in all_ways]
    return replace(amount, cost=max((cost for cost in costs if cost is not None), default=None))


def estimate(tariff: Tariff, *, prompt: int, completion: int) -> Amount:
    """Return what a run may take at most."""
    return Amount(tokens=prompt + completion, cost=tariff.at_most(prompt=prompt, completion=completion))
