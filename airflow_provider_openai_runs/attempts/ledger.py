# SPDX-License-Identifier: Apache-2.0
"""Keeps account of what a task instance pays for: each run from its intent on, until its tokens are known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.spending import OpenRun
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import Totals

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


@dataclass(kw_only=True)
class Ledger:
    """
    The account of one attempt; what it changes is written with the next record, in one request.

    :param generation: of this attempt.
    """

    store: RecordStore
    generation: int
    log: Logger
    _asked: set[str] = field(default_factory=set)

    def open(self, token: str) -> None:
        """Add a run that is about to be created."""
        self.store.spend(self.store.spending.of(self.generation).opened(token))

    def release(self, token: str) -> None:
        """Take back a run that was certainly not created."""
        self.store.spend(self.store.spending.released(token))

    def name(self, token: str, ref: RunRef) -> None:
        """Note which run it is that was created with a token."""
        self.store.spend(self.store.spending.named(token, ref))

    def settle(self, run: Run) -> None:
        """Count the tokens of a run; of one that was read before, nothing."""
        if not self._can_be_read():
            return
        if not self.store.is_kept and run.ref.id not in self._asked:
            # Nobody but this worker knows of it.
            self._asked.add(run.ref.id)
            mine = OpenRun(token="", ref=run.ref)
            spending = self.store.spending.of(self.generation)
            if not spending.knows(run.ref):
                self.store.spend(replace(spending, open=(*spending.open, mine)))
        self.store.spend(self.store.spending.settled(run))

    def settle_ended(self, read: Callable[[RunRef], Run | RequestFailure]) -> None:
        """Read what another run takes the place of, if nobody has read it since it has ended."""
        for ref in self.store.spending.unread():
            if ref.id not in self._asked:
                self._asked.add(ref.id)
                with suppress(RunRequestError):  # of a kind that only a later version knows
                    if isinstance(run := read(ref), Run):
                        self.settle(run)

    def totals_without(self, ref: RunRef) -> Totals:
        """Return what was paid for besides a run that is active."""
        return self.store.spending.totals(but=ref)

    def shown(self, run: Run) -> Run:
        """Return a run with what its task has paid for in all."""
        totals = self.totals_without(run.ref) if self._can_be_read() else Totals().plus(run.usage)
        return replace(run, totals=totals)

    def _can_be_read(self) -> bool:
        """Whether the account can be read: how the run has ended matters more."""
        try:
            _ = self.store.spending
        except Exception as error:  # noqa: BLE001 # whatever it is
            self.log.warning("Could not read what the task has spent before: %s", message_text(error))
            return False
        return True
