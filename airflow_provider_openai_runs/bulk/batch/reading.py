# SPDX-License-Identifier: Apache-2.0
"""How much the files of a batch tell, as against what it has executed by its own count."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_openai_runs.bulk.batch.lines import Line
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.wire.batches import Batch


@dataclass(kw_only=True)
class Reading:
    """
    What the files of a batch have brought so far.

    :ivar waiting: rows that have no word yet.
    :ivar read: rows that have a line, also where an earlier attempt has taken it.
    :ivar answered: those of them that have a response.
    :ivar left: rows that were not executed for no fault of theirs, and lose no try.
    :ivar refused_by_account: the same, of an account that cannot pay.
    :ivar errors: lines without a response, by row; one counts where no file has a response, nor a late one.
    :ivar is_gone: whether the server does not have the file of responses that it names.
    :ivar unproven: a 404 that does not name the file, as a gateway writes while a server is away.
    """

    seen: Batch
    rows: frozenset[int]
    waiting: set[int]
    cut_off: str | None
    read: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    refused_by_account: set[int] = field(default_factory=set)
    is_gone: bool = False
    unproven: RequestFailure | None = None
    errors: dict[int, Line] = field(default_factory=dict)

    @property
    def is_short(self) -> bool:
        """Whether the batch has executed more than its files tell."""
        return self.is_gone or len(self.read) < self._executed

    @property
    def lacks_responses(self) -> bool:
        """Whether what is missing may be responses, which are paid for."""
        completed = self.seen.counts.get("completed", 0)
        does_not_count = not completed and not self.seen.counts.get("failed")
        if self.seen.status == "completed" and does_not_count:
            completed = len(self.rows)
        return self.is_gone or len(self.answered) < completed

    @property
    def _executed(self) -> int:
        """How many rows have been executed; all of them may have, where the server does not say."""
        counts, status = self.seen.counts, self.seen.status
        # One that has failed was not begun.
        if status == "completed" or (status != "failed" and not {"completed", "failed"} & counts.keys()):
            return len(self.rows)
        return counts.get("completed", 0) + counts.get("failed", 0)

    @property
    def missing(self) -> str:
        """What is said of a row that may have a response which is missing."""
        return (
            f"Batch {self.seen.id} is {self.seen.status} and has executed more than its files tell "
            f"({self.seen.files}), perhaps this item, which would be paid for: it is not sent again."
        )
