# SPDX-License-Identifier: Apache-2.0
"""Tokens that were billed: of one run, of several that count as one, and of all runs of a task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeGuard

#: No run has used as many; a server that says so says nothing, and Airflow would not carry the sum.
_MAX_TOKENS = 2**53


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
        counts = [count for count in asdict(self).values() if count is not None]
        return self.total_tokens > 0 and all(0 <= count <= _MAX_TOKENS for count in counts)

    def to_json(self) -> dict[str, int]:
        """Return the form that is stored; what says nothing is left out."""
        return {name: count for name, count in asdict(self).items() if count}

    @classmethod
    def from_json(cls, value: object) -> Usage | None:
        """Read the stored form; whatever else it is says nothing."""
        if not isinstance(value, dict):
            return None
        counts: dict[str, Any] = {
            item.name: count for item in fields(cls) if _is_count(count := value.get(item.name))
        }
        return cls(**counts) if counts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """
    What a task instance is known to have paid for, over all of its attempts and clears: a lower bound.

    :param usage: the tokens of its runs, as far as they were said.
    :param silent: how many of its runs have ended without saying any, or may have been started by a create
        that was not answered.
    """

    usage: Usage | None = None
    silent: int = 0

    def plus(self, usage: Usage | None) -> Totals:
        """Add a run that has ended."""
        if usage is None or not usage.is_known:
            return Totals(usage=self.usage, silent=self.silent + 1)
        return Totals(usage=sum_of([self.usage, usage]), silent=self.silent)

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored; what says nothing is left out."""
        values = {"usage": self.usage and self.usage.to_json(), "silent": self.silent}
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, value: object) -> Totals:
        """Read the stored form; whatever else it is says that nothing was paid for."""
        if not isinstance(value, dict):
            return cls()
        silent = value.get("silent")
        return cls(usage=Usage.from_json(value.get("usage")), silent=silent if _is_count(silent) else 0)


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


def _sum(counts: Iterable[int | None]) -> int | None:
    said = [count for count in counts if count is not None]
    return sum(said) if said else None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
