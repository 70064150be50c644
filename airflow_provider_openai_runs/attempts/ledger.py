# SPDX-License-Identifier: Apache-2.0
"""Keeps account of what a task instance pays for: each run from its intent on, until its tokens are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.runs.ceiling import (
    Amount,
    Ceiling,
    at_most,
    estimate,
    no_price,
    output_ceiling,
    prompt_bound,
)
from airflow_provider_openai_runs.runs.errors import CeilingReachedError, OpenAIRunError, RunRequestError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.prices import Prices, Tariff
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.spending import OpenRun, Spending
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import Totals
from airflow_provider_openai_runs.wire import Answer, wire_of

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


@dataclass(kw_only=True)
class Ledger:
    """
    The account of one attempt; what it changes is written with the next record, in one request.

    :param generation: of this attempt.
    :param request: what the runs are created with.
    :param prices_of: reads the prices of a connection.
    :param ceiling: what may be spent from one clear to the next.
    """

    store: RecordStore
    generation: int
    request: RunRequest
    log: Logger
    prices_of: Callable[[str], Prices] = lambda _: Prices()
    ceiling: Ceiling = field(default_factory=Ceiling)
    _asked: set[str] = field(default_factory=set)
    _warned: set[str] = field(default_factory=set)

    # -- before a run is paid for -------------------------------------------------------------------------

    def check(self, conn_id: str) -> None:
        """
        Refuse what would pass a ceiling, before anything is done for it.

        :raises OpenAIRunError: if the run may not be created, or the prices are wrong.
        """
        self.tariff(conn_id)
        self._reserve(conn_id, prompt=self._prompt(self.request))

    def open(self, token: str, conn_id: str) -> None:
        """
        Add a run that is about to be created.

        :raises OpenAIRunError: if it would pass a ceiling.
        """
        prompt = self._prompt(self.request)
        reserved = self._reserve(conn_id, prompt=prompt)
        context = prompt + self._completion if reserved.tokens else 0
        self._add(self._entry(token, reserved=reserved, context=context))

    def check_answer(self, run: Run, rounds: Rounds) -> None:
        """
        Refuse an answer to calls that would pass a ceiling, before a function is called for it.

        :param rounds: those that were answered before.
        :raises CeilingReachedError: if it would.
        :raises OpenAIRunError: if nobody can say what it costs; a retry may.
        """
        if not self.ceiling.is_set:
            return
        self.settle(run)  # of a response that has ended with calls, the tokens are known
        if wire_of(run.ref.kind).answers_in_place:
            self._further_round(run, {}, rounds.after(run, (), in_place=True, now=0.0))
        else:
            self._next_run(run, {})

    def open_answer(self, token: str, run: Run, outputs: Mapping[str, Answer]) -> None:
        """
        Add the run that is about to answer the calls of another one.

        :raises CeilingReachedError: if it would pass a ceiling.
        """
        self._add(self._entry(token, reserved=self._next_run(run, outputs)))

    def extend(self, run: Run, outputs: Mapping[str, Answer], rounds: Rounds) -> None:
        """
        Reserve more for a run that goes on itself once its calls are answered, however often that is sent.

        :param rounds: those that are answered with it.
        :raises CeilingReachedError: if it would pass a ceiling.
        """
        if self.ceiling.is_set:
            entry, more = self._further_round(run, outputs, rounds)
            self.store.spend(self.store.spending.of(self.generation).extended(entry, more))

    def _further_round(
        self, run: Run, outputs: Mapping[str, Answer], rounds: Rounds
    ) -> tuple[OpenRun, Amount]:
        """Return what the answer to calls may take: the model reads again what it has read and written."""
        entry = self.store.spending.open_run(run.ref) or OpenRun(token="")
        entry, more = entry.with_round(rounds.key, prompt_bound(outputs))
        return entry, self._reserve_answer(run, prompt=more, completion=0)

    def _next_run(self, run: Run, outputs: Mapping[str, Answer]) -> Amount:
        """Return what the run may take that answers calls: its model reads all of the run before, too."""
        entry = self.store.spending.open_run(run.ref)
        known = run.usage is not None and run.usage.is_known
        read = run.usage.total_tokens if run.usage and known else entry.reserved.tokens if entry else 0
        prompt = read + prompt_bound(outputs) + self._prompt(self.request)
        return self._reserve_answer(run, prompt=prompt)

    def _reserve_answer(self, run: Run, *, prompt: int, completion: int | None = None) -> Amount:
        """Return what is to be reserved for an answer to calls; without a price, the run goes on waiting."""
        try:
            return self._reserve(run.ref.conn_id, prompt=prompt, completion=completion)
        except CeilingReachedError:
            raise
        except OpenAIRunError as error:
            waits = f"{run.ref.subject} goes on waiting for the answer to its calls."
            raise error.saying(f"{error} {waits} Fix that; a retry then answers.", retryable=True) from None

    def _reserve(self, conn_id: str, *, prompt: int, completion: int | None = None) -> Amount:
        """Return what is to be reserved; nothing where there is no ceiling."""
        if not self.ceiling.is_set:
            return Amount()
        tariff = Tariff() if self.ceiling.cost is None else self.tariff(conn_id)
        more = estimate(
            tariff, prompt=prompt, completion=self._completion if completion is None else completion
        )
        if self.ceiling.cost is not None and more.cost is None:
            raise no_price(conn_id, tariff.model)
        spending = self.store.spending.of(self.generation)
        used = at_most(spending.used, tariff, usage=spending.usage)
        refused = self.ceiling.refusal(used=used, reserved=at_most(spending.reserved, tariff), more=more)
        if refused:
            unpriced = (
                f" Some of it ended without a price in the extra 'prices' of connection {conn_id!r}, so all "
                "of it counts by the dearest that it may have cost."
            )
            is_bound = self.ceiling.cost is not None and spending.used.cost is None
            raise CeilingReachedError(
                f"{refused}. Nothing was sent for it.{unpriced if is_bound else ''}"
                f"{_may_be_running(spending)} Raise the ceiling, or clear the task to spend it again."
            )
        return more

    def _entry(self, token: str, **known: Any) -> OpenRun:
        asked = Tariff.of(Prices(), self.request.body)
        return OpenRun(token=token, model=asked.model, processing=asked.processing, **known)

    def _add(self, run: OpenRun) -> None:
        self.store.spend(self.store.spending.of(self.generation).opened(run))

    def _prompt(self, request: RunRequest) -> int:
        return prompt_bound(request.body, request.thread) if self.ceiling.is_set else 0

    @property
    def _completion(self) -> int:
        return output_ceiling(self.request.body) or 0

    def release(self, token: str) -> None:
        """Take back a run that was certainly not created."""
        self.store.spend(self.store.spending.released(token))

    def name(self, token: str, ref: RunRef) -> None:
        """Note which run it is that was created with a token."""
        self.store.spend(self.store.spending.named(token, ref))

    def tariff(self, conn_id: str) -> Tariff:
        """
        Return what the runs cost that are created with a connection.

        :raises OpenAIRunError: if its prices are wrong.
        """
        return Tariff.of(self.prices_of(conn_id), self.request.body)

    # -- once it has ended --------------------------------------------------------------------------------

    def priced(self, run: Run) -> Run:
        """Return a run with its cost."""
        return replace(run, cost=self.tariff_after(run.ref).cost_of(run))

    def tariff_after(self, ref: RunRef) -> Tariff:
        """
        Return what a run costs that is paid for, by what it was asked for with.

        Prices that are wrong meanwhile are only a warning.
        """
        entry = self.store.spending.open_run(ref) if self._can_be_read() else None
        try:
            now = self.tariff(ref.conn_id)
            return now if entry is None else replace(now, model=entry.model, processing=entry.processing)
        except Exception as error:  # noqa: BLE001 # its connection may be gone
            self._warn("There are no costs: %s", error)
            return Tariff()

    def settle(self, run: Run) -> Run:
        """Count the tokens of a run, unless they are counted; return it with its cost."""
        run = self.priced(run)
        if not self._can_be_read():
            return run
        if not self.store.is_kept and run.ref.id not in self._asked:
            # Nobody but this worker knows of it.
            self._asked.add(run.ref.id)
            if self.store.spending.open_run(run.ref) is None:
                self._add(self._entry("", ref=run.ref))
        self.store.spend(self.store.spending.settled(run, run.cost))
        return run

    def settle_ended(self, read: Callable[[RunRef], Run | RequestFailure]) -> None:
        """Read what another run takes the place of, if nobody has read it since it has ended."""
        for ref in self.store.spending.unread():
            if ref.id not in self._asked:
                self._asked.add(ref.id)
                with suppress(RunRequestError):  # of a kind that only a later version knows
                    if isinstance(run := read(ref), Run):
                        self.settle(run)

    def totals_without(self, ref: RunRef) -> Totals:
        """Return what was paid for besides a run that is active, as far as it can be read."""
        return self.store.spending.totals(but=ref) if self._can_be_read() else Totals()

    def shown(self, run: Run) -> Run:
        """Return a run with what its task has paid for in all."""
        is_known = self._can_be_read()
        totals = self.totals_without(run.ref) if is_known else Totals().plus(run.usage, run.cost)
        return replace(run, totals=totals)

    def _can_be_read(self) -> bool:
        """Whether the account can be read: how the run has ended matters more."""
        try:
            _ = self.store.spending
        except Exception as error:  # noqa: BLE001 # whatever it is
            self._warn("Could not read what the task has spent before: %s", error)
            return False
        return True

    def _warn(self, text: str, error: Exception) -> None:
        """Log what is missing, once."""
        if text not in self._warned:
            self._warned.add(text)
            self.log.warning(text, message_text(error))


def _may_be_running(spending: Spending) -> str:
    """Name the creates that were lost: nobody else does, once no further one may be sent."""
    lost = [repr(run.token) for run in spending.open if run.ref is None]
    return f" Runs with metadata tokens {', '.join(lost)} may be running and billing." if lost else ""
