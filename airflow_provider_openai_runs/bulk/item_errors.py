# SPDX-License-Identifier: Apache-2.0
"""Why items are no success, in the few lines that a log and a task's error have for thousands of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.judging import CANCELLED_BY_TASK
from airflow_provider_openai_runs.bulk.parts import Outcome
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.text import message_text

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Ids: the same error has another one for each item.
_ID = re.compile(r"\b(?=\w*\d)\w{8,}\b")
#: What stands behind it quotes an answer.
_QUOTES = re.compile(r"(?<=does not fit output_type).*", re.DOTALL)
_LONGEST = 300
#: With these an item is final, and its error is said as that of an item.
_ENDS_ITEM = frozenset({FailureKind.OUTCOME_UNKNOWN, FailureKind.REJECTED})


def shown(error: str) -> str:
    """Return the error of an item as it may stand in a log: it quotes no answer."""
    return message_text(_QUOTES.sub("", error), limit=_LONGEST).rstrip(".")


def most_frequent(errors: Iterable[str]) -> str | None:
    """
    Return the error that most items have, and how many; None if there is none.

    Ids in it make no difference. What this task has cancelled itself says nothing of why it did.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for error in errors:
        if CANCELLED_BY_TASK not in error:
            text = shown(error)
            key = _ID.sub("", text)
            counts[key] += 1
            examples.setdefault(key, text)
    for key, count in counts.most_common(1):
        return f"{examples[key]} ({count} such items)"
    return None


@dataclass(kw_only=True)
class FirstFailures:
    """Says of each way to fail how the first item failed, and of the others nothing."""

    log: Logger
    _said: set[str] = field(default_factory=set, init=False)

    def on_refused(self, row: int, failure: RequestFailure) -> None:
        """Take note of a create that brought no run."""
        if failure.kind not in _ENDS_ITEM and self._is_first(failure.kind):
            self.log.warning("Row %d: its create was not accepted, and may be sent again: %s", row, failure)

    def on_outcome(self, outcome: Outcome) -> None:
        """Take note of an item that is no success."""
        if self._is_first(outcome.state.name):
            is_lost = outcome.state is ItemState.LOST
            what = "is lost" if is_lost else "has failed"
            self.log.warning("Row %d %s, the first one: %s", outcome.row, what, shown(outcome.error or ""))

    def _is_first(self, way: str) -> bool:
        is_first = way not in self._said
        self._said.add(way)
        return is_first
