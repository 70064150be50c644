# SPDX-License-Identifier: Apache-2.0
"""How a run is ended: a poll first, a cancel only of what is active, and never beyond the wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.fate import CancelResult, Fate
from airflow_provider_openai_runs.runs.model import PollResult, RunRef
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire import flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import Sleep

REF = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="ai")
ACTIVE = RunStatus.IN_PROGRESS
#: A status, or why there was no answer.
Answer = RunStatus | RequestFailure


def failure(kind: FailureKind, status: int | None = None, **more: Any) -> RequestFailure:
    return RequestFailure(kind=kind, **{"text": "no luck", **more}, http_status=status)


GONE = failure(FailureKind.NOT_FOUND, 404, text="No run found with id 'run_1'.")
CONFLICT = failure(FailureKind.RETRY_LATER, 409)
OUTAGE = failure(FailureKind.OUTCOME_UNKNOWN, 500)
KEY = failure(FailureKind.ACCESS_DENIED, 401)


class Clock:
    """The time of a flow that is driven without waiting."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time


class Server:
    """Answers one flow, and notes what it was asked."""

    def __init__(self, polls: Callable[[int], Answer], cancels: Callable[[int], Answer]) -> None:
        self.polls, self.cancels = polls, cancels
        self.asked: list[str] = []
        self.clock = Clock()
        #: The status that the flow knows when it cancels.
        self.known_at_cancel: list[RunStatus | None] = []

    def end(self, *, wait: float = 300.0, seconds: float = 0.1, **more: Any) -> CancelResult:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flows, "time", self.clock)
            flow = flows.cancel(REF, wait=wait, **more)
            known: RunStatus | None = None
            step = next(flow)
            try:
                while True:
                    if isinstance(step, Sleep):
                        self.clock.now += step.seconds
                        step = next(flow)
                        continue
                    self.clock.now += seconds
                    is_poll = step.method == "GET"
                    if not is_poll:
                        self.known_at_cancel.append(known)
                    name, answers = ("poll", self.polls) if is_poll else ("cancel", self.cancels)
                    answer = answers(self.asked.count(name))
                    self.asked.append(name)
                    if isinstance(answer, RequestFailure):
                        step = flow.throw(ApiRequestFailed(answer))
                    else:
                        known = answer
                        step = flow.send(PollResult(status=answer, raw_status=str(answer)))
            except StopIteration as stop:
                found: CancelResult = stop.value
                return found


def always(answer: Answer) -> Callable[[int], Answer]:
    return lambda _: answer


def first(*answers: Answer) -> Callable[[int], Answer]:
    """Give these answers one after another, and the last one for ever."""
    return lambda number: answers[min(number, len(answers) - 1)]


@pytest.mark.parametrize("status", [status for status in RunStatus if status.is_terminal])
def test_what_has_ended_is_not_cancelled(status: RunStatus) -> None:
    server = Server(always(status), always(CONFLICT))
    found = server.end()

    assert server.asked == ["poll"]
    assert (found.has_ended, found.asked) == (True, False)


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_run_that_ends_just_before_its_cancel_is_found_so_by_the_next_poll(status: int) -> None:
    refusal = failure(FailureKind.RETRY_LATER if status == 409 else FailureKind.REJECTED, status)
    server = Server(first(ACTIVE, RunStatus.COMPLETED), always(refusal))
    found = server.end()

    assert server.asked == ["poll", "cancel", "poll"]
    assert (found.polled and found.polled.status, found.failure) == (RunStatus.COMPLETED, None)
    assert server.clock.now < 1002


def test_a_run_that_the_caller_knows_is_not_polled_once_more() -> None:
    server = Server(always(ACTIVE), always(RunStatus.CANCELLED))
    found = server.end(polled=PollResult(status=ACTIVE, raw_status="in_progress"))

    assert server.asked == ["cancel"]
    assert found.fate is Fate.CANCELLED


def test_a_run_is_not_asked_twice_to_end_once_the_server_has_agreed() -> None:
    server = Server(first(ACTIVE, ACTIVE, RunStatus.CANCELLING, RunStatus.CANCELLED), always(ACTIVE))

    assert server.end().fate is Fate.CANCELLED
    assert server.asked.count("cancel") == 1


def test_a_server_that_is_away_is_asked_again_until_the_time_is_over() -> None:
    server = Server(always(OUTAGE), always(OUTAGE))
    found = server.end(wait=60)

    assert (found.fate, found.failure) == (Fate.NOT_CANCELLED, OUTAGE)
    assert 1050 < server.clock.now <= 1062
    assert server.asked.count("cancel") > 5


def test_a_run_that_cannot_be_read_is_cancelled_all_the_same() -> None:
    server = Server(always(KEY), always(RunStatus.CANCELLED))
    assert server.end().fate is Fate.CANCELLED


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
def test_a_cancel_that_will_never_be_taken_is_not_sent_again(status: int) -> None:
    kind = {404: FailureKind.NOT_FOUND, 401: FailureKind.ACCESS_DENIED}.get(status, FailureKind.REJECTED)
    server = Server(always(ACTIVE), always(failure(kind, status)))
    found = server.end()

    assert server.asked.count("cancel") == 1
    assert (found.has_ended, found.failure) == (False, failure(kind, status))


def test_a_run_that_is_not_visible_yet_is_not_gone() -> None:
    server = Server(first(GONE, GONE, ACTIVE), first(GONE, RunStatus.CANCELLED))
    assert server.end(visible_by=1060).fate is Fate.CANCELLED

    hidden = Server(always(GONE), always(GONE))
    found = hidden.end(wait=3, visible_by=1060)
    assert (found.has_ended, found.fate) == (False, Fate.NOT_CANCELLED)

    gone = Server(always(GONE), always(GONE))
    assert gone.end(wait=300, visible_by=1060).fate is Fate.GONE


def test_a_404_of_a_gateway_is_no_end_and_no_reason_to_ask_for_one_no_longer() -> None:
    polled, asked = (failure(FailureKind.NOT_FOUND, 404, text="no healthy upstream") for _ in range(2))
    back = Server(first(polled, polled, ACTIVE), first(asked, RunStatus.CANCELLED))
    assert back.end(wait=300).fate is Fate.CANCELLED

    away = Server(always(polled), always(asked)).end(wait=300)
    assert (away.has_ended, away.fate) == (False, Fate.NOT_CANCELLED)


def test_a_run_that_its_server_does_not_know_is_asked_to_end_all_the_same() -> None:
    server = Server(first(GONE, RunStatus.CANCELLED), first(RunStatus.CANCELLING))
    assert server.end(wait=300).fate is Fate.CANCELLED


def test_a_server_is_given_the_time_that_it_asks_for() -> None:
    later = failure(FailureKind.RETRY_LATER, 429, retry_after=20.0)
    server = Server(always(ACTIVE), first(later, RunStatus.CANCELLED))
    assert server.end().fate is Fate.CANCELLED
    assert 1020 < server.clock.now < 1022


answers: st.SearchStrategy[Any] = st.sampled_from([*RunStatus, GONE, CONFLICT, OUTAGE, KEY])


@given(
    polls=st.lists(answers, min_size=1, max_size=8),
    cancels=st.lists(answers, min_size=1, max_size=4),
    wait=st.floats(min_value=0, max_value=600),
    seconds=st.floats(min_value=0, max_value=1),
    visible=st.booleans(),
)
def test_whatever_a_server_says_what_ended_is_not_cancelled_and_the_wait_is_kept(
    polls: list[Answer], cancels: list[Answer], wait: float, seconds: float, *, visible: bool
) -> None:
    server = Server(first(*polls), first(*cancels))
    found = server.end(wait=wait, seconds=seconds, visible_by=0.0 if visible else 1060.0)

    assert not [known for known in server.known_at_cancel if known is not None and known.is_terminal]
    # A poll and a cancel that are begun in time are waited for.
    assert server.clock.now <= 1000 + wait + 2 * seconds + 0.001
    assert found.has_ended or found.asked or found.polled is not None
    assert not (found.is_gone and not visible and server.clock.now < 1060)
