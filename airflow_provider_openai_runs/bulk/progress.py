# SPDX-License-Identifier: Apache-2.0
"""How far a bulk task is: a line of the log, and the XCom ``progress`` that a page can show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_openai_runs.bulk.failed_polls import FailedPolls
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.runs.usage import Totals, as_text

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: The key in XCom.
KEY = "progress"


class Counted(Protocol):
    """
    An attempt whose progress is shown.

    :param items: as the journal tells them.
    :param failed_polls: since the last line of the log.
    """

    items: Items
    failed_polls: FailedPolls

    @property
    def rows_read(self) -> int:
        """How many rows the input has, as far as it is read."""

    @property
    def is_read_whole(self) -> bool:
        """Whether the end of the input has been reached."""


class Progress:
    """
    The progress of one attempt.

    :param before: what the runs of earlier generations have said.
    :param push: puts the numbers into XCom; it may block.
    """

    def __init__(
        self,
        attempt: Counted,
        *,
        before: Totals,
        log: Logger,
        push: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._attempt = attempt
        self._before = before
        self._log = log
        self._push = push
        self._began = time.monotonic(), self._done

    @property
    def _done(self) -> int:
        return sum(map(self._attempt.items.count, (ItemState.SUCCEEDED, ItemState.FAILED, ItemState.LOST)))

    def values(self) -> dict[str, Any]:
        """Return the form that goes to XCom; ``rows`` is None as long as nobody knows."""
        attempt, items = self._attempt, self._attempt.items
        return {
            "rows": attempt.rows_read if attempt.is_read_whole else None,
            "succeeded": items.count(ItemState.SUCCEEDED),
            "failed": items.count(ItemState.FAILED),
            "lost": items.count(ItemState.LOST),
            "active": items.count(ItemState.CREATED),
            "total_tokens": tokens_of(items.results),
            "cost": cost_of(items.results),
            **(self._before + items.spent).shown(),
        }

    def say(self) -> threading.Thread:
        """Log how far it is, and push that in a thread, since this may be an event loop; return that one."""
        values = self.values()
        began_at, done_before = self._began
        done, seconds = self._done, time.monotonic() - began_at
        rate = (done - done_before) / seconds if seconds else 0.0
        rows = values["rows"]
        left = f", over in about {(rows - done) / rate / 60:.0f} min" if rows and rate else ""
        self._log.info(
            "%d of %s items done (%d failed, %d lost), %d active, %s, %.1f a second%s",
            done,
            "?" if rows is None else rows,
            values["failed"],
            values["lost"],
            values["active"],
            said_of(self._attempt.items.results, in_all=self._before + self._attempt.items.spent),
            rate,
            left,
        )
        if (failed := self._attempt.failed_polls.line()) is not None:
            self._log.warning("%s", failed)

        def push() -> None:
            with suppress(Exception):  # it is only shown
                self._push(values)

        pushing = threading.Thread(target=push, name="openai-bulk-progress", daemon=True)
        pushing.start()
        return pushing


def tokens_of(totals: Totals) -> int:
    """Return how many tokens runs have said."""
    return totals.usage.total_tokens if totals.usage else 0


def cost_of(totals: Totals) -> str | None:
    """Return what they cost; None if nobody knows."""
    return as_text(totals.cost) if totals.usage and totals.cost is not None else None


def said_of(results: Totals, *, in_all: Totals) -> str:
    """
    Return what was spent, for a line of the log or an error.

    :param in_all: with the runs that others took the place of, and those of before a clear.
    """
    text = _tokens(results)
    return text if in_all.usage == results.usage else f"{text}, over all attempts {_tokens(in_all)}"


def _tokens(totals: Totals) -> str:
    cost = cost_of(totals)
    return f"{tokens_of(totals)} tokens{'' if cost is None else f' (cost {cost})'}"
