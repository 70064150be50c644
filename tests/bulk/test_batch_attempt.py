# SPDX-License-Identifier: Apache-2.0
"""What an attempt by batches makes of what the attempts before it have seen, and of a server in distress."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_openai_runs.bulk.batch.attempt import BatchAttempt
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
from airflow_provider_openai_runs.bulk.batch.reading import Reading
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.events import BatchCreated, BatchIntended, BatchRefused, PartWritten
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.budgets import (
    BATCH_CANCEL_WAIT,
    BATCH_MISSING_SECONDS,
    FULL_QUEUE_PAUSE,
    REFUSED_PAUSE,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.wire.batches import Batch

NOW = 1_800_000_000.0
DEADLINE = NOW + 26 * 3600
MISSING = RequestFailure(kind=FailureKind.NOT_FOUND, text="No such batch.")
Answer = Callable[[SentBatch], Batch | RequestFailure]


def _batch(batch_id: str, status: str) -> Batch:
    return Batch(id=batch_id, status=status, counts={})


def _items(batches: int = 1) -> Items:
    """Return what the journal says of batches that were created, of ten rows each."""
    items = Items()
    for number in range(batches):
        token, first = f"t/{number}", 10 * number
        batch = SentBatch(token=token, file_id=f"file-{number}", rows=((first, first + 9),), at=NOW)
        items.apply(BatchIntended(batch=batch))
        items.apply(BatchCreated(token=token, id=f"batch_{number}"))
    return items


def _attempt(items: Items, now: float = NOW, max_failed: float | None = None) -> BatchAttempt:
    return BatchAttempt(
        items,
        token_of=lambda number: f"t/{number}",
        deadline=DEADLINE,
        now=now,
        max_failed=max_failed,
        poll_interval=60.0,
    )


def _drive(
    attempt: BatchAttempt,
    answer: Answer,
    *,
    now: float = NOW,
    cancel: Answer | None = None,
    files: tuple[UploadedFile, ...] = (),
    rows: int = 20,
    until: type[Command] | tuple[type[Command], ...] = (Done, Send, GiveUp),
) -> tuple[Command, list[Command], float]:
    """Do what an attempt asks for, until it defers or comes to an end; return the last, all, the time."""
    done: list[Command] = []
    left = [*files]
    while True:
        command = attempt.next(now)
        done.append(command)
        if isinstance(command, until) or (isinstance(command, Wait) and command.may_defer):
            return command, done, now
        match command:
            case Wait():
                now = max(command.until, now + 1)
            case Poll():
                attempt.on_polled(command.batch, answer(command.batch), now=now)
            case Cancel():
                attempt.on_cancelled(command.batch, (cancel or answer)(command.batch), now=now)
            case Collect():
                failed = tuple(attempt.items.batches.rows_left(command.batch))
                attempt.items.apply(PartWritten(name="p", failed=failed))
                attempt.on_collected(command.batch)
            case Build():
                attempt.on_built(left.pop(0) if left else None, rows_read=rows)
            case Commit():
                attempt.items.apply(command.event)
                attempt.on_committed(command.event, written_at=now)
        assert len(done) < 5_000, "it has no end"


def test_more_failures_than_allowed_are_remembered_by_the_next_attempt() -> None:
    items = _items(2)
    items.apply(PartWritten(name="p", failed=tuple(range(10))))
    more = UploadedFile(id="file-9", rows=((20, 29),))
    attempt = _attempt(items, max_failed=5)
    _, done, _ = _drive(attempt, lambda _: _batch("batch_1", "cancelling"), files=(more,))
    assert attempt.stopped is StopReason.TOO_MANY_FAILED
    assert not any(isinstance(command, Build | Send) for command in done)


def test_a_share_of_failures_ends_a_task_whose_attempt_collects_before_it_reads() -> None:
    attempt = _attempt(_items(1), max_failed=0.1)
    last, _, _ = _drive(attempt, lambda _: _batch("batch_0", "completed"))
    assert isinstance(last, Done)
    assert attempt.stopped is StopReason.TOO_MANY_FAILED


def test_a_batch_is_not_left_to_a_trigger_before_it_has_taken_its_cancel() -> None:
    items = _items(2)
    items.apply(PartWritten(name="p", failed=tuple(range(10))))
    attempt = _attempt(items, max_failed=5)
    errors = [RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text="HTTP 500")] * 3
    last, done, _ = _drive(
        attempt,
        lambda _: _batch("batch_1", "in_progress"),
        cancel=lambda _: errors.pop() if errors else _batch("batch_1", "cancelling"),
    )
    assert isinstance(last, Wait)
    assert sum(isinstance(command, Cancel) for command in done) == 4


@pytest.mark.parametrize("late", [0.0, 100.0, 40_000.0])
@pytest.mark.parametrize("status", ["in_progress", "cancelling"])
def test_a_batch_that_does_not_end_is_left_a_while_after_the_window(late: float, status: str) -> None:
    began = DEADLINE + late
    attempt = _attempt(_items(), began)
    no_cancel = RequestFailure(kind=FailureKind.NOT_FOUND, text="There is no such path.")
    last, _, now = _drive(attempt, lambda _: _batch("batch_0", status), cancel=lambda _: no_cancel, now=began)
    assert isinstance(last, Done)
    assert now <= began + BATCH_CANCEL_WAIT + 60


def test_a_batch_that_is_cancelling_is_not_asked_again() -> None:
    attempt = _attempt(_items(), DEADLINE)
    _, done, _ = _drive(attempt, lambda _: _batch("batch_0", "cancelling"), now=DEADLINE)
    assert not any(isinstance(command, Cancel) for command in done)


def test_a_batch_that_is_not_known_for_a_moment_is_waited_for() -> None:
    answers: list[Batch | RequestFailure] = [MISSING, MISSING, _batch("batch_0", "in_progress")]
    last, _, now = _drive(_attempt(_items(), NOW + 9_000), lambda _: answers.pop(0), now=NOW + 9_000)
    assert isinstance(last, Wait)
    assert now < NOW + 9_000 + BATCH_MISSING_SECONDS
    assert not answers


def test_a_batch_that_the_server_does_not_know_for_minutes_is_lost_and_named() -> None:
    last, _, now = _drive(_attempt(_items(), NOW + 9_000), lambda _: MISSING, now=NOW + 9_000)
    assert isinstance(last, GiveUp)
    assert last.state is ItemState.LOST
    assert "batch_0 (input file-0)" in last.error
    assert now >= NOW + 9_000 + BATCH_MISSING_SECONDS


def test_a_batch_that_the_queue_has_refused_is_created_again_as_soon_as_another_one_has_ended() -> None:
    items = _items(2)
    items.apply(BatchRefused(token="t/1", until=NOW + FULL_QUEUE_PAUSE))
    waits, _, _ = _drive(_attempt(items), lambda _: _batch("batch_0", "in_progress"))
    assert isinstance(waits, Wait)
    assert waits.create_at == NOW + FULL_QUEUE_PAUSE
    more = UploadedFile(id="file-9", rows=((10, 19),))
    sends, _, now = _drive(
        _attempt(items, NOW + 60), lambda _: _batch("batch_0", "completed"), now=NOW + 60, files=(more,)
    )
    assert isinstance(sends, Send)
    assert now == NOW + 60


def test_a_worker_is_kept_for_a_pause_that_is_not_worth_a_deferral() -> None:
    items = _items(2)
    items.apply(BatchRefused(token="t/1", until=NOW + REFUSED_PAUSE))
    last, _, now = _drive(_attempt(items), lambda _: _batch("batch_0", "in_progress"), until=Build)
    assert isinstance(last, Build)
    assert now >= NOW + REFUSED_PAUSE


@pytest.mark.parametrize(
    ("status", "counts", "is_short"),
    [
        ("failed", {}, False),
        ("expired", {}, True),
        ("expired", {"completed": 0, "failed": 0}, False),
        ("cancelled", {"total": 10}, True),
        ("completed", {"completed": 0, "failed": 0}, True),
        ("completed", {"completed": 4, "failed": 6}, True),
    ],
)
def test_files_without_a_line_are_short_of_what_a_batch_may_have_executed(
    status: str, counts: dict[str, int], *, is_short: bool
) -> None:
    seen = Batch(id="batch_0", status=status, counts=counts)
    rows = frozenset(range(10))
    assert Reading(seen=seen, rows=rows, waiting=set(rows), cut_off=None).is_short == is_short


def test_a_list_that_fails_now_and_then_is_not_one_that_there_is_not() -> None:
    batch = SentBatch(token="t/0", file_id="file-0", rows=((0, 9),), at=NOW)
    items = Items()
    items.apply(BatchIntended(batch=batch))
    attempt = _attempt(items)
    for minute in (0, 3, 9):
        attempt.on_found(batch, MISSING, now=NOW + 60 * minute)
        attempt.on_found(batch, None, now=NOW + 60 * minute + 1)
    assert isinstance(attempt.next(NOW + 600), Find)
    attempt.on_found(batch, MISSING, now=NOW + 600)
    attempt.on_found(batch, MISSING, now=NOW + 601 + BATCH_MISSING_SECONDS)
    assert isinstance(attempt.next(NOW + 1200), GiveUp)
