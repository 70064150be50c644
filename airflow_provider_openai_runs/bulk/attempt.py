# SPDX-License-Identifier: Apache-2.0
"""
One attempt of a bulk task: what to do next, as commands, and what became of each.

It does no I/O and knows no clock. Whoever drives it asks ``next`` for commands, executes them in any order
and at the same time, and reports each outcome; then asks again. So every order of events can be tried by
values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from airflow_provider_openai_runs.bulk.allowance import Allowance
from airflow_provider_openai_runs.bulk.commands import (
    Command,
    Commit,
    Judge,
    Polled,
    Send,
    StopReason,
    WritePart,
)
from airflow_provider_openai_runs.bulk.dispatcher import Dispatcher, Limits
from airflow_provider_openai_runs.bulk.events import (
    Cancelled,
    Created,
    Event,
    Intended,
    NewRun,
    PartWritten,
    Retried,
    Spent,
)
from airflow_provider_openai_runs.bulk.failed_creates import AfterFailure, FailedCreates
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.one_at_a_time import OneAtATime
from airflow_provider_openai_runs.bulk.outcomes import Outcomes
from airflow_provider_openai_runs.bulk.parts import Outcome, Parts
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.wanted_rows import WantedRows
from airflow_provider_openai_runs.bulk.watch import Watch
from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS, NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.polling import Done
from airflow_provider_openai_runs.runs.polling import Outcome as WaitOutcome
from airflow_provider_openai_runs.runs.status import RunStatus

_BYTES_A_TOKEN = 4
#: Reasons that a graver one replaces.
_REPLACEABLE = frozenset({None, StopReason.DENIED, StopReason.CEILING, StopReason.INPUT, StopReason.LEFT})
#: Reasons for which the runs that there are are waited for, however long that takes.
_GOES_ON_WAITING = frozenset({None, StopReason.CEILING, StopReason.INPUT})
#: After these another attempt creates what may be created again.
_OTHERS_GO_ON = frozenset({StopReason.LEFT, StopReason.AGAIN})


class BulkAttempt:
    """
    The items of a task, from where an earlier attempt left them to their end.

    :param items: what the journal says. A create in it without an answer is lost: an attempt begins only when
        nobody can send it any more.
    :param found: what an earlier attempt has written down of such creates, and not committed.
    :param leaves_intents: decide nothing about such creates; a later attempt does.
    :param token_of: the token of the create of a row, by the number of creates before it.
    :param polls: knows the deadline.
    :param allowance: what may be spent.
    :param cancels_at_deadline: end what is active then; else it is polled once more, and left.
    :param known_rows: how many rows the input has, where that is known without reading them.
    :param cancel_within: seconds without the end of a run after which runs that cannot be ended are left.
    """

    def __init__(
        self,
        items: Items,
        *,
        limits: Limits,
        judge: Judge,
        token_of: Callable[[int, int], str],
        polls: Polls,
        parts: Parts,
        rate_limit: RateLimit,
        now: float,
        found: Iterable[Event] = (),
        allowance: Allowance | None = None,
        leaves_intents: bool = False,
        cancels_at_deadline: bool = True,
        known_rows: int | None = None,
        cancel_within: float = DEFAULT_TIMEOUTS["delete"],
    ) -> None:
        self.items = items
        #: Why nothing more is created; None as long as it goes on.
        self.stopped: StopReason | None = None
        #: When a create was answered last, or a run found ended, in Unix seconds.
        self.moved_at = now
        #: For a line of the log.
        self.failed_polls = polls.failed
        self._judge = judge
        self._token_of = token_of
        self._watch = Watch(
            polls, cancels_at_deadline=cancels_at_deadline, cancel_within=cancel_within, now=now
        )
        self._outcomes = Outcomes(parts, items, max_failed=limits.max_failed)
        self._known_rows = known_rows
        self._rate_limit = rate_limit
        self._failed_creates = FailedCreates(rate_limit)
        self.allowance = allowance or Allowance()
        self._dispatcher = Dispatcher(items, limits, self.allowance)
        self._rows = WantedRows(is_new=lambda row: items.state(row) is ItemState.NEW, now=now)
        #: Runs that are not committed yet.
        self._new_runs: dict[int, NewRun] = {}
        self._commit: OneAtATime[tuple[Event, ...]] = OneAtATime()
        #: Rows with a final word that is not committed yet.
        self._finished: set[int] = set()
        self._watch.add(items.runs.values(), now=now)
        known = self._dispatcher.on_found(found)
        for row in [*items.rows(ItemState.INTENDED)]:
            run = known.get(row)
            if run is not None:
                self._new_runs[row] = run
            elif row in known:
                self._rows.read_again(row)
            elif not leaves_intents:
                self._on_lost(row, "the attempt that sent its create is gone", now)

    # -- what next -----------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether every item has its final word in a committed part, or nothing more is to be created."""
        has_more = self.stopped is None and self._rows.has_more
        if self.stopped is StopReason.LEFT:
            return self._dispatcher.is_settled and not self._outcomes.is_writing
        # Of runs that nobody polls any more the end is not known.
        waits = len(self._watch) if self._watch.leaves(self.stopped) else self.items.runs
        is_busy = self._rows.is_reading or self._watch.is_busy or self._outcomes.is_writing
        return not (has_more or is_busy or waits) and self._dispatcher.is_settled

    @property
    def only_waits(self) -> bool:
        """Whether nothing can be done before a run ends, and the journal tells all that is known."""
        if self.stopped not in _GOES_ON_WAITING or self._finished or not self.items.runs:
            return False
        if self._dispatcher.has_ready:
            return self._dispatcher.is_full
        return self._dispatcher.is_settled and not (self.stopped is None and self._rows.has_more)

    @property
    def active(self) -> list[NewRun]:
        """The runs that may be active, as far as this attempt knows."""
        runs = {**self.items.runs, **self._new_runs}
        return [run for row, run in runs.items() if row not in self._finished]

    @property
    def is_cancelling(self) -> bool:
        """Whether cancels are under way, or about to be."""
        return self._watch.cancels(self.stopped) and bool(self.active)

    @property
    def new_runs(self) -> list[NewRun]:
        """The runs that are not committed yet, and may be active."""
        return [run for row, run in self._new_runs.items() if row not in self._finished]

    @property
    def rows_read(self) -> int:
        """How many rows the input has, as far as it is read."""
        return self._rows.count

    @property
    def is_read_whole(self) -> bool:
        """Whether the end of the input has been reached."""
        return self._rows.is_read_whole

    @property
    def rows(self) -> int | None:
        """How many rows the input has; None as long as nobody knows."""
        return self._rows.count if self._rows.is_read_whole else self._known_rows

    @property
    def has_ready(self) -> bool:
        """Whether items are left that could be created as soon as a slot is free."""
        return self.stopped is None and (self._dispatcher.has_ready or self._rows.has_more)

    @property
    def refusal(self) -> str | None:
        """Why no more may be spent, naming all numbers; None if it may."""
        return self._dispatcher.refusal

    @property
    def denied(self) -> RequestFailure | None:
        """The last create that was refused by the fault of the connection, since one was accepted."""
        return self._failed_creates.denied

    @property
    def failed(self) -> int:
        """How many items are no success, also those that are not committed yet."""
        return self._outcomes.failed

    @property
    def first_failures(self) -> list[Outcome]:
        """The first item of this attempt that has failed, and the first one that is lost."""
        return [*self._outcomes.first.values()]

    def next(self, now: float) -> list[Command]:
        """Return what can be done now; the outcome of each command has to be reported."""
        if self._watch.time_is_over(now):
            self.stop(StopReason.WINDOW_OVER)
        # Also what an earlier attempt has seen fail counts, and what failed before anybody knew of how many.
        if self.stopped is not StopReason.LEFT and self._outcomes.has_too_many_failed(rows=self.rows):
            self.stop(StopReason.TOO_MANY_FAILED)
        reading = self._rows.to_read(self._dispatcher.wanted, now)
        events = self._commit.next(now, partial(self._to_commit, now))
        part = self._outcomes.to_write(now, is_last=self.stopped is not None or self._is_at_the_end)
        sendable = self._dispatcher.to_send(now).items()
        return [
            *([reading] if reading is not None else ()),
            *([Commit(events=events)] if events is not None else ()),
            *(Send(row=self._rows[row], token=self._token(row), until=until) for row, until in sendable),
            *self._watch.due(self.stopped, self.items.runs, lambda: self.active, now=now),
            *([WritePart(part=part)] if part is not None else ()),
        ]

    def stop(self, reason: StopReason) -> None:
        """
        Create nothing more; what is active is ended, but where the account is to blame, or the worker leaves.

        Runs that were created before go on well without a quota, and are paid for.
        """
        if self.stopped in _REPLACEABLE:
            self.stopped = reason
            self._dispatcher.stop(goes_on=reason in _OTHERS_GO_ON)
            self._rows.forget_all_but(self._dispatcher.sending)

    # -- outcomes ------------------------------------------------------------------------------------------

    def on_rows(self, rows: Iterable[Row], *, is_last: bool, now: float) -> None:
        """Take rows; those that are past this are skipped."""
        self._rows.on_read(is_last=is_last)
        for row in rows:
            number = row.number
            is_needed = self.items.state(number) is ItemState.NEW and number not in self._finished
            if not self._rows.see(row) or self.stopped is not None or not is_needed:
                continue
            if row.values is None:
                failed = Outcome(row=number, custom_id=row.custom_id, state=ItemState.FAILED, error=row.error)
                self._final(failed, now)
            else:
                self._rows.keep(row)
                self._dispatcher.offer(row)

    def on_input_failed(self) -> None:
        """Create nothing more, since no further row can be read; what was created is collected."""
        self._rows.on_read(is_last=False)
        if self.stopped is None:
            self.stop(StopReason.INPUT)

    def on_committed(self, *, began_at: float) -> None:
        """
        Take note that the events are committed.

        :param began_at: Unix seconds; from then on a later attempt may have read them.
        """
        self._commit.on_done()
        for event in self._dispatcher.on_committed(began_at):
            if isinstance(event, Created):
                for run in event.runs:
                    self._new_runs.pop(run.row, None)
                waited_for = [run for run in event.runs if run.row not in self._finished]
                self._watch.add(waited_for, now=began_at)
            elif isinstance(event, (PartWritten, Retried, Cancelled)):
                self._finished.difference_update(event.rows)

    def on_commit_failed(self, now: float) -> None:
        """Commit the same once more, in a while; it may have been committed, and only the answer was lost."""
        self._commit.on_failed(now)

    def on_sent(
        self,
        row: int,
        brought: NewRun | RequestFailure,
        *,
        now: float,
        headers: Mapping[str, str],
        ended: Run | None = None,
    ) -> None:
        """
        Take note of what a create was answered with.

        :param headers: of the answer, under lower-case names.
        :param ended: the run, where it has ended with the answer: gateways that ignore ``background`` often
            keep nothing that could be read once more, so its slot is free only when its result is durable.
        """
        if isinstance(brought, NewRun):
            self._failed_creates.on_accepted(row)
            self.moved_at = now
            self._rate_limit.on_accepted(now, headers)
            self._rows.forget(row)
            self._new_runs[row] = brought
            self._dispatcher.on_created(brought)
            if ended is not None:
                self._on_ended(row, ended, now, keeps_slot=True)
            return
        after = self._failed_creates.after(row, brought, now=now)
        if after is AfterFailure.LOST:
            self._on_lost(row, str(brought), now)
            return
        self._dispatcher.on_not_accepted(row, again=after is not AfterFailure.FAILED)
        if after is AfterFailure.FAILED:
            self._final(self._outcome(row, ItemState.FAILED, error=str(brought)), now)
        elif after is AfterFailure.DENIED:
            self.stop(StopReason.DENIED)

    def on_too_late(self, row: int) -> None:
        """Take note of a create that has not left within the time for which its intent is good."""
        self._dispatcher.on_not_accepted(row, again=True)

    def on_polled(self, row: int, brought: Polled | RequestFailure, *, now: float) -> None:
        """Take note of what a poll brought."""
        decision = self._watch.on_polled(row, brought, now=now)
        if isinstance(brought, Polled) and brought.run is not None:
            self._on_ended(row, brought.run, now)
        elif isinstance(brought, RequestFailure) and brought.kind is FailureKind.TOO_LARGE:
            self._give_up(row, brought, now)
        elif isinstance(decision, Done):
            self._on_given_up(row, decision, now)
        if self.stopped is StopReason.WINDOW_OVER:
            self._watch.forget(row)

    def on_cancelled(self, row: int, brought: Run | RequestFailure, *, now: float) -> None:
        """Take note of what a cancel brought: the run, which has ended, or why it may still be active."""
        run, has_ended = self.items.runs.get(row), True
        if not isinstance(brought, RequestFailure):
            self._on_ended(row, brought, now)
        elif run is not None and _is_final(brought) and now >= run.created_at + NOT_FOUND_GRACE:
            self._give_up(row, brought, now)
        else:
            has_ended = False
        self._watch.on_cancelled(row, has_ended=has_ended, now=now)

    def on_part_written(self) -> None:
        """Take note that the file is there; its items are final once that is committed."""
        self._dispatcher.on_part(self._outcomes.on_written())

    def on_part_failed(self, now: float) -> None:
        """Write the same file once more, in a while."""
        self._outcomes.on_failed(now)

    # -- inside --------------------------------------------------------------------------------------------

    def _to_commit(self, now: float) -> tuple[Event, ...] | None:
        limit = self._rate_limit
        tokens = self._tokens_an_item() if limit.counts_tokens else 0.0
        admitted = limit.admit(now, tokens=tokens)
        events = self._dispatcher.to_commit(now, admitted=admitted, is_probing=limit.is_probing)
        if self.refusal is not None:
            self.stop(StopReason.CEILING)
        creates = sum(len(event.rows) for event in events or () if isinstance(event, Intended))
        limit.on_sent(creates, tokens=creates * tokens)
        return events

    def _tokens_an_item(self) -> float:
        """Return about what an item takes: as those that are done, else as its text lets expect."""
        done = self.items.count(ItemState.SUCCEEDED)
        usage = self.items.results.usage
        return usage.total_tokens / done if done and usage else self._rows.mean_size / _BYTES_A_TOKEN

    @property
    def _is_at_the_end(self) -> bool:
        """Whether no further result is to be waited for."""
        waits = len(self._watch) or self._new_runs
        return not (waits or self._rows.has_more or self._dispatcher.is_creating)

    def _token(self, row: int) -> str:
        return self._token_of(row, self.items.creates(row))

    def _custom_id(self, row: int) -> str | None:
        read = self._rows.get(row)
        return read.custom_id if read is not None else self.items.custom_ids.get(row)

    def _outcome(self, row: int, state: ItemState, *, error: str | None, token: str | None = None) -> Outcome:
        return Outcome(row=row, custom_id=self._custom_id(row), state=state, error=error, token=token)

    def _on_lost(self, row: int, reason: str, now: float) -> None:
        if self._dispatcher.on_lost(row):
            self._again(row)
            return
        error = (
            f"Nobody knows whether its create was accepted: {reason}. A run of it may be going and billing."
        )
        self._final(self._outcome(row, ItemState.LOST, error=error, token=self._token(row)), now)

    def _on_ended(self, row: int, run: Run, now: float, *, keeps_slot: bool = False) -> None:
        self.moved_at = now
        if (cost := self.allowance.cost_of(run, self.items.asked.get(row))) is not None:
            run = replace(run, cost=cost)
        verdict, spent = self._judge(row, self._custom_id(row), run), Spent.of(row, run)
        if self.stopped is StopReason.AGAIN and run.status is RunStatus.CANCELLED:
            self._dispatcher.on_cancelled(row, spent)
        elif verdict.outcome.state is ItemState.SUCCEEDED or not self._dispatcher.on_failed(
            row, retryable=verdict.retryable, spent=spent
        ):
            self._final(verdict.outcome, now, keeps_slot=keeps_slot)
            return
        self._watch.forget(row)
        self._finished.add(row)
        self._again(row)

    def _again(self, row: int) -> None:
        if self.stopped is None:
            self._rows.read_again(row)
        else:
            self._rows.forget(row)

    def _on_given_up(self, row: int, done: Done, now: float) -> None:
        """Decide about a run that is not polled any more: time is over, it is gone, or the key is refused."""
        if done.outcome is WaitOutcome.WINDOW_OVER:
            self.stop(StopReason.WINDOW_OVER)
        elif done.failure is not None and not done.failure.is_of_account:
            self._give_up(row, done.failure, now)
        else:
            self.stop(StopReason.DENIED)

    def _give_up(self, row: int, failure: RequestFailure, now: float) -> None:
        gone = failure.kind is FailureKind.NOT_FOUND
        what = "The server does not know its run any more" if gone else "Its run cannot be read"
        error = f"{what}: {failure}. {self.items.runs[row].id}"
        self._final(self._outcome(row, ItemState.FAILED, error=error), now)

    def _final(self, outcome: Outcome, now: float, *, keeps_slot: bool = False) -> None:
        row = outcome.row
        if not keeps_slot:
            self._dispatcher.on_ended(row)
        self._watch.forget(row)
        self._rows.forget(row)
        self._finished.add(row)
        self._outcomes.add(outcome, now=now)


def _is_final(failure: RequestFailure) -> bool:
    """Whether nobody will hear more of a run: a gateway's 404 says nothing of it."""
    return failure.kind is FailureKind.TOO_LARGE or failure.says_gone
