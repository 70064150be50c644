# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.acquisition import (
    Create,
    Decision,
    Ended,
    EndRun,
    GiveUp,
    Identified,
    IdentifyRun,
    NotCreated,
    Own,
    OwnershipPolicy,
    Polled,
    PollRun,
    Searched,
    SearchResult,
    SearchRun,
    Situation,
    Step,
    WaitForThread,
)
from airflow_provider_openai_runs.runs.errors import (
    LostCreateError,
    RunCallError,
    RunConnectionError,
    RunRequestError,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.fate import CancelResult
from airflow_provider_openai_runs.runs.model import PollResult, RunRef
from airflow_provider_openai_runs.runs.ownership import decide
from airflow_provider_openai_runs.runs.record import Record, new_token, token_prefix
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.text import is_id
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.wire import wire_of

NOW = 1_700_000_000.0
REF = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="ai")
INTENT = Record(generation=1, token="hash/abc", intent_at=NOW)
KNOWN = INTENT.with_run(TrackedRun(ref=REF, created_at=NOW + 1, deadline=NOW + 600))
FOUND = SearchResult(ref=REF, conclusive=True)
NOT_THERE = SearchResult(ref=None, conclusive=True)
UNDECIDABLE = SearchResult(ref=None, conclusive=False)
ENDED_BADLY = [RunStatus.CANCELLED, RunStatus.FAILED, RunStatus.INCOMPLETE, RunStatus.EXPIRED]
ACTIVE = [RunStatus.QUEUED, RunStatus.IN_PROGRESS, RunStatus.REQUIRES_ACTION, RunStatus.UNKNOWN]


def poll(status: RunStatus, *, needs_action: bool = False) -> PollResult:
    return PollResult(status=status, raw_status=status.value, needs_action=needs_action)


def failure(kind: FailureKind) -> RequestFailure:
    return RequestFailure(kind=kind, text="no luck")


POLICY = OwnershipPolicy(generation=1, window=600, create_budget=600, cancel_budget=300, token_prefix="hash/")


def observed_as(record: Record | None, seen: Any) -> Any:
    """Say what brought it: a search where there was no run to poll."""
    if isinstance(seen, SearchResult) or (isinstance(seen, RequestFailure) and record and record.run is None):
        return Searched(result=seen)
    return Polled(ref=REF, result=seen) if isinstance(seen, PollResult | RequestFailure) else seen


def move(
    record: Record | None, observed: Any = None, *, later: float = 3600, generation: int = 1, **policy: Any
) -> Step:
    situation = Situation(record=record, observed=observed_as(record, observed), gives_up_at=NOW + 5000)
    return decide(situation, replace(POLICY, generation=generation, **policy), now=NOW + later).step


def adopts(step: Step, ref: RunRef = REF) -> bool:
    return isinstance(step, Own) and not step.finished and step.run.ref == ref


def polls(step: Step, ref: RunRef = REF) -> bool:
    return isinstance(step, PollRun) and step.ref == ref


def finishes_from(step: Step, ref: RunRef = REF) -> bool:
    return isinstance(step, Own) and step.finished and step.run.ref == ref


def because(found: Step) -> str:
    assert isinstance(found, (Create, EndRun))
    return found.because or ""


def test_a_first_attempt_creates() -> None:
    assert move(None) == Create()


def test_a_retry_polls_the_run_it_knows_before_anything_else() -> None:
    assert polls(move(KNOWN))


@pytest.mark.parametrize("status", ACTIVE)
def test_a_retry_adopts_an_active_run(status: RunStatus) -> None:
    assert adopts(move(KNOWN, poll(status)))


def test_a_retry_finishes_from_a_completed_run_and_pays_nothing() -> None:
    assert finishes_from(move(KNOWN, poll(RunStatus.COMPLETED)))


def test_a_retry_goes_on_with_a_response_that_waits_for_the_answer_to_a_call() -> None:
    assert adopts(move(KNOWN, poll(RunStatus.COMPLETED, needs_action=True)))


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
    assert isinstance(found, EndRun)
    assert found.ref == REF


@pytest.mark.parametrize("observed", [poll(RunStatus.IN_PROGRESS), failure(FailureKind.OUTCOME_UNKNOWN)])
def test_a_run_that_we_ended_but_that_may_go_on_is_ended_again(observed: PollResult | RequestFailure) -> None:
    ended = replace(KNOWN, ended_by_us=True)
    found = move(ended, observed)
    assert isinstance(found, EndRun)


def test_a_run_that_we_ended_too_late_has_completed() -> None:
    ended = replace(KNOWN, ended_by_us=True)
    assert finishes_from(move(ended, poll(RunStatus.COMPLETED)))


@pytest.mark.parametrize(
    "kind",
    [kind for kind in FailureKind if kind not in {FailureKind.NOT_FOUND, FailureKind.ACCESS_DENIED}],
)
def test_a_run_that_cannot_be_read_counts_as_alive(kind: FailureKind) -> None:
    assert adopts(move(KNOWN, failure(kind)))


def test_a_run_counts_as_gone_after_a_minute_by_the_clock_of_who_asks_for_it() -> None:
    for later in (-900.0, 5.0, 900.0):  # the clock of the worker that wrote the record may differ
        assert move(KNOWN, later=later) == PollRun(ref=REF, visible_by=NOW + later + 60)
        assert move(INTENT, later=later) == SearchRun(intent=INTENT, until=NOW + later + 60)
        cleared = move(KNOWN, generation=2, later=later)
        assert isinstance(cleared, EndRun)
        assert cleared.visible_by == NOW + later + 60
    assert move(KNOWN, later=86400.0) == PollRun(ref=REF, visible_by=NOW + 86400)
    gone = RequestFailure(kind=FailureKind.NOT_FOUND, text="No run found with id 'run_1'.")
    found = move(KNOWN, gone)
    assert isinstance(found, Create)
    assert "gone" in because(found)


def test_a_404_that_names_no_run_is_no_reason_to_pay_for_another_one() -> None:
    nobody = RequestFailure(kind=FailureKind.NOT_FOUND, text="no Route matched with those values")
    assert adopts(move(KNOWN, nobody), REF)


def test_a_refused_key_creates_nothing_and_names_what_may_bill() -> None:
    found = move(KNOWN, failure(FailureKind.ACCESS_DENIED))
    assert isinstance(found, GiveUp)
    assert isinstance(found.error, RunConnectionError)
    assert not found.error.retryable
    assert all(word in str(found.error) for word in ("'ai'", "run_1", "billing", "clear the task"))


def test_an_intent_without_a_run_is_searched_for_by_its_token() -> None:
    assert move(INTENT) == SearchRun(intent=INTENT, until=NOW + 3600)
    assert polls(move(INTENT, FOUND))
    assert isinstance(move(INTENT, NOT_THERE), Create)


def test_a_lost_create_that_nobody_can_decide_is_not_sent_again() -> None:
    found = move(INTENT, UNDECIDABLE)
    assert isinstance(found, GiveUp)
    assert isinstance(found.error, LostCreateError)
    assert not found.error.retryable
    assert all(word in str(found.error) for word in ("hash/abc", "billing", "Clear the task"))


def test_a_lost_create_is_sent_again_only_if_the_user_says_so() -> None:
    found = move(INTENT, UNDECIDABLE, resubmits=1)
    assert isinstance(found, Create)
    assert "resubmit" in because(found)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_search_that_fails_goes_on_until_its_time_is_over(generation: int) -> None:
    again = move(INTENT, failure(FailureKind.RETRY_LATER), later=59, generation=generation)
    assert again == SearchRun(intent=INTENT, until=NOW + 59 + 60)
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
    assert isinstance(found, EndRun)
    assert found.ref == REF
    assert "cleared" in because(found)


def test_a_clear_searches_for_a_run_whose_create_was_lost() -> None:
    assert move(INTENT, generation=2) == SearchRun(intent=INTENT, until=NOW + 3600)
    found = move(INTENT, FOUND, generation=2)
    assert isinstance(found, EndRun)
    assert found.ref == REF
    assert move(INTENT, NOT_THERE, generation=2) == Create()


def test_a_clear_goes_on_with_a_warning_where_nobody_can_say() -> None:
    found = move(INTENT, UNDECIDABLE, generation=2)
    assert isinstance(found, Create)
    assert "cannot be found out" in because(found)


def test_fire_and_forget_returns_its_run_without_a_poll() -> None:
    assert finishes_from(move(KNOWN, window=None))
    assert move(INTENT, window=None) == SearchRun(intent=INTENT, until=NOW + 3600)
    assert isinstance(move(KNOWN, window=None, generation=2), EndRun)


words = st.text(min_size=1)
ids = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1).filter(is_id)
times = st.floats(min_value=0, max_value=1e10)
refs = st.builds(
    RunRef, kind=st.sampled_from([str(kind) for kind in RunKind]), id=ids, thread_id=ids, conn_id=words
)
rounds = st.builds(
    Rounds, answered=st.integers(0, 9), errors=st.lists(words).map(tuple), earlier=st.lists(refs).map(tuple)
)
runs = st.builds(
    TrackedRun, ref=refs, created_at=st.none() | times, deadline=st.none() | times, rounds=rounds
)
intents = st.builds(
    Record,
    generation=st.integers(),
    token=words,
    intent_at=times,
    thread_id=st.none() | words,
    fingerprint=st.dictionaries(words, words),
    deadline=st.none() | times,
    rounds=rounds,
    attempt=st.none() | st.integers(),
    lost=st.lists(words).map(tuple),
    failure=st.none() | words,
    ended=st.booleans(),
    ended_by_us=st.booleans(),
    refused=st.booleans(),
    unreadable=st.none() | words,
)
records = intents | st.builds(Record.with_run, intents, runs)


@given(record=records)
def test_a_record_survives_its_storage(record: Record) -> None:
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_only_what_was_never_stored_is_no_record() -> None:
    assert Record.from_json(None) is None


def test_a_record_of_another_version_is_read_as_far_as_it_goes() -> None:
    old = {"cycle": "1", "token": "t", "colour": "red", "fingerprint": None, "deadline": "soon"}
    assert Record.from_json(old) == Record(generation=1, token="t", intent_at=0.0)


def test_a_recorded_run_of_an_unknown_kind_is_not_forgotten() -> None:
    record = Record.from_json({"cycle": 1, "token": "t", "ref": {"kind": "agent_turn", "id": "x"}})
    assert record is not None
    assert record.ref is not None
    with pytest.raises(RunRequestError, match="agent_turn"):
        wire_of(record.ref.kind)


DAMAGED = [
    "x",
    [],
    {},
    {"token": "hash/abc"},
    {"cycle": 1},
    {"cycle": 1, "token": 7},
    {"cycle": "one", "token": "hash/abc"},
    {"cycle": 1, "token": "hash/abc", "ref": "run_1"},
    {"cycle": 1, "token": "hash/abc", "ref": {"kind": "thread_run", "id": "x"}},
]


@pytest.mark.parametrize("value", DAMAGED)
def test_a_record_that_cannot_be_read_is_never_no_record_and_its_error_names_the_way_out(
    value: object,
) -> None:
    record = Record.from_json(value)
    assert record is not None
    assert record.unreadable
    step = move(record, UNDECIDABLE if record.token else None)
    for found in (step, move(record, NOT_THERE if record.token else None)):
        assert isinstance(found, GiveUp)
        assert all(word in str(found.error) for word in ("'openai_run'", "billing", "clear the task"))


@pytest.mark.parametrize("value", DAMAGED)
def test_the_token_of_a_damaged_record_is_used(value: object) -> None:
    record = Record.from_json(value)
    assert record is not None
    if record.token:
        assert move(record) == SearchRun(intent=record, until=NOW + 3600)
        assert polls(move(record, FOUND))
        assert adopts(decide_after_finding(record))


def decide_after_finding(record: Record) -> Step:
    return move(record, Polled(ref=REF, result=poll(RunStatus.IN_PROGRESS)))


@pytest.mark.parametrize("value", DAMAGED)
def test_a_clear_of_a_damaged_record_creates_and_says_what_may_be_running(value: object) -> None:
    record = Record.from_json(value)
    situation = Situation(record=record, observed=observed_as(record, UNDECIDABLE))
    met = decide(situation, POLICY, now=NOW)
    # The attempt that met it has failed; from then on a clear differs from a retry.
    stored = json.loads(json.dumps(met.record.to_json())) if met.record else None
    cleared = move(Record.from_json(stored), UNDECIDABLE, generation=2, token_prefix="another/", resubmits=0)
    assert isinstance(cleared, Create)
    assert all(word in because(cleared) for word in ("cleared", "billing"))


def test_a_damaged_record_with_a_run_is_used() -> None:
    value = {"ref": REF.to_json(), "created_at": "yesterday", "cycle": None}
    record = Record.from_json(value)
    assert record is not None
    assert not record.unreadable
    assert polls(move(record))
    adopted = decide(
        Situation(record=record, observed=Polled(ref=REF, result=poll(RunStatus.QUEUED))), POLICY, now=NOW
    )
    assert adopts(adopted.step)
    assert adopted.record is not None
    assert adopted.record.generation == 1


def refused(kind: FailureKind, **failure: Any) -> NotCreated:
    active = replace(REF, id="run_7") if "active run" in failure.get("text", "") else None
    return NotCreated(
        intent=replace(INTENT, thread_id="thread_1"),
        before=KNOWN,
        failure=RequestFailure(kind=kind, **{"text": "no luck", **failure}),
        error=RunCallError("it did not work"),
        active_run=active,
    )


BUSY = "Thread thread_1 already has an active run run_7."


def after(
    failed: Any, *, later: float = 100, refusals: int = 1, gives_up_after: float = 600, **policy: Any
) -> Decision:
    situation = Situation(record=KNOWN, observed=failed, refusals=refusals, gives_up_at=NOW + gives_up_after)
    return decide(situation, replace(POLICY, **policy), now=NOW + later)


def test_a_create_that_was_not_accepted_is_sent_again_after_its_intent_is_taken_back() -> None:
    found = after(refused(FailureKind.RETRY_LATER, retry_after=7.0))
    assert found == Decision(
        step=Create(after=7.0, thread_id="thread_1", token="hash/abc"),
        record=KNOWN,
        write=True,
        warning="The create was not accepted (no luck); it is sent again in 7 s",
    )


def test_pauses_between_creates_grow() -> None:
    steps = [after(refused(FailureKind.NOT_SENT), refusals=tries).step for tries in range(1, 9)]
    assert [step.after for step in steps if isinstance(step, Create)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_create_is_not_sent_again_once_its_time_is_over() -> None:
    found = after(refused(FailureKind.RETRY_LATER), gives_up_after=101)
    assert isinstance(found.step, GiveUp)
    assert found.record is KNOWN
    assert found.write


@pytest.mark.parametrize("kind", [FailureKind.REJECTED, FailureKind.NO_QUOTA, FailureKind.ACCESS_DENIED])
def test_a_create_that_was_refused_for_good_leaves_the_record_as_it_was(kind: FailureKind) -> None:
    found = after(refused(kind))
    assert isinstance(found.step, GiveUp)
    assert str(found.step.error) == "it did not work"
    assert (found.record, found.write) == (KNOWN, True)


def test_a_create_that_was_not_answered_is_searched_for_from_now_on() -> None:
    found = after(refused(FailureKind.OUTCOME_UNKNOWN))
    assert isinstance(found.step, SearchRun)
    assert found.record == replace(INTENT, thread_id="thread_1", intent_at=NOW + 100, failure="no luck")
    assert found.write
    assert found.step == SearchRun(intent=found.record, until=NOW + 160)


def test_a_create_that_was_not_answered_in_its_whole_time_is_searched_for_and_not_sent_again() -> None:
    found = after(refused(FailureKind.OUTCOME_UNKNOWN), later=600)
    assert isinstance(found.step, SearchRun)
    lost = found.record
    assert polls(move(lost, FOUND, later=5001))
    for result, resubmits, retryable in (
        (NOT_THERE, 0, True),
        (UNDECIDABLE, 0, False),
        (UNDECIDABLE, 1, True),
    ):
        gives_up = move(lost, result, later=5001, resubmits=resubmits)
        assert isinstance(gives_up, GiveUp)
        assert gives_up.error.retryable is retryable
        assert "was not answered (no luck)" in str(gives_up.error)


def test_the_reason_of_a_lost_create_is_in_its_error_whoever_raises_it() -> None:
    lost = after(refused(FailureKind.OUTCOME_UNKNOWN)).record
    assert lost is not None
    for record in (lost, Record.from_json(json.loads(json.dumps(lost.to_json())))):
        found = move(record, UNDECIDABLE)
        assert isinstance(found, GiveUp)
        assert "was not answered (no luck)" in str(found.error)


def test_a_lost_create_is_sent_again_as_often_as_allowed_with_growing_pauses_and_each_one_is_named() -> None:
    record, pauses = INTENT, []
    for number in range(3):
        found = move(record, UNDECIDABLE, resubmits=3)
        assert isinstance(found, Create)
        assert f"{number + 1} of max_resubmits=3" in because(found)
        pauses.append(found.after)
        record = replace(INTENT, token=f"hash/{number}", lost=found.lost)
    last = move(record, UNDECIDABLE, resubmits=3)

    assert pauses == [5, 10, 20]
    assert isinstance(last, GiveUp)
    words = ("p to 4 runs", "'hash/abc', 'hash/0', 'hash/1', 'hash/2'", "max_resubmits=3", "Clear the task")
    assert not [word for word in words if word not in str(last.error)]


def test_a_create_that_was_lost_before_one_that_was_refused_is_not_forgotten() -> None:
    lost = replace(INTENT, token="hash/old")
    failed = replace(refused(FailureKind.REJECTED), intent=replace(INTENT, lost=("hash/old",)), before=lost)
    assert after(failed).record == lost
    later = after(replace(failed, failure=failure(FailureKind.RETRY_LATER)))
    assert isinstance(later.step, Create)
    assert (later.step.lost, later.record) == (("hash/old",), lost)


def test_the_lost_creates_of_a_generation_are_remembered_by_the_next_create_and_forgotten_by_a_clear() -> (
    None
):
    record = replace(KNOWN, lost=("hash/old",))
    for again in (move(record, poll(RunStatus.FAILED)), move(record, Ended(ref=REF, result=ENDED))):
        assert isinstance(again, Create)
        assert again.lost == ("hash/old",)
    cleared = move(record, Ended(ref=REF, result=ENDED), generation=2)
    assert isinstance(cleared, Create)
    assert cleared.lost == ()


def test_the_run_that_keeps_the_thread_busy_is_adopted_if_it_is_our_own() -> None:
    failed = refused(FailureKind.REJECTED, text=BUSY, http_status=400)
    asked = after(failed).step
    assert isinstance(asked, IdentifyRun)
    found = after(Identified(ref=asked.ref, ours=True, refused=failed))
    assert adopts(found.step, asked.ref)
    assert found.write


@pytest.mark.parametrize(("policy", "step"), [("fail", GiveUp), ("wait", WaitForThread), ("cancel", EndRun)])
def test_a_strangers_run_on_the_thread_is_a_matter_of_policy(policy: Any, step: type[Step]) -> None:
    failed = refused(FailureKind.REJECTED, text=BUSY, http_status=400)
    stranger = replace(REF, id="run_7")
    found = after(Identified(ref=stranger, ours=False, refused=failed), on_active_run=policy)
    assert isinstance(found.step, step)
    assert (found.record, found.write) == (KNOWN, True)


def test_a_locked_conversation_names_nobody_to_cancel() -> None:
    failed = refused(FailureKind.REJECTED, code="conversation_locked")
    assert isinstance(after(failed, on_active_run="cancel").step, GiveUp)
    waiting = after(failed, on_active_run="wait").step
    assert isinstance(waiting, WaitForThread)
    assert waiting.ref is None


ENDED = CancelResult(polled=poll(RunStatus.CANCELLED))


def test_a_run_that_could_not_be_ended_is_named_and_nothing_is_created() -> None:
    going_on = CancelResult(polled=poll(RunStatus.IN_PROGRESS), failure=failure(FailureKind.REJECTED))
    found = after(Ended(ref=REF, result=going_on))
    assert isinstance(found.step, GiveUp)
    assert all(word in str(found.step.error) for word in ("run_1", "billing", "Nothing new was created"))


def test_a_clear_gives_up_what_cannot_be_ended_and_says_why_and_after_how_long() -> None:
    lost = CancelResult(polled=poll(RunStatus.IN_PROGRESS), failure=failure(FailureKind.NOT_FOUND))
    ended = Ended(ref=REF, result=lost, seconds=300.4)
    found = move(KNOWN, ended, generation=2)
    assert isinstance(found, Create)
    words = ("run_1", "in 300 s", "no luck", "may be running and billing", "on_unendable='give_up'")
    assert not [word for word in words if word not in because(found)]
    for policy in ({"generation": 2, "on_unendable": "fail"}, {"generation": 1}):
        kept = move(KNOWN, ended, **policy)
        assert isinstance(kept, GiveUp)
        assert kept.error.retryable
        assert "in 300 s" in str(kept.error)


@pytest.mark.parametrize("others", [False, True])
def test_somebody_elses_run_is_not_given_up_and_not_taken_for_ours(*, others: bool) -> None:
    stranger = replace(REF, id="run_7")
    going_on = CancelResult(polled=poll(RunStatus.IN_PROGRESS))
    assert isinstance(move(None, Ended(ref=stranger, result=going_on, others=others)), GiveUp)
    completed = CancelResult(polled=poll(RunStatus.COMPLETED))
    found = move(replace(INTENT, lost=("t",)), Ended(ref=stranger, result=completed, others=True))
    assert isinstance(found, Create)


def test_a_run_that_is_known_to_have_ended_is_not_asked_for_by_a_clear() -> None:
    assert move(replace(KNOWN, ended=True), generation=2) == Create()


@pytest.mark.parametrize("why", ["refused", "ended_by_us"])
def test_a_run_that_has_ended_and_cannot_be_the_result_is_not_asked_for_by_a_retry(why: str) -> None:
    assert isinstance(move(replace(KNOWN, ended=True, **{why: True})), Create)  # type: ignore[arg-type]
    assert polls(move(replace(KNOWN, ended=True)))


def test_a_retry_finishes_from_an_incomplete_run_that_the_user_accepts() -> None:
    assert finishes_from(move(KNOWN, poll(RunStatus.INCOMPLETE), on_incomplete="accept"))
    late = CancelResult(polled=poll(RunStatus.INCOMPLETE), asked=True)
    assert finishes_from(move(KNOWN, Ended(ref=REF, result=late), on_incomplete="accept"))
    assert isinstance(move(KNOWN, poll(RunStatus.INCOMPLETE)), Create)


def test_after_a_clear_the_end_of_the_old_run_is_followed_by_a_create() -> None:
    completed = CancelResult(polled=poll(RunStatus.COMPLETED))
    for result in (ENDED, completed):
        found = after(Ended(ref=REF, result=result), generation=2)
        assert found == Decision(step=Create(), record=None)


def test_a_retrys_own_run_that_completed_before_the_cancel_came_is_the_result() -> None:
    completed = CancelResult(polled=poll(RunStatus.COMPLETED))
    assert finishes_from(after(Ended(ref=REF, result=completed)).step)
    assert isinstance(after(Ended(ref=REF, result=ENDED)).step, Create)


def test_an_adopted_run_without_a_known_deadline_has_a_window_from_now() -> None:
    found = decide(
        Situation(record=INTENT, observed=Polled(ref=REF, result=poll(RunStatus.QUEUED))), POLICY, now=NOW + 5
    )
    assert isinstance(found.step, Own)
    assert found.step.run == TrackedRun(ref=REF, created_at=NOW + 5, deadline=NOW + 605)


@pytest.mark.parametrize(("cancel", "deadline"), [(True, NOW + 600), (False, NOW + 3600 + 600)])
def test_a_run_that_was_left_running_has_a_new_window(cancel: bool, deadline: float) -> None:
    found = move(KNOWN, poll(RunStatus.IN_PROGRESS), cancel_on_timeout=cancel)
    assert isinstance(found, Own)
    assert found.run.deadline == deadline


def test_a_record_names_the_arguments_that_changed() -> None:
    record = Record(generation=1, token="t", intent_at=NOW, fingerprint={"a": "1", "b": "2", "c": "3"})
    assert record.changed_arguments({"a": "1", "b": "9", "d": "4"}) == ("b", "c", "d")
    assert record.changed_arguments(record.fingerprint) == ()


identities = st.tuples(words, words, words, st.integers(), st.integers())


@given(one=identities, two=identities, chance=words)
def test_a_token_begins_with_what_only_its_task_instance_can_compute(
    one: tuple[object, ...], two: tuple[object, ...], chance: str
) -> None:
    assert new_token(one, random_part=chance) == token_prefix(one) + chance
    assert (token_prefix(one) == token_prefix(two)) == (one == two)
    assert len(token_prefix(one)) == 25
