# SPDX-License-Identifier: Apache-2.0
"""How much the files of a batch tell, as against what it has executed by its own count."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    :ivar is_gone: whether the server does not have the file of responses that it names.
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

    @property
    def is_short(self) -> bool:
        """Whether the batch has executed more than its files tell."""
        return self.is_gone or len(self.read) < self._counted("completed", "failed")

    @property
    def lacks_responses(self) -> bool:
        """Whether what is missing may be responses, which are paid for."""
        return self.is_gone or len(self.answered) < self._counted("completed")

    def _counted(self, *names: str) -> int:
        counts = self.seen.counts
        if self.seen.status == "completed" and not any(counts.values()):
            return len(self.rows)  # of a server that does not count
        return sum(counts.get(name, 0) for name in names)

    @property
    def missing(self) -> str:
        """What is said of a row that may have a response which is missing."""
        return (
            f"Batch {self.seen.id} is {self.seen.status} and has executed more than its files tell "
            f"({self.seen.files}), perhaps this item, which would be paid for: it is not sent again."
        )
