# SPDX-License-Identifier: Apache-2.0
"""The final word on items, on its way into files of results. No I/O."""

from __future__ import annotations

from functools import partial

from airflow_provider_openai_runs.bulk.events import PartWritten
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.one_at_a_time import OneAtATime
from airflow_provider_openai_runs.bulk.parts import Outcome, Part, Parts

#: So many failures without a single success are too many for any share of a number that nobody knows.
_NOT_ONE_OF = 100


class Outcomes:
    """
    The outcomes of one attempt.

    :param max_failed: items that may fail: a number, or a share as a float; None is no limit.
    :ivar failed: how many items are no success, also those that are not committed yet.
    :ivar first: the first item of this attempt that is no success, by what has become of it.
    """

    def __init__(self, parts: Parts, items: Items, *, max_failed: float | None) -> None:
        self.failed = items.count(ItemState.FAILED) + items.count(ItemState.LOST)
        self._succeeded = items.count(ItemState.SUCCEEDED)
        self.first: dict[ItemState, Outcome] = {}
        self._parts = parts
        self._max_failed = max_failed
        self._part: OneAtATime[Part] = OneAtATime()

    @property
    def is_writing(self) -> bool:
        """Whether a file is under way, or something waits for the next one."""
        return self._part.value is not None or not self._parts.is_empty

    def add(self, outcome: Outcome, *, now: float) -> None:
        """Take the final word on an item."""
        self._parts.add(outcome, now=now)
        has_succeeded = outcome.state is ItemState.SUCCEEDED
        self._succeeded += has_succeeded
        self.failed += not has_succeeded
        if not has_succeeded:
            self.first.setdefault(outcome.state, outcome)

    def has_too_many_failed(self, *, rows: int | None) -> bool:
        """
        Return whether more items than allowed are no success.

        :param rows: of the input; None as long as nobody knows, and then a share says little.
        """
        limit = self._max_failed
        if isinstance(limit, float):
            if rows is None:
                return not self._succeeded and self.failed >= _NOT_ONE_OF
            limit = round(limit * rows, 6)  # 0.29 of 100 are 29
        return limit is not None and self.failed > limit

    def to_write(self, now: float, *, is_last: bool) -> Part | None:
        """
        Return the file to write now.

        :param is_last: whether nothing more is to be waited for.
        """
        return self._part.next(now, partial(self._closed, now, is_last=is_last))

    def on_written(self) -> PartWritten:
        """Take note that the file is there; return what has to be committed of it."""
        return self._part.on_done().written

    def on_failed(self, now: float) -> None:
        """Have the same file written once more, in a while."""
        self._part.on_failed(now)

    def _closed(self, now: float, *, is_last: bool) -> Part | None:
        due_at = self._parts.due_at()
        return self._parts.close() if due_at is not None and (is_last or now >= due_at) else None
