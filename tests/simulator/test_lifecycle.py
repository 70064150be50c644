# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.simulator.lifecycle import TERMINAL, Status, Timeline

_PHASES = st.lists(
    st.tuples(st.sampled_from(["queued", "in_progress", "paused"]), st.floats(0, 100)),
    max_size=4,
)
_MOMENT = st.floats(0, 500)


def plan() -> Timeline:
    return Timeline.plan(10, [("queued", 2), ("in_progress", 5)], "completed")


def test_a_status_lasts_from_its_own_moment_to_the_next() -> None:
    statuses = [plan().status(now) for now in (10, 11.9, 12, 16.9, 17, 1000)]
    assert statuses == ["queued", "queued", "in_progress", "in_progress", "completed", "completed"]


def test_the_clock_of_a_reader_may_lag_behind_the_creation() -> None:
    assert plan().status(9) == "queued"


def test_a_status_that_was_entered_twice_counts_from_the_last_time() -> None:
    again = plan().followed_by(13, Timeline.plan(13, [("queued", 1), ("in_progress", 1)], "completed"))
    assert again.last("in_progress", 13) == 12
    assert again.last("in_progress", 14) == 14
    assert again.last("failed", 14) is None


def test_a_run_that_ends_in_time_does_not_expire() -> None:
    assert plan().expiring(17.1) == plan()


def test_a_run_that_waits_for_its_client_expires() -> None:
    waiting = Timeline.plan(0, [("in_progress", 1)], Status.REQUIRES_ACTION).expiring(600)
    assert waiting.status(599) == "requires_action"
    assert waiting.status(600) == "expired"


@given(phases=_PHASES, event=_MOMENT, moments=st.lists(_MOMENT, min_size=2))
def test_an_event_never_changes_the_past(
    phases: list[tuple[str, float]],
    event: float,
    moments: list[float],
) -> None:
    before = Timeline.plan(0, phases, "completed")
    after = before.followed_by(event, Timeline.plan(event, [("cancelling", 1)], "cancelled"))
    for moment in moments:
        if moment < event:
            assert after.status(moment) == before.status(moment)


@given(phases=_PHASES, expiry=_MOMENT, moments=st.lists(_MOMENT, min_size=2))
def test_an_ended_run_stays_as_it_ended(
    phases: list[tuple[str, float]],
    expiry: float,
    moments: list[float],
) -> None:
    timeline = Timeline.plan(0, phases, "failed").expiring(expiry)
    ended = [timeline.status(moment) for moment in sorted(moments) if timeline.status(moment) in TERMINAL]
    assert len(set(ended)) <= 1
    assert timeline.is_terminal(max(expiry, timeline.ends_at))
