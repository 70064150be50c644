# SPDX-License-Identifier: Apache-2.0
"""Tokens that were billed, and what they cost: of one run, of several as one, of all runs of a task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any, TypeGuard

#: No run has used as many; a server that says so says nothing, and Airflow would not carry the sum.
MAX_TOKENS = 2**53
_MOST_COST = Decimal("1e18")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """
    Tokens that were billed, under the names of thread runs (a response calls them input and output).

    :param cached_tokens: of the prompt, read from the cache; None where the server does not say.
    :param cache_write_tokens: of the prompt, written to the cache.
    :param reasoning_tokens: of the completion.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether the server tells anything: some write zeros for a run that they cancelled."""
        counts = [count for count in self._counts().values() if count is not None]
        return self.total_tokens > 0 and all(0 <= count <= MAX_TOKENS for count in counts)

    def to_json(self) -> dict[str, int]:
        """Return the form that is stored; what says nothing is left out."""
        return {name: count for name, count in self._counts().items() if count}

    def _counts(self) -> dict[str, int | None]:
        return {name: getattr(self, name) for name in _COUNTS}

    @classmethod
    def from_json(cls, value: object) -> Usage | None:
        """Read the stored form; whatever else it is says nothing."""
        if not isinstance(value, dict):
            return None
        counts: dict[str, Any] = {name: count for name in _COUNTS if is_count(count := value.get(name))}
        return cls(**counts) if counts else None


#: By name: thousands of items a task have their tokens read, added and written.
_COUNTS = tuple(item.name for item in fields(Usage))


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """
    What a task instance is known to have paid for, over all of its attempts and clears: a lower bound.

    :param usage: the tokens of its runs, as far as they were said.
    :param cost: of these tokens; None where nobody knows a price of some of them.
    :param silent: how many of its runs have ended without saying any, or may have been started by a create
        that was not answered.
    """

    usage: Usage | None = None
    cost: Decimal | None = Decimal(0)
    silent: int = 0

    def __add__(self, other: Totals) -> Totals:
        """Add the totals of other runs."""
        return Totals(
            usage=sum_of([self.usage, other.usage]),
            cost=sum_of_costs([self.cost, other.cost]),
            silent=self.silent + other.silent,
        )

    def plus(self, usage: Usage | None, cost: Decimal | None) -> Totals:
        """Add a run that has ended; one that tells no tokens is only counted."""
        if usage is None or not usage.is_known:
            return replace(self, silent=self.silent + 1)
        return replace(self, usage=sum_of([self.usage, usage]), cost=sum_of_costs([self.cost, cost]))

    def shown(self) -> dict[str, Any]:
        """Return the form that people read, in results and manifests."""
        return {
            "usage_total": self.usage.to_json() if self.usage else None,
            "cost_total": as_text(self.cost) if self.usage and self.cost is not None else None,
            "runs_without_usage": self.silent,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored; what says nothing is left out."""
        usage = self.usage and self.usage.to_json()
        cost = as_text(self.cost) if usage and self.cost is not None else None
        values = {"usage": usage, "cost": cost, "silent": self.silent}
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, value: object) -> Totals:
        """Read the stored form; whatever else it is says that nothing was paid for."""
        if not isinstance(value, dict):
            return cls()
        silent, usage = value.get("silent"), Usage.from_json(value.get("usage"))
        cost = amount_of(value.get("cost")) if usage else Decimal(0)
        return cls(usage=usage, cost=cost, silent=silent if is_count(silent) else 0)


def sum_of(usages: Iterable[Usage | None]) -> Usage | None:
    """Add up what is known; a number is None where no usage has it, and so is the whole."""
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in known),
        completion_tokens=sum(usage.completion_tokens for usage in known),
        total_tokens=sum(usage.total_tokens for usage in known),
        cached_tokens=_sum(usage.cached_tokens for usage in known),
        cache_write_tokens=_sum(usage.cache_write_tokens for usage in known),
        reasoning_tokens=_sum(usage.reasoning_tokens for usage in known),
    )


def sum_of_costs(costs: Iterable[Decimal | None]) -> Decimal | None:
    """Add up costs; None if one of them is not known."""
    total = Decimal(0)
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


def as_text(amount: Decimal) -> str:
    """Return an amount as decimal text, without an exponent and without zeros at its end."""
    return format(amount.normalize(), "f") if amount else "0"


def amount_of(value: object) -> Decimal | None:
    """Read a stored amount; whatever else it is says nothing."""
    try:
        found = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return None
    return found if found is not None and found.is_finite() and 0 <= found <= _MOST_COST else None


def _sum(counts: Iterable[int | None]) -> int | None:
    said = [count for count in counts if count is not None]
    return sum(said) if said else None


def is_count(value: object) -> TypeGuard[int]:
    """Tell whether a stored value is a number of something."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
