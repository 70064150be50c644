# SPDX-License-Identifier: Apache-2.0
"""
Batches that the server refuses whole: whether another create may do better, and of another file.

A gateway's 404 passes, and a file of an earlier attempt may be gone.
"""

from __future__ import annotations

from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.error_codes import CodeMeaning, meaning_of
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.wire.batches import Batch

#: So often a file's rows are refused before the server is taken at its word.
_MOST = 3
#: By these a code says of a file that it is gone.
_GONE = ("not_found", "missing", "expired", "deleted")


def may_pass(batch: SentBatch, items: Items) -> bool:
    """Whether this refusal is not believed yet; each of the rows counts, through all attempts."""
    return max(map(items.refusals, items.batches.rows_left(batch)), default=0) + 1 < _MOST


def is_sure(failure: RequestFailure) -> bool:
    """Whether a create that was refused would be refused again."""
    codes = (failure.code,) if failure.code and not failure.code.isdecimal() else ()
    return meaning_of(codes, failure.text) is CodeMeaning.PERMANENT


def is_of_its_file(seen: Batch) -> bool:
    """Whether a batch has failed, before anything of it was executed, for the want of its file."""
    return bool(seen.errors) and all(
        error.line is None and "file" in error.code and any(why in error.code for why in _GONE)
        for error in seen.errors
    )
