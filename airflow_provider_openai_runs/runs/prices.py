# SPDX-License-Identifier: Apache-2.0
"""What tokens cost, where a deployment says its prices: a connection's table, and the cost of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_openai_runs.runs.checks import did_you_mean, shown
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.processing import WINDOWS, window_of
from airflow_provider_openai_runs.runs.usage import Usage, as_text

_MILLION = Decimal(1_000_000)
_ONE = Decimal(1)
#: What an entry may say; the first two are required.
_KEYS = ("input", "output", "cached_input", "cache_write", "factors")
#: A price beyond these is a mistake in the unit.
_LEAST, _MOST = Decimal("1e-9"), Decimal("1e9")
#: Tiers by which a server says that it chooses, or has chosen nothing.
_STANDARD = frozenset({None, "", "auto", "default"})
#: How the Batch API is named among the factors.
BATCH = "batch"
#: Ways of processing that no reply tells.
_NO_TIERS = frozenset({*WINDOWS, BATCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """
    What a million tokens of a model cost, in the currency of whoever wrote the table.

    :param factors: by the way of processing: a service tier, a window of the API, ``batch``.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal
    cache_write: Decimal
    factors: Mapping[str, Decimal] = field(default_factory=dict)

    def cost(self, usage: Usage, *, processing: str | None = None) -> Decimal:
        """
        Return what these tokens cost; those of the prompt that were cached have prices of their own.

        What a total has beside prompt and completion costs as much as the completion: no bill is taken for
        smaller than it is.
        """
        cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        plain = max(0, usage.prompt_tokens - cached - written)
        sums = plain * self.input + cached * self.cached_input + written * self.cache_write
        # Some servers count what a model has thought in the total alone.
        other = max(0, usage.total_tokens - (plain + cached + written) - usage.completion_tokens)
        answered = (usage.completion_tokens + other) * self.output
        return (sums + answered) * self.factor(processing) / _MILLION

    def at_most(self, *, prompt: int, completion: int, processing: str | None = None) -> Decimal:
        """Return what so many tokens cost at most, however they are cached."""
        dearest = max(self.input, self.cached_input, self.cache_write)
        return (prompt * dearest + completion * self.output) * self.factor(processing) / _MILLION

    def factor(self, processing: str | None) -> Decimal:
        """Return the factor of a way of processing."""
        return self.factors.get(processing or "", _ONE)

    def to_json(self) -> dict[str, Any]:
        """Return the form of the table."""
        names = ("input", "output", "cached_input", "cache_write")
        factors = {name: as_text(factor) for name, factor in self.factors.items()}
        return {**{name: as_text(getattr(self, name)) for name in names}, "factors": factors}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The prices of models, by patterns of their names."""

    by_pattern: Mapping[str, Price] = field(default_factory=dict)

    def of(self, model: str | None) -> Price | None:
        """Return the price of a model: that of the longest pattern that matches; None if there is none."""
        pattern = self._pattern(model)
        return None if pattern is None else self.by_pattern[pattern]

    def only(self, model: str | None) -> Prices:
        """Return the one entry that counts for a model; all of them, if none does."""
        pattern = self._pattern(model)
        return self if pattern is None else Prices(by_pattern={pattern: self.by_pattern[pattern]})

    def _pattern(self, model: str | None) -> str | None:
        matching = [pattern for pattern in self.by_pattern if fnmatchcase(model or "", pattern)]
        return max(matching, key=lambda pattern: (len(pattern), pattern), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the form of the table."""
        return {pattern: price.to_json() for pattern, price in self.by_pattern.items()}

    @classmethod
    def from_json(cls, value: object) -> Prices:
        """
        Read the table of a connection.

        :raises ValueError: naming the entry that is wrong, and the rule.
        """
        table = _object("prices", value) if value not in (None, "") else {}
        return cls(by_pattern={pattern: _price(pattern, entry) for pattern, entry in table.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """
    What the runs of one request cost.

    :param prices: of its connection.
    :param model: that was asked for; where it has no price, that of the reply decides.
    :param processing: the window or the tier that was asked for.
    """

    prices: Prices = field(default_factory=Prices)
    model: str | None = None
    processing: str | None = None

    @classmethod
    def of(cls, prices: Prices, body: Mapping[str, Any]) -> Tariff:
        """Return the tariff of a request."""
        model = body.get("model")
        return cls(
            prices=prices, model=model if isinstance(model, str) else None, processing=_processing_of(body)
        )

    def cost_of(self, run: Run) -> Decimal | None:
        """Return what the tokens of a run cost; None if it tells none, or nobody knows their price."""
        if run.usage is None or not run.usage.is_known:
            return None
        price = self.prices.of(self.model) or self.prices.of(run.model)
        if price is None:
            return None
        # A window is no tier, and the reply does not tell it; a tier that the server has chosen, it tells.
        is_chosen = self.processing not in _NO_TIERS and run.service_tier not in _STANDARD - {"default"}
        return price.cost(run.usage, processing=run.service_tier if is_chosen else self.processing)

    def at_most(self, *, prompt: int, completion: int) -> Decimal | None:
        """Return what so many tokens cost at most; None if nobody knows the price of the model."""
        price = self.prices.of(self.model)
        if price is None:
            return None
        cost = price.at_most(prompt=prompt, completion=completion, processing=self.processing)
        if self.processing is not None:
            return cost
        # The project may have another tier for its default.
        tiers = [factor for name, factor in price.factors.items() if name not in _NO_TIERS]
        return cost * max([_ONE, *tiers])

    def to_json(self) -> dict[str, Any]:
        """Return the form for the trigger's arguments; empty without prices."""
        prices = self.prices.only(self.model).to_json()
        return {"prices": prices, "model": self.model, "processing": self.processing} if prices else {}

    @classmethod
    def from_json(cls, value: object) -> Tariff:
        """Read the stored form; whatever else it is holds no price."""
        if not isinstance(value, dict):
            return cls()
        try:
            prices = Prices.from_json(value.get("prices"))
        except ValueError:
            return cls()
        return cls(prices=prices, model=value.get("model"), processing=value.get("processing"))


def _processing_of(body: Mapping[str, Any]) -> str | None:
    if (window := window_of(body)) is not None:
        return window
    tier = body.get("service_tier")
    return tier if isinstance(tier, str) and tier not in _STANDARD - {"default"} else None


def _price(pattern: str, value: object) -> Price:
    where = f"prices[{pattern!r}]"
    entry = _object(where, value)
    if unknown := sorted(set(entry) - set(_KEYS)):
        raise ValueError(
            f"{where} knows {', '.join(_KEYS)}, not {unknown[0]!r}{did_you_mean(unknown[0], _KEYS)}"
        )
    for name in ("input", "output"):
        if entry.get(name) is None:
            raise ValueError(f"{where} lacks {name!r}, the price of a million tokens")
    amounts = {
        name: _amount(f"{where}[{name!r}]", entry[name]) for name in _KEYS[:4] if entry.get(name) is not None
    }
    factors = _object(f"{where}['factors']", entry.get("factors") or {})
    return Price(
        **{"cached_input": amounts["input"], "cache_write": amounts["input"], **amounts},
        factors={name: _amount(f"{where}['factors'][{name!r}]", one) for name, one in factors.items()},
    )


def _object(where: str, value: object) -> Mapping[str, Any]:
    """Return a table, which Airflow's form may keep as text."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(where, value)}: must be a JSON object")  # noqa: TRY004 # of a connection
    return value


def _amount(where: str, value: object) -> Decimal:
    try:
        # As it is written: a float is read by its shortest text.
        is_number = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        found = Decimal(str(value).strip()) if is_number else None
    except InvalidOperation:
        found = None
    if found is None or not found.is_finite() or (found != 0 and not _LEAST <= found <= _MOST):
        raise ValueError(
            f"{shown(where, value)}: must be a decimal number, 0 or from {_LEAST} to {_MOST:f}, as a number "
            "or as text with a point"
        )
    return found
