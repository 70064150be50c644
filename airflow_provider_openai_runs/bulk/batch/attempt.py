# SPDX-License-Identifier: Apache-2.0
"""
One attempt of a bulk task by batches: what to do next, and what became of it.

It does no I/O and knows no clock. Whoever drives it asks ``next`` for a command, executes it, and reports the
outcome. A batch whose create has no answer is found by its token, so it is never created twice; an item is in
one batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from airflow_provider_openai_runs.bulk.batch import refusals
from airflow_provider_openai_runs.bulk.batch.cancels import Cancels
from airflow_provider_openai_runs.bulk.batch.commands import (
    Build,
    Cancel,
    Collect,
    Command,
    Commit,
    Done,
    Find,
    GiveUp,
    Poll,
    Send,
    UploadedFile,
    Wait,
)
from airflow_provider_openai_runs.bulk.batch.lost_create import searched_until
from airflow_provider_openai_runs.bulk.batch.queue import refused_by_queue
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.events import (
    BatchCreated,
    BatchIntended,
    BatchRefused,
    Event,
    Resubmitted,
)
from airflow_provider_openai_runs.bulk.failed_polls import FailedPolls
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.budgets import (
    BATCH_MISSING_SECONDS,
    BATCH_POLL_BOUNDS,
    DEFERS_AFTER,
    PERMANENT_FAILURE_BUDGET,
    REFUSED_PAUSE,
    RETRY_AFTER_BOUNDS,
    SEARCH_PAUSE,
    SEND_WITHIN,
    SERVER_HINT_BOUNDS,
)
from airflow_provider_openai_runs.runs.error_codes import CodeMeaning, meaning_of
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.wire.batches import QUEUE_IS_FULL, Batch

#: With these a server says that it has no list of batches.
_NO_LIST = frozenset({FailureKind.NOT_FOUND, FailureKind.REJECTED})
_MAY_PASS = frozenset({FailureKind.NOT_SENT, FailureKind.RETRY_LATER, FailureKind.NOT_ACCEPTED})
#: What is active goes on after these.
_GOES_ON = frozenset({StopReason.DENIED, StopReason.CEILING, StopReason.INPUT, StopReason.UPLOAD})
_CUT_OFF = {
    StopReason.WINDOW_OVER: "expired: completion_window was over before it was executed",
    StopReason.TOO_MANY_FAILED: "its batch was cancelled: more items than max_failed have failed",
}


class BatchAttempt:
    """
    The items of a task, from where an earlier attempt left them to their end.

    :param items: what the journal says.
    :param token_of: the token of a batch, by the number of batches before it.
    :param deadline: Unix seconds, after which nothing is sent.
    :param max_failed: as the operator has it.
    :param max_resubmits: how often a row is sent again whose batch may have been created, and is not found.
    :param cancels: whether active batches are cancelled at the deadline.
    :param found: what an earlier attempt has written down, and not committed.
    """

    def __init__(
        self,
        items: Items,
        *,
        token_of: Callable[[int], str],
        deadline: float,
        now: float,
        max_failed: float | None = None,
        poll_interval: float | None = None,
        max_resubmits: int = 0,
        cancels: bool = True,
        found: Iterable[Event] = (),
    ) -> None:
        self.items = items
        #: Why nothing more is created; None as long as it goes on.
        self.stopped: StopReason | None = None
        #: For a line of the log; to search for a batch is one, too.
        self.failed_polls = FailedPolls()
        #: How many rows the input has, as far as it is read, and whether that is all.
        self.rows_read, self.is_read_whole = 0, False
        #: Whether rows may be left that are in no batch.
        self.has_more = True
        #: Whether a batch has left the queue since the last one was refused.
        self._has_room = False
        #: Why nothing more may be paid for, naming all numbers; None if it may.
        self.refusal: str | None = None
        #: The same as long as the end of a batch may leave more to spend.
        self._held: str | None = None
        #: Whether a pass over the input is under way, and whether another one has to follow.
        self._is_reading = self._needs_pass = False
        self._token_of = token_of
        self._deadline = deadline
        self._max_failed = max_failed
        self._poll_interval = poll_interval
        self._max_resubmits = max_resubmits
        self._cancels = cancels
        self._file: UploadedFile | None = None
        self._events: list[Event] = []
        self._to_send: Send | None = None
        self._seen: dict[str, Batch] = {}
        self._lost: dict[str, GiveUp] = {}
        #: By token: when to ask again, since when a batch is searched for, or the server does not know it.
        self._ask_at: dict[str, float] = {}
        self._searched_since: dict[str, float] = {}
        self._missing_since: dict[str, float] = {}
        self._cancels_sent = Cancels()
        self._stopped_at = now
        self._creates_denied_since: float | None = None
        self._polls_denied_since: float | None = None
        known = {event.token: event for event in found if isinstance(event, BatchCreated)}
        for batch in items.batches.active:
            if batch.id is None:
                self._searched_since[batch.token] = now
                self._events += [known[batch.token]] if batch.token in known else []

    # -- what next -----------------------------------------------------------------------------------------

    @property
    def failed(self) -> int:
        """How many items are no success."""
        return self.items.count(ItemState.FAILED) + self.items.count(ItemState.LOST)

    def next(self, now: float) -> Command:
        """Return what is to be done now; its outcome has to be reported."""
        self._stop_in_time(now)
        if self._events:
            return Commit(event=self._events[0])
        if (send := self._to_send) is not None:
            if now < send.until and self.stopped is None:
                return send
            return self._commit(BatchRefused(token=send.batch.token))
        active = self.items.batches.active
        for batch in active:
            if (command := self._about(batch, now)) is not None:
                return command
        create_at = self._create_at(active, now)
        if create_at is not None and now >= create_at:
            if self._file is not None:
                return self._commit(self._intent(self._file, now))
            self._needs_pass = self._needs_pass and self._is_reading
            self._is_reading = True
            return Build()
        if self._is_over(active, now):
            return Done()
        asks = [self._ask_at.get(batch.token, now) for batch in active]
        until = min([*asks, *([] if create_at is None else [create_at]), self._ends_at(now)])
        return Wait(until=until, may_defer=self._may_defer(active, create_at, now), create_at=create_at)

    def stop(self, reason: StopReason, now: float) -> None:
        """Create nothing more; but where account, ceiling or input are to blame, what is active is ended."""
        if self.stopped is None or self.stopped in _GOES_ON:
            self._stopped_at = now if self.stopped is not reason else self._stopped_at
            self.stopped = reason

    def searched_until(self, batch: SentBatch, now: float) -> float:
        """Return from when on a batch that is not found counts as not created, in Unix seconds."""
        return searched_until(batch, since=self._searched_since.get(batch.token, now))

    # -- outcomes ------------------------------------------------------------------------------------------

    def on_built(self, file: UploadedFile | None, *, rows_read: int, held: str | None = None) -> None:
        """
        Take the next file; None at the end of a pass.

        :param held: why the rest of the input may not be paid for now.
        """
        self._file, self._held = file, held
        self.rows_read = max(self.rows_read, rows_read)
        if file is None:
            self.is_read_whole = self.is_read_whole or held is None
            self.has_more, self._is_reading = self._needs_pass or held is not None, False

    def on_committed(self, event: Event, *, written_at: float) -> None:
        """
        Take note that an event is committed, and in ``items``.

        :param written_at: Unix seconds; from then on a later attempt may have read it.
        """
        if self._events and self._events[0] is event:
            self._events.pop(0)
        match event:
            case BatchIntended(batch=batch):
                self._file = None
                self._to_send = Send(batch=batch, until=written_at + SEND_WITHIN)
            case BatchCreated(token=token):
                self._searched_since.pop(token, None)
            case BatchRefused(token=token, until=until):
                self._on_left(token)
                self._has_room = self._has_room and until is None

    def on_sent(self, batch: SentBatch, brought: Batch | RequestFailure, *, now: float) -> None:
        """Take note of what a create was answered with."""
        self._to_send = None
        if isinstance(brought, Batch):
            self._creates_denied_since = None
            self._on_exists(batch, brought, now)
        elif brought.code == QUEUE_IS_FULL:
            self._events.append(refused_by_queue(batch, self.items, str(brought), now=now))
        elif brought.kind is FailureKind.OUTCOME_UNKNOWN:
            self._searched_since[batch.token] = now
            self._ask_at[batch.token] = now + SEARCH_PAUSE
        elif brought.kind in _MAY_PASS or brought.is_of_account:
            until = now + max(REFUSED_PAUSE, min(brought.retry_after or 0.0, RETRY_AFTER_BOUNDS[1]))
            self._events.append(BatchRefused(token=batch.token, until=until))
            if brought.is_of_account:
                self._creates_denied_since = self._since(self._creates_denied_since, now)
        else:
            if not refusals.is_sure(brought) and refusals.may_pass(batch, self.items):
                self._events.append(_of_its_file(batch, now))
                return
            error = f"Its batch was refused: {brought}"
            self._lost[batch.token] = GiveUp(
                batch=batch, state=ItemState.FAILED, error=error, may_be_billed=False
            )

    def on_found(self, batch: SentBatch, brought: Batch | RequestFailure | None, *, now: float) -> None:
        """Take note of what the list of batches says."""
        self.failed_polls.on_poll(brought)
        self._ask_at[batch.token] = now + SEARCH_PAUSE
        if isinstance(brought, RequestFailure) and brought.kind in _NO_LIST:
            if now >= self._missing_since.setdefault(batch.token, now) + BATCH_MISSING_SECONDS:
                self._on_lost(batch, brought)
            return
        self._missing_since.pop(batch.token, None)
        if isinstance(brought, Batch):
            self._on_exists(batch, brought, now)
        elif brought is None and now >= self.searched_until(batch, now):
            self._events.append(BatchRefused(token=batch.token))
        elif isinstance(brought, RequestFailure) and brought.is_of_account:
            self._polls_denied_since = self._since(self._polls_denied_since, now)

    def on_polled(self, batch: SentBatch, brought: Batch | RequestFailure, *, now: float) -> None:
        """Take note of how a batch is doing, also as its cancel was answered."""
        self.failed_polls.on_poll(brought)
        if isinstance(brought, Batch):
            self._polls_denied_since = None
            self._missing_since.pop(batch.token, None)
            self._cancels_sent.on_seen(batch.token, brought.status, asked_at=self._stopped_at)
            self._ask_at[batch.token] = now + self._interval(batch, now)
            has_executed = brought.output_file_id is not None or brought.counts.get("completed")
            is_over = brought.has_ended and not has_executed
            codes = {error.code for error in brought.errors} if is_over else set()
            if QUEUE_IS_FULL in codes:
                text = " ".join(error.text for error in brought.errors)
                self._events.append(refused_by_queue(batch, self.items, text, now=now))
            elif brought.status == "failed" and meaning_of(tuple(codes)) is CodeMeaning.ACCOUNT:
                self._events.append(BatchRefused(token=batch.token))
                self.stop(StopReason.DENIED, now)
            elif (
                is_over
                and brought.status == "failed"
                and refusals.is_of_its_file(brought)
                and refusals.may_pass(batch, self.items)
            ):
                self._events.append(_of_its_file(batch, now))
            else:
                self._seen[batch.token] = brought
            return
        asks_for = min(brought.retry_after or 0.0, SERVER_HINT_BOUNDS[1])
        self._ask_at[batch.token] = now + max(BATCH_POLL_BOUNDS[0], asks_for)
        if not brought.says_gone:
            self._missing_since.pop(batch.token, None)
        elif now >= self._missing_since.setdefault(batch.token, now) + BATCH_MISSING_SECONDS:
            error = (
                f"The server does not know {batch.name} (input {batch.file_id}) any more: {brought}. "
                "It may be going and billing."
            )
            self._lost[batch.token] = GiveUp(batch=batch, state=ItemState.LOST, error=error)
        if brought.is_of_account:
            self._polls_denied_since = self._since(self._polls_denied_since, now)

    def on_cancelled(self, batch: SentBatch, brought: Batch | RequestFailure, *, now: float) -> None:
        """Take note of how a cancel was answered; a batch that has ended refuses it, and is polled."""
        if isinstance(brought, Batch):
            self._cancels_sent.on_taken(batch.token, now)
            self.on_polled(batch, brought, now=now)
            return
        self._ask_at[batch.token] = now
        self._cancels_sent.on_refused(batch.token, now)

    def on_collected(self, batch: SentBatch) -> None:
        """Take note that no row waits for a batch any more, and that the queue has its room."""
        self._has_room = True
        self._on_left(batch.token)

    # -- inside --------------------------------------------------------------------------------------------

    def _about(self, batch: SentBatch, now: float) -> Command | None:
        token = batch.token
        if (given_up := self._lost.get(token)) is not None:
            return given_up
        is_due = now >= self._ask_at.get(token, 0.0)
        if batch.id is None:
            return Find(batch=batch) if is_due else None
        seen = self._seen.get(token)
        if seen is not None and seen.has_ended:
            cut_off = _CUT_OFF.get(self.stopped) if self.stopped is not None else None
            return Collect(batch=batch, seen=seen, cut_off=cut_off)
        if is_due:
            return Poll(batch=batch)
        is_due = self._ends_active and self._cancels_sent.is_due(token, now)
        return Cancel(batch=batch) if is_due else None

    def _create_at(self, active: list[SentBatch], now: float) -> float | None:
        """Return when the next batch may be created, in Unix seconds; None if there is none for now."""
        if self._held is not None and not active and self.stopped is None:
            self.refusal = self._held
            self.stop(StopReason.CEILING, now)
        if not self.has_more or self.stopped is not None or self._held is not None:
            return None
        return now if self._has_room else self.items.batches_again_at

    @property
    def _ends_active(self) -> bool:
        if self.stopped is StopReason.WINDOW_OVER:
            return self._cancels
        return self.stopped is StopReason.TOO_MANY_FAILED

    def _is_over(self, active: list[SentBatch], now: float) -> bool:
        if not active:
            return self.stopped is not None or not self.has_more
        if self.stopped in _GOES_ON:
            # They may go on well, and a poll says so.
            return self.stopped is StopReason.DENIED and self._polls_denied_since is not None
        return self.stopped is not None and now >= self._ends_at(now)

    def _stop_in_time(self, now: float) -> None:
        """Stop at the end of the window, and after too many failures, also those of earlier attempts."""
        if now >= self._deadline:
            self.stop(StopReason.WINDOW_OVER, now)
        limit = self._max_failed
        if isinstance(limit, float):
            # A share of what is not counted yet says nothing.
            limit = limit * self.rows_read if self.is_read_whole else None
        if limit is not None and self.failed > limit:
            self.stop(StopReason.TOO_MANY_FAILED, now)

    def _may_defer(self, active: list[SentBatch], create_at: float | None, now: float) -> bool:
        """Whether this may be left to another attempt, which forgets what is not in the journal."""
        is_known = not self._searched_since and not self._missing_since
        is_ending = not self._ends_active or self._cancels_sent.are_taken(active)
        is_worth_it = create_at is None or create_at >= now + DEFERS_AFTER
        return is_known and is_ending and is_worth_it and now < self._deadline

    def _ends_at(self, now: float) -> float:
        """Return when this attempt waits no longer, in Unix seconds."""
        if self.stopped is None or self.stopped in _GOES_ON:
            return self._deadline
        return (
            self._cancels_sent.ends_at(self.items.batches.active, self._stopped_at)
            if self._ends_active
            else now
        )

    def _intent(self, file: UploadedFile, now: float) -> BatchIntended:
        token = self._token_of(self.items.batches.count)
        batch = SentBatch(token=token, file_id=file.id, rows=file.rows, at=now, size=file.size)
        return BatchIntended(
            batch=batch, custom_ids=file.custom_ids, asked=file.asked, reserved=file.reserved
        )

    def _commit(self, event: Event) -> Commit:
        self._to_send = None
        self._events.append(event)
        return Commit(event=event)

    def _on_exists(self, batch: SentBatch, found: Batch, now: float) -> None:
        self._events.append(BatchCreated(token=batch.token, id=found.id))
        self._ask_at[batch.token] = now + self._interval(batch, now)

    def _on_lost(self, batch: SentBatch, failure: RequestFailure) -> None:
        rows = self.items.batches.rows_left(batch)
        if self.stopped is None and all(self.items.resubmits(row) < self._max_resubmits for row in rows):
            self._events.append(Resubmitted(rows=tuple(rows)))
            self._on_left(batch.token)
            return
        error = (
            f"Nobody knows whether {batch.name} was created, since the server's list does not tell: "
            f"{failure}. It may be going and billing."
        )
        self._lost[batch.token] = GiveUp(batch=batch, state=ItemState.LOST, error=error)

    def _since(self, began: float | None, now: float) -> float:
        """Return since when the key is refused, or the account has no quota, and stop after minutes of it."""
        if began is not None and now - began >= PERMANENT_FAILURE_BUDGET:
            self.stop(StopReason.DENIED, now)
        return now if began is None else began

    def _interval(self, batch: SentBatch, now: float) -> float:
        if self._poll_interval is not None:
            return self._poll_interval
        return min(max((now - batch.at) / 10, BATCH_POLL_BOUNDS[0]), BATCH_POLL_BOUNDS[1])

    def _on_left(self, token: str) -> None:
        """Look for rows to send: some may have another chance, and what a batch has not taken is free."""
        self.has_more, self._needs_pass, self._held = True, True, None
        self._cancels_sent.forget(token)
        for known in (self._seen, self._ask_at, self._searched_since, self._missing_since, self._lost):
            known.pop(token, None)


def _of_its_file(batch: SentBatch, now: float) -> BatchRefused:
    return BatchRefused(token=batch.token, until=now + REFUSED_PAUSE, unusable=True)
