# SPDX-License-Identifier: Apache-2.0
"""When a batch whose create has no answer was certainly not created."""

from __future__ import annotations

from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.budgets import BATCH_CREATE_SECONDS, CLOCKS_DIFFER, SEARCH_SECONDS


def one_search_tells_at(batch: SentBatch) -> float:
    """
    Return from when on a list that does not show a batch proves that it was not created, in Unix seconds.

    A create may be under way for as long as its answer is waited for, also after its worker is gone; and its
    intent has the time of another host.
    """
    return batch.at + BATCH_CREATE_SECONDS + CLOCKS_DIFFER


def searched_until(batch: SentBatch, *, since: float) -> float:
    """
    Return until when a batch has to be searched for before it counts as not created, in Unix seconds.

    :param since: when the search began, by the same clock.
    """
    if since >= one_search_tells_at(batch):
        return since
    return since + BATCH_CREATE_SECONDS + SEARCH_SECONDS
