# SPDX-License-Identifier: Apache-2.0
"""Whatever a server does with creates and cancels, a bulk task ends, and what it asks for is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.status import RunStatus
from tests.support.bulk_task import ManyItems, refused

ROWS = 60
WINDOW = 900.0
#: Creates of one row that bring no run, however often it is refused.
MOST_REFUSALS = 20

_KINDS = [
    FailureKind.OUTCOME_UNKNOWN,
    FailureKind.NOT_SENT,
    FailureKind.RETRY_LATER,
    FailureKind.NOT_ACCEPTED,
    FailureKind.ACCESS_DENIED,
    FailureKind.NOT_FOUND,
    FailureKind.REJECTED,
]


@given(
    poison=st.dictionaries(st.integers(0, ROWS - 1), st.sampled_from(_KINDS[2:]), max_size=4),
    outages=st.lists(
        st.tuples(st.sampled_from(_KINDS), st.floats(0.0, 60.0), st.floats(1.0, 120.0)), max_size=3
    ),
    ends=st.booleans(),
    cancel=st.none() | st.sampled_from(_KINDS),
    max_unrecorded=st.integers(1, 20),
)
def test_a_task_ends_soon_after_its_window_and_creates_of_a_row_are_bounded(
    poison: dict[int, FailureKind],
    outages: list[tuple[FailureKind, float, float]],
    ends: bool,
    cancel: FailureKind | None,
    max_unrecorded: int,
) -> None:
    def answer(row: int, seconds: float) -> RequestFailure | None:
        kinds = [kind for kind, begins, lasts in outages if begins <= seconds < begins + lasts]
        kind = poison.get(row, kinds[0] if kinds else None)
        return None if kind is None else refused(kind)

    task = ManyItems(
        ROWS,
        answer=answer,
        cancel=None if cancel is None else refused(cancel),
        status=RunStatus.COMPLETED if ends else RunStatus.IN_PROGRESS,
        limits=Limits(max_unrecorded=max_unrecorded),
        window=WINDOW,
    )
    task.work()
    assert task.attempt.is_over
    assert task.seconds <= WINDOW + DEFAULT_TIMEOUTS["delete"] + 10
    unsent = sum(kind is FailureKind.NOT_SENT for kind, _, _ in outages)
    if task.count(ItemState.SUCCEEDED) and not unsent:
        assert max(task.creates.values()) <= MOST_REFUSALS + 1
    # Each outage takes what is under way, and then one create a pause.
    assert task.count(ItemState.LOST) <= sum(
        max_unrecorded + 12 for kind, _, _ in outages if kind is FailureKind.OUTCOME_UNKNOWN
    )
