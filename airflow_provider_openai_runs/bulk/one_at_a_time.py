# SPDX-License-Identifier: Apache-2.0
"""What is done one after the other, and the same once more after a failure: a commit, a file. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from airflow_provider_openai_runs.runs.budgets import PAUSE_AFTER_FAILURE

T = TypeVar("T")


class OneAtATime(Generic[T]):
    """
    One value under way at a time.

    :ivar value: what is under way, or has to be done once more.
    """

    def __init__(self) -> None:
        self.value: T | None = None
        self._is_under_way = False
        self._not_before = float("-inf")

    def next(self, now: float, make: Callable[[], T | None]) -> T | None:
        """Return what is to be done now: the same as before if that failed, else what ``make`` returns."""
        if self._is_under_way or now < self._not_before:
            return None
        if self.value is None:
            self.value = make()
        self._is_under_way = self.value is not None
        return self.value

    def on_done(self) -> T:
        """Take note that it is done, and return it."""
        value, self.value, self._is_under_way = self.value, None, False
        assert value is not None  # noqa: S101 # for mypy
        return value

    def on_failed(self, now: float) -> None:
        """Take note that nobody knows whether it is done."""
        self._is_under_way = False
        self._not_before = now + PAUSE_AFTER_FAILURE
