# SPDX-License-Identifier: Apache-2.0
"""
One attempt of a bulk task: what to do next, as commands, and what became of each.

It does no I/O and knows no clock. Whoever drives it asks ``next`` for commands, executes them in any order
and at the same time, and reports each outcome; then asks again. So every order of events can be tried by
values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from airflow_provider_openai_runs.bulk.commands import (
    Cancel,
    Command,
    Commit,
    Judge,
    Poll,
    Polled,
    ReadRows,
    Send,
    StopReason,
    WritePart,
)
from airflow_provider_openai_runs.bulk.dispatcher import Dispatcher, Limits
from airflow_provider_openai_runs.bulk.events import Created, Event, Intended, NewRun, PartWritten, Retried
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.parts import Outcome, Part, Parts
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.budgets import PERMANENT_FAILURE_BUDGET
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.polling import Done
from airflow_provider_openai_runs.runs.polling import Outcome as WaitOutcome

#: Seconds until storage, Airflow or a cancel is tried again.
PAUSE_AFTER_FAILURE = 2.0
#: Seconds between two passes over the input for the rows that are needed again.
PASS_EVERY = 10.0


class BulkAttempt:
    """
    The items of a task, from where an earlier attempt left them to their end.

    :param items: what the journal says. A create in it without an answer is lost: an attempt begins only when
        nobody can send it any more.
    :param token_of: the token of the create of a row, by the number of creates before it.
    :param polls: knows the deadline.
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
    ) -> None:
        self.items = items
        #: Why nothing more is created; None as long as it goes on.
        self.stopped: StopReason | None = None
        self._limits = limits
        self._judge = judge
        self._token_of = token_of
        self._polls = polls
        self._parts = parts
        self._rate_limit = rate_limit
        self._dispatcher = Dispatcher(items, limits)
        #: Rows in hand, until their create is answered.
        self._rows: dict[int, Row] = {}
        #: Rows that have to be read once more.
        self._missed: set[int] = set()
        self._is_reading = False
        self._is_read_whole = False
        self._count = 0
        self._pass_began_at = now
        #: Events that are being committed, or have to be committed again.
        self._events: tuple[Event, ...] = ()
        self._is_committing = False
        self._commits_again_at = now
        #: A file that is being written, or has to be written again.
        self._part: Part | None = None
        self._is_writing = False
        self._writes_again_at = now
        #: Rows whose run is being polled, and those with a final word that is not committed yet.
        self._polling: set[int] = set()
        self._finished: set[int] = set()
        self._cancels_again_at = now
        self._denied_since: float | None = None
        self._failed = items.count(ItemState.FAILED) + items.count(ItemState.LOST)
        self._polls.add(items.runs.values(), now=now)
        for row in [*items.rows(ItemState.INTENDED)]:
            self._on_lost(row, "the attempt that sent its create is gone", now)

    # -- what next -----------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether every item has its final word in a committed part, or nothing more is to be created."""
        has_more = self.stopped is None and (not self._is_read_whole or self._missed)
        is_busy = self._is_reading or self._polling or self._part is not None or not self._parts.is_empty
        # Of runs that nobody may poll any more the end is not known; a retry goes on with them.
        waits = len(self._polls) if self.stopped is StopReason.DENIED else self.items.runs
        return not (has_more or is_busy or waits) and self._dispatcher.is_settled

    def next(self, now: float) -> list[Command]:
        """Return what can be done now; the outcome of each command has to be reported."""
        return [
            *self._rows_to_read(now),
            *self._to_commit(now),
            *(Send(row=self._rows[row], token=self._token(row)) for row in self._dispatcher.to_send(now)),
            *self._polls_due(now),
            *self._part_to_write(now),
        ]

    def stop(self, reason: StopReason) -> None:
        """
        Create nothing more; what is active is ended, but where only the account is to blame.

        Runs that were created before go on well without a quota, and are paid for.
        """
        if self.stopped in {None, StopReason.DENIED}:
            self.stopped = reason
            self._dispatcher.stop()
            self._rows = {row: self._rows[row] for row in self._dispatcher.sending if row in self._rows}

    # -- outcomes ------------------------------------------------------------------------------------------

    def on_rows(self, rows: Iterable[Row], *, is_last: bool, now: float) -> None:
        """Take rows; those that are past this are skipped."""
        self._is_reading = False
        self._is_read_whole = is_last
        for row in rows:
            number = row.number
            self._count = max(self._count, number + 1)
            is_needed = self.items.state(number) is ItemState.NEW and number not in self._finished
            if self.stopped is not None or not is_needed or number in self._rows:
                continue
            self._missed.discard(number)
            if row.values is None:
                failed = Outcome(row=number, custom_id=row.custom_id, state=ItemState.FAILED, error=row.error)
                self._final(failed, now)
            else:
                self._rows[number] = row
                self._dispatcher.offer(number, row.custom_id)

    def on_committed(self, *, began_at: float) -> None:
        """
        Take note that the events are committed.

        :param began_at: Unix seconds; from then on a later attempt may have read them.
        """
        self._events, self._is_committing = (), False
        for event in self._dispatcher.on_committed(began_at):
            if isinstance(event, Created):
                self._polls.add(event.runs, now=began_at)
            elif isinstance(event, (PartWritten, Retried)):
                self._finished.difference_update(event.rows)

    def on_commit_failed(self, now: float) -> None:
        """Commit the same once more, in a while; it may have been committed, and only the answer was lost."""
        self._is_committing = False
        self._commits_again_at = now + PAUSE_AFTER_FAILURE

    def on_sent(
        self, row: int, brought: NewRun | RequestFailure, *, now: float, headers: Mapping[str, str]
    ) -> None:
        """
        Take note of what a create was answered with.

        :param headers: of the answer, under lower-case names.
        """
        if isinstance(brought, NewRun):
            self._denied_since = None
            self._rate_limit.on_accepted(now, headers)
            self._rows.pop(row, None)
            self._dispatcher.on_created(brought)
            return
        match brought.kind:
            case FailureKind.OUTCOME_UNKNOWN:
                self._on_lost(row, str(brought), now)
            case FailureKind.NOT_SENT | FailureKind.RETRY_LATER:
                self._rate_limit.on_refused(now, brought.retry_after)
                self._dispatcher.on_not_accepted(row, again=True)
            case FailureKind.ACCESS_DENIED | FailureKind.NO_QUOTA:
                # It is not the item's fault, and every other would fail the same way.
                self._rate_limit.on_refused(now, brought.retry_after)
                self._dispatcher.on_not_accepted(row, again=True)
                self._denied_since = now if self._denied_since is None else self._denied_since
                if now - self._denied_since >= PERMANENT_FAILURE_BUDGET:
                    self.stop(StopReason.DENIED)
            case _:
                self._dispatcher.on_not_accepted(row, again=False)
                self._final(self._outcome(row, ItemState.FAILED, error=str(brought)), now)

    def on_polled(self, row: int, brought: Polled | RequestFailure, *, now: float) -> None:
        """Take note of what a poll brought."""
        self._polling.discard(row)
        result = brought if isinstance(brought, RequestFailure) else brought.result
        decision = self._polls.on_poll(row, result, now=now)
        if isinstance(brought, Polled) and brought.run is not None:
            self._on_ended(row, brought.run, now)
        elif isinstance(decision, Done):
            self._on_given_up(row, decision, now)

    def on_cancelled(self, row: int, brought: Run | RequestFailure, *, now: float) -> None:
        """Take note of what a cancel brought: the run, which has ended, or why it may still be active."""
        self._polling.discard(row)
        if isinstance(brought, RequestFailure):
            self._cancels_again_at = now + PAUSE_AFTER_FAILURE
        else:
            self._on_ended(row, brought, now)

    def on_part_written(self) -> None:
        """Take note that the file is there; its items are final once that is committed."""
        assert self._part is not None  # noqa: S101 # for mypy
        self._dispatcher.on_part(self._part.written)
        self._part, self._is_writing = None, False

    def on_part_failed(self, now: float) -> None:
        """Write the same file once more, in a while."""
        self._is_writing = False
        self._writes_again_at = now + PAUSE_AFTER_FAILURE

    # -- inside --------------------------------------------------------------------------------------------

    def _rows_to_read(self, now: float) -> Iterator[ReadRows]:
        count = 0 if self._is_reading or self.stopped is not None else self._dispatcher.wanted
        if not count:
            return
        if self._is_read_whole:
            is_due = now >= self._pass_began_at + PASS_EVERY
            if not is_due or not any(self.items.state(row) is ItemState.NEW for row in self._missed):
                return
            self._pass_began_at = now
        self._is_reading = True
        yield ReadRows(count=count, from_start=self._is_read_whole)

    def _to_commit(self, now: float) -> Iterator[Commit]:
        if self._is_committing or now < self._commits_again_at:
            return
        if not self._events:
            self._events = self._dispatcher.to_commit(now, admitted=self._rate_limit.admit(now)) or ()
            creates = sum(len(event.rows) for event in self._events if isinstance(event, Intended))
            self._rate_limit.on_sent(creates)
        if self._events:
            self._is_committing = True
            yield Commit(events=self._events)

    def _polls_due(self, now: float) -> Iterator[Poll | Cancel]:
        if self.stopped in {None, StopReason.DENIED}:
            due = [row for row in self._polls.due(now) if row not in self._polling]
            self._polling.update(due)
            yield from (Poll(run=self.items.runs[row]) for row in due)
            return
        for row, run in self.items.runs.items():
            if row not in self._polling and row not in self._finished and now >= self._cancels_again_at:
                self._polling.add(row)
                yield Cancel(run=run)

    def _part_to_write(self, now: float) -> Iterator[WritePart]:
        if self._is_writing or now < self._writes_again_at:
            return
        if self._part is None:
            due_at = self._parts.due_at()
            if due_at is None or (now < due_at and self.stopped is None):
                return
            self._part = self._parts.close()
        self._is_writing = True
        yield WritePart(part=self._part)

    def _token(self, row: int) -> str:
        return self._token_of(row, self.items.retries(row) + self.items.resubmits(row))

    def _custom_id(self, row: int) -> str | None:
        read = self._rows.get(row)
        return read.custom_id if read is not None else self.items.custom_ids.get(row)

    def _outcome(self, row: int, state: ItemState, *, error: str | None, token: str | None = None) -> Outcome:
        return Outcome(row=row, custom_id=self._custom_id(row), state=state, error=error, token=token)

    def _on_lost(self, row: int, reason: str, now: float) -> None:
        if self._dispatcher.on_lost(row):
            self._rows.pop(row, None)
            self._missed.add(row)
            return
        error = (
            f"Nobody knows whether its create was accepted: {reason}. A run of it may be going and billing."
        )
        self._final(self._outcome(row, ItemState.LOST, error=error, token=self._token(row)), now)

    def _on_ended(self, row: int, run: Run, now: float) -> None:
        verdict = self._judge(row, self._custom_id(row), run)
        has_succeeded = verdict.outcome.state is ItemState.SUCCEEDED
        if has_succeeded or not self._dispatcher.on_failed(row, retryable=verdict.retryable):
            self._final(verdict.outcome, now)
            return
        self._polls.forget(row)
        self._finished.add(row)
        self._missed.add(row)

    def _on_given_up(self, row: int, done: Done, now: float) -> None:
        """Decide about a run that is not polled any more: time is over, it is gone, or the key is refused."""
        if done.outcome is WaitOutcome.WINDOW_OVER:
            self.stop(StopReason.WINDOW_OVER)
        elif done.failure is not None and done.failure.kind is FailureKind.NOT_FOUND:
            run = self.items.runs[row].id
            error = f"The server does not know its run any more: {done.failure}. {run}"
            self._final(self._outcome(row, ItemState.FAILED, error=error), now)
        else:
            self.stop(StopReason.DENIED)

    def _final(self, outcome: Outcome, now: float) -> None:
        row = outcome.row
        self._dispatcher.on_ended(row)
        self._polls.forget(row)
        self._rows.pop(row, None)
        self._finished.add(row)
        self._parts.add(outcome, now=now)
        if outcome.state is not ItemState.SUCCEEDED:
            self._failed += 1
            if self._has_too_many_failed():
                self.stop(StopReason.TOO_MANY_FAILED)

    def _has_too_many_failed(self) -> bool:
        limit = self._limits.max_failed
        if isinstance(limit, float):
            # A share of what is not counted yet says nothing.
            return self._is_read_whole and self._failed > limit * self._count
        return limit is not None and self._failed > limit
