# SPDX-License-Identifier: Apache-2.0
"""What a create that brought no run means for its item, and for those after it. No I/O and no clock."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.runs.budgets import PERMANENT_FAILURE_BUDGET
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure

#: The key, the account, the address: every other create fails the same way, unless others are accepted.
_OF_THE_CONNECTION = frozenset({FailureKind.ACCESS_DENIED, FailureKind.NO_QUOTA, FailureKind.NOT_FOUND})
#: The server is busy, or in distress; it may pass.
_OF_THE_SERVER = frozenset({FailureKind.RETRY_LATER, FailureKind.NOT_ACCEPTED})
#: So many refusals of one item are its own fault, where the server accepts others.
_MOST_OF_THE_CONNECTION = 3
_MOST_OF_THE_SERVER = 20


class AfterFailure(StrEnum):
    """What follows a create that brought no run."""

    #: It was not accepted, and is sent again.
    AGAIN = "again"
    #: Nobody knows whether it was accepted.
    LOST = "lost"
    #: It was not accepted, and would not be.
    FAILED = "failed"
    #: It was not accepted, and neither was any other for minutes: somebody has to do something.
    DENIED = "denied"


class FailedCreates:
    """
    The creates of one attempt that brought no run.

    :param rate_limit: of the creates; it hears of each failure that may be the server's.
    :ivar denied: the last refusal for which the connection is to blame; None since a create was accepted.
    """

    def __init__(self, rate_limit: RateLimit) -> None:
        self.denied: RequestFailure | None = None
        self._rate_limit = rate_limit
        self._has_accepted = False
        self._denied_since: float | None = None
        self._refusals: Counter[int] = Counter()

    def on_accepted(self, row: int) -> None:
        """Take note of a create that brought a run."""
        self._has_accepted = True
        self.denied = self._denied_since = None
        del self._refusals[row]

    def after(self, row: int, failure: RequestFailure, *, now: float) -> AfterFailure:
        """Decide about a create that brought no run."""
        if failure.kind is FailureKind.OUTCOME_UNKNOWN:
            self._rate_limit.on_failed(now)
            return AfterFailure.LOST
        if failure.kind is FailureKind.NOT_SENT:
            self._rate_limit.on_refused(now, failure.retry_after)
            return AfterFailure.AGAIN
        if failure.kind in _OF_THE_SERVER:
            self._rate_limit.on_refused(now, failure.retry_after)
            return self._after_refusal(row, most=_MOST_OF_THE_SERVER)
        if failure.kind in _OF_THE_CONNECTION:
            self._rate_limit.on_failed(now)
            self.denied = failure
            self._denied_since = now if self._denied_since is None else self._denied_since
            after = self._after_refusal(row, most=_MOST_OF_THE_CONNECTION)
            is_denied = now - self._denied_since >= PERMANENT_FAILURE_BUDGET
            return AfterFailure.DENIED if after is AfterFailure.AGAIN and is_denied else after
        return AfterFailure.FAILED

    def _after_refusal(self, row: int, *, most: int) -> AfterFailure:
        self._refusals[row] += 1
        if self._has_accepted and self._refusals[row] >= most:
            del self._refusals[row]
            return AfterFailure.FAILED
        return AfterFailure.AGAIN
