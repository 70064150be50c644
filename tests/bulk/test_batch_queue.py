# SPDX-License-Identifier: Apache-2.0
"""A full queue of batches: what is too large for it is halved, what others keep out of it waits as it is."""

from __future__ import annotations

from itertools import count

import pytest

from airflow_provider_openai_runs.bulk.batch.queue import refused_by_queue
from airflow_provider_openai_runs.bulk.events import BatchCreated, BatchIntended, PartWritten
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.budgets import FULL_QUEUE_PAUSE, REFUSED_PAUSE

NOW = 1_800_000_000.0
ROWS = 4_000
ROW_BYTES = 400
_numbers = count()


def _sent(items: Items, rows: int, first: int = 0) -> SentBatch:
    batch = SentBatch(
        token=f"t/{next(_numbers)}",
        file_id="file-1",
        rows=((first, first + rows - 1),),
        at=NOW,
        size=rows * ROW_BYTES,
    )
    items.apply(BatchIntended(batch=batch))
    items.apply(BatchCreated(token=batch.token, id=f"batch_{batch.token}"))
    return batch


def _refusals(items: Items, text: str, times: int, first: int = 0) -> list[tuple[int, float]]:
    """Let the queue refuse one batch after another; return their rows, and the pauses after them."""
    found = []
    for _ in range(times):
        batch = _sent(items, min(ROWS, items.most_rows or ROWS), first)
        refused = refused_by_queue(batch, items, text, now=NOW)
        items.apply(refused)
        found.append((batch.count, (refused.until or 0) - NOW))
    return found


def test_a_batch_that_is_larger_than_the_queue_is_halved_at_once() -> None:
    refused = _refusals(Items(), "Enqueued token limit reached. Limit: 110,000 enqueued tokens.", 3)
    assert refused == [(4_000, REFUSED_PAUSE), (2_000, REFUSED_PAUSE), (1_000, FULL_QUEUE_PAUSE)]


@pytest.mark.parametrize("text", ["Limit: 500,000 enqueued tokens.", "The queue is full."])
def test_a_queue_that_is_full_with_other_batches_is_waited_for(text: str) -> None:
    refused = _refusals(Items(), text, 5)
    assert [rows for rows, _ in refused] == [4_000, 4_000, 4_000, 2_000, 2_000]


def test_batches_grow_again_after_one_that_went_well_and_come_back_to_its_size_at_once() -> None:
    items = Items()
    _refusals(items, "Limit: 110,000 enqueued tokens.", 2)
    good = _sent(items, 1_000)
    items.apply(PartWritten(name="p", succeeded=tuple(good)))
    assert items.most_rows == 2_000
    assert _refusals(items, "The queue is full.", 2, first=1_000) == [
        (2_000, REFUSED_PAUSE),
        (1_000, FULL_QUEUE_PAUSE),
    ]
