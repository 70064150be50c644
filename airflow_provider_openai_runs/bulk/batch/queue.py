# SPDX-License-Identifier: Apache-2.0
"""The account's queue of batches: whether one that it has refused is too large, or other batches fill it."""

from __future__ import annotations

import re

from airflow_provider_openai_runs.bulk.events import BatchRefused
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.budgets import FULL_QUEUE_PAUSE, REFUSED_PAUSE

#: Of English text in JSON.
_BYTES_PER_TOKEN = 4
#: After so many refusals a batch may be too large all the same: an image takes more tokens than its address.
_MOST_REFUSALS = 3
_LIMIT = re.compile(r"Limit: ([\d,]+)")


def refused_by_queue(batch: SentBatch, items: Items, text: str, *, now: float) -> BatchRefused:
    """
    Refuse a batch for now, and say how large the next ones may be.

    Beside others of its task it has its turn when they have ended. One that is alone is halved if it is
    larger than the whole queue, or than another one that went well, and else after a while.

    :param text: what the server says, which may name the limit.
    """
    if len(items.batches.active) > 1:
        return BatchRefused(token=batch.token, until=now + FULL_QUEUE_PAUSE)
    count, limit = batch.count, _LIMIT.search(text)
    is_larger = limit is not None and batch.size > _BYTES_PER_TOKEN * int(limit[1].replace(",", ""))
    is_too_large = is_larger or 0 < items.good_rows < count or items.queue_refusals + 1 >= _MOST_REFUSALS
    if is_too_large and count > 1:
        return BatchRefused(token=batch.token, most_rows=count // 2, until=now + REFUSED_PAUSE)
    return BatchRefused(token=batch.token, most_rows=count, until=now + FULL_QUEUE_PAUSE)
