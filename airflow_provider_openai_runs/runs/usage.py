# SPDX-License-Identifier: Apache-2.0
"""Tokens that were billed, of one run and of several that count as one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


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
