# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.errors import LostCreateError, RunConnectionError, RunRequestError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, RunRef
from airflow_provider_openai_runs.runs.ownership import (
    Adopt,
    Create,
    FinishFrom,
    GiveUp,
    PollRun,
    Replace,
    SearchResult,
    SearchRun,
    Step,
    decide,
)
from airflow_provider_openai_runs.runs.record import Record, new_token, token_prefix
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus

NOW = 1_700_000_000.0
REF = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="ai")
INTENT = Record(generation=1, token="hash/abc", intent_at=NOW)
KNOWN = INTENT.with_run(REF, created_at=NOW + 1, deadline=NOW + 600)
FOUND = SearchResult(ref=REF, conclusive=True)
NOT_THERE = SearchResult(ref=None, conclusive=True)
UNDECIDABLE = SearchResult(ref=None, conclusive=False)
ENDED_BADLY = [RunStatus.CANCELLED, RunStatus.FAILED, RunStatus.INCOMPLETE, RunStatus.EXPIRED]
ACTIVE = [RunStatus.QUEUED, RunStatus.IN_PROGRESS, RunStatus.REQUIRES_ACTION, RunStatus.UNKNOWN]


def poll(status: RunStatus, *, needs_action: bool = False) -> PollResult:
    return PollResult(status=status, raw_status=status.value, needs_action=needs_action)


def failure(kind: FailureKind) -> RequestFailure:
    return RequestFailure(kind=kind, text="no luck")


def move(
    record: Record | None, observed: Any = None, *, later: float = 3600, generation: int = 1, **more: Any
) -> Step:
    return decide(record, generation=generation, observed=observed, now=NOW + later, **more)


def because(found: Step) -> str:
    assert isinstance(found, (Create, Replace))
    return found.because or ""


def test_a_first_attempt_creates() -> None:
    assert move(None) == Create()


def test_a_retry_looks_at_the_run_it_knows_before_anything_else() -> None:
    assert move(KNOWN) == PollRun(ref=REF)


@pytest.mark.parametrize("status", ACTIVE)
def test_a_retry_adopts_an_active_run(status: RunStatus) -> None:
    assert move(KNOWN, poll(status)) == Adopt(ref=REF)


def test_a_retry_finishes_from_a_completed_run_and_pays_nothing() -> None:
    assert move(KNOWN, poll(RunStatus.COMPLETED)) == FinishFrom(ref=REF)


def test_a_retry_goes_on_with_a_response_that_waits_for_the_answer_to_a_call() -> None:
    assert move(KNOWN, poll(RunStatus.COMPLETED, needs_action=True)) == Adopt(ref=REF)


@pytest.mark.parametrize("status", ENDED_BADLY)
def test_a_retry_replaces_a_run_that_ended_badly(status: RunStatus) -> None:
    found = move(KNOWN, poll(status))
    assert isinstance(found, Create)
    assert because(found) == f"thread run run_1 of thread thread_1 had ended as {status}"


def test_an_answer_that_was_refused_is_not_taken_again() -> None:
    refused = replace(KNOWN, refused=True)
    for observed in (poll(RunStatus.COMPLETED), failure(FailureKind.RETRY_LATER)):
        found = move(refused, observed)
        assert isinstance(found, Create)
        assert "refused" in because(found)


def test_a_run_that_is_being_cancelled_is_waited_out_and_replaced() -> None:
    found = move(KNOWN, poll(RunStatus.CANCELLING))
    assert isinstance(found, Replace)
    assert found.ref == REF
    assert not found.cancel


@pytest.mark.parametrize("observed", [poll(RunStatus.IN_PROGRESS), failure(FailureKind.OUTCOME_UNKNOWN)])
def test_a_run_that_we_ended_but_that_may_go_on_is_ended_again(observed: PollResult | RequestFailure) -> None:
    ended = replace(KNOWN, ended_by_us=True)
    found = move(ended, observed)
    assert isinstance(found, Replace)
    assert found.cancel


def test_a_run_that_we_ended_too_late_has_completed() -> None:
    ended = replace(KNOWN, ended_by_us=True)
    assert move(ended, poll(RunStatus.COMPLETED)) == FinishFrom(ref=REF)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in FailureKind if kind not in {FailureKind.NOT_FOUND, FailureKind.ACCESS_DENIED}],
)
def test_a_run_that_cannot_be_read_counts_as_alive(kind: FailureKind) -> None:
    assert move(KNOWN, failure(kind)) == Adopt(ref=REF)


def test_a_run_that_is_gone_is_replaced_but_not_within_its_first_minute() -> None:
    assert move(KNOWN, failure(FailureKind.NOT_FOUND), later=61) == Adopt(ref=REF)
    found = move(KNOWN, failure(FailureKind.NOT_FOUND), later=61.1)
    assert isinstance(found, Create)
    assert "gone" in because(found)


def test_a_refused_key_creates_nothing_and_names_what_may_bill() -> None:
    found = move(KNOWN, failure(FailureKind.ACCESS_DENIED))
    assert isinstance(found, GiveUp)
    assert isinstance(found.error, RunConnectionError)
    assert not found.error.retryable
    assert all(word in str(found.error) for word in ("'ai'", "run_1", "billing", "clear the task"))


def test_an_intent_without_a_run_is_searched_for_by_its_token() -> None:
    assert move(INTENT) == SearchRun(token="hash/abc", until=NOW + 660)
    assert move(INTENT, FOUND) == PollRun(ref=REF)
    assert isinstance(move(INTENT, NOT_THERE), Create)


def test_a_lost_create_that_nobody_can_decide_is_not_sent_again() -> None:
    found = move(INTENT, UNDECIDABLE)
    assert isinstance(found, GiveUp)
    assert isinstance(found.error, LostCreateError)
    assert not found.error.retryable
    assert all(word in str(found.error) for word in ("hash/abc", "billing", "Clear the task"))


def test_a_lost_create_is_sent_again_only_on_the_users_word() -> None:
    found = move(INTENT, UNDECIDABLE, on_lost_create="resubmit")
    assert isinstance(found, Create)
    assert "resubmit" in because(found)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_search_in_trouble_goes_on_until_its_time_is_over(generation: int) -> None:
    again = move(INTENT, failure(FailureKind.RETRY_LATER), later=59, generation=generation)
    assert again == SearchRun(token="hash/abc", until=NOW + 59 + 60)
    over = move(INTENT, failure(FailureKind.RETRY_LATER), later=60, generation=generation)
    assert isinstance(over, GiveUp if generation == 1 else Create)


def test_a_search_that_meets_an_outage_can_be_tried_again() -> None:
    over = move(INTENT, failure(FailureKind.RETRY_LATER), later=60)
    assert isinstance(over, GiveUp)
    assert over.error.retryable
    assert "A retry searches again" in str(over.error)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_search_with_a_refused_key_creates_nothing(generation: int) -> None:
    found = move(INTENT, failure(FailureKind.ACCESS_DENIED), later=1, generation=generation)
    assert isinstance(found, GiveUp)
    assert isinstance(found.error, RunConnectionError)
    assert "hash/abc" in str(found.error)


def test_a_clear_ends_the_old_run_before_it_creates() -> None:
    found = move(KNOWN, generation=2)
    assert isinstance(found, Replace)
    assert found.ref == REF
    assert found.cancel
    assert "cleared" in because(found)


def test_a_clear_searches_for_a_run_whose_create_was_lost() -> None:
    assert move(INTENT, generation=2) == SearchRun(token="hash/abc", until=NOW + 660)
    found = move(INTENT, FOUND, generation=2)
    assert isinstance(found, Replace)
    assert found.ref == REF
    assert move(INTENT, NOT_THERE, generation=2) == Create()


def test_a_clear_goes_on_with_a_warning_where_nobody_can_say() -> None:
    found = move(INTENT, UNDECIDABLE, generation=2)
    assert isinstance(found, Create)
    assert "cannot be looked up" in because(found)


def test_fire_and_forget_returns_its_run_without_a_look() -> None:
    assert move(KNOWN, waits=False) == FinishFrom(ref=REF)
    assert move(INTENT, waits=False) == SearchRun(token="hash/abc", until=NOW + 660)
    assert isinstance(move(KNOWN, waits=False, generation=2), Replace)


words = st.text(min_size=1)
times = st.floats(min_value=0, max_value=1e10)
refs = st.builds(RunRef, kind=st.sampled_from(RunKind), id=words, thread_id=words, conn_id=words)
records = st.builds(
    Record,
    generation=st.integers(),
    token=words,
    intent_at=times,
    thread_id=st.none() | words,
    fingerprint=st.dictionaries(words, words),
    ref=st.none() | refs,
    created_at=st.none() | times,
    deadline=st.none() | times,
    ended_by_us=st.booleans(),
    refused=st.booleans(),
)


@given(record=records)
def test_a_record_survives_its_storage(record: Record) -> None:
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("value", [None, "x", [], {}, {"token": "t"}, {"cycle": 1}])
def test_what_says_nothing_is_no_record(value: object) -> None:
    assert Record.from_json(value) is None


def test_a_record_of_another_version_is_read_as_far_as_it_goes() -> None:
    old = {"cycle": "1", "token": "t", "colour": "red", "fingerprint": None, "deadline": "soon"}
    assert Record.from_json(old) == Record(generation=1, token="t", intent_at=0.0)


def test_a_recorded_run_of_an_unknown_kind_is_not_forgotten() -> None:
    with pytest.raises(RunRequestError, match="agent_turn"):
        Record.from_json({"cycle": 1, "token": "t", "ref": {"kind": "agent_turn", "id": "x"}})


def test_a_record_names_the_arguments_that_changed() -> None:
    record = Record(generation=1, token="t", intent_at=NOW, fingerprint={"a": "1", "b": "2", "c": "3"})
    assert record.changed_arguments({"a": "1", "b": "9", "d": "4"}) == ["b", "c", "d"]
    assert record.changed_arguments(record.fingerprint) == []


identities = st.tuples(words, words, words, st.integers(), st.integers())


@given(one=identities, two=identities, chance=words)
def test_a_token_begins_with_what_only_its_task_instance_can_compute(
    one: tuple[object, ...], two: tuple[object, ...], chance: str
) -> None:
    assert new_token(one, random_part=chance) == token_prefix(one) + chance
    assert (token_prefix(one) == token_prefix(two)) == (one == two)
    assert len(token_prefix(one)) == 25
