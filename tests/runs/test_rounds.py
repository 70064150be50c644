# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.acquisition import (
    GiveUp,
    Own,
    OwnershipPolicy,
    Searched,
    SearchResult,
    Situation,
)
from airflow_provider_openai_runs.runs.citations import Citation
from airflow_provider_openai_runs.runs.files import RunFile
from airflow_provider_openai_runs.runs.model import Run, RunRef, Step, ToolCall
from airflow_provider_openai_runs.runs.ownership import decide
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.rounds import Rounds, as_one
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.usage import Usage

REFS = [RunRef(kind=RunKind.RESPONSE, id=f"resp_{n}", conn_id="c", thread_id="conv_1") for n in range(4)]
THREAD_RUN = RunRef(kind=RunKind.THREAD_RUN, id="run_1", conn_id="c", thread_id="thread_1")
ROUNDS = st.builds(
    Rounds,
    answered=st.integers(min_value=0, max_value=99),
    errors=st.lists(st.text(), max_size=3).map(tuple),
    calls=st.text(max_size=16),
    answered_at=st.floats(min_value=0, max_value=2e9),
    earlier=st.lists(st.sampled_from(REFS), max_size=4, unique=True).map(tuple),
)


def a_run(ref: RunRef, **more: Any) -> Run:
    return Run(ref=ref, status=RunStatus.COMPLETED, raw_status="completed", object="response", **more)


@given(rounds=ROUNDS)
def test_rounds_are_the_same_after_their_way_through_a_database(rounds: Rounds) -> None:
    assert Rounds.from_json(json.loads(json.dumps(rounds.to_json()))) == rounds


@pytest.mark.parametrize("stored", [None, [], "x", 1, {"answered": "x", "errors": None, "earlier": {}}])
def test_whatever_else_is_stored_says_that_nothing_was_answered(stored: Any) -> None:
    assert Rounds.from_json(stored) == Rounds()


def test_a_response_is_followed_by_another_one_and_a_thread_run_by_itself() -> None:
    response = (
        Rounds()
        .after(a_run(REFS[0]), [], in_place=False, now=5.0)
        .after(a_run(REFS[1]), ["oops"], in_place=False, now=9.0)
    )
    thread_run = (
        Rounds()
        .after(a_run(THREAD_RUN), ["oops"], in_place=True, now=5.0)
        .after(a_run(THREAD_RUN), [], in_place=True, now=9.0)
    )

    assert response == Rounds(answered=2, errors=("oops",), earlier=(REFS[0], REFS[1]))
    assert (thread_run.answered, thread_run.errors, thread_run.earlier) == (2, (), ())
    assert thread_run.answered_at == 9.0


def test_calls_that_a_server_shows_again_right_after_their_answer_were_just_answered() -> None:
    call = ToolCall(id="c1", name="pay", arguments='{"n": 1}')
    waits = a_run(THREAD_RUN, tool_calls=(call,))
    other = a_run(THREAD_RUN, tool_calls=(replace(call, arguments='{"n": 2}'),))
    rounds = Rounds().after(waits, [], in_place=True, now=100.0)

    assert rounds.just_answered(waits, now=159.0)
    assert not rounds.just_answered(waits, now=161.0)
    assert not rounds.just_answered(other, now=101.0)
    assert not Rounds().just_answered(a_run(THREAD_RUN), now=1.7e9)


def test_going_back_to_an_earlier_response_forgets_what_came_after_it() -> None:
    rounds = Rounds(answered=3, earlier=(REFS[0], REFS[1], REFS[2]))

    assert rounds.before(REFS[1]) == Rounds(answered=1, earlier=(REFS[0],))
    assert rounds.before(REFS[3]) == rounds


def test_a_chain_is_shown_as_one_run_that_began_with_the_first_and_ended_with_the_last() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=2, total_tokens=12)
    chain = [
        a_run(ref, created_at=100 + n, usage=usage, steps=(Step(id=f"s{n}", type="message"),))
        for n, ref in enumerate(REFS[:3])
    ]
    found = as_one(chain[:2], chain[2])

    assert found.ref == REFS[2]
    assert found.created_at == 100
    assert found.usage == Usage(prompt_tokens=30, completion_tokens=6, total_tokens=36)
    assert [step.id for step in found.steps or ()] == ["s0", "s1", "s2"]
    assert found.raw["response_ids"] == ["resp_0", "resp_1", "resp_2"]
    assert as_one([], chain[0]) is chain[0]


def test_a_chain_adds_up_what_was_said_of_its_tokens_and_has_the_files_of_all() -> None:
    usages = [
        Usage(total_tokens=1, cached_tokens=4, reasoning_tokens=0),
        None,
        Usage(total_tokens=2, cached_tokens=None, reasoning_tokens=7),
    ]
    cited = Citation(type="url_citation")
    chain = [
        a_run(
            ref,
            usage=usage,
            files=(RunFile(file_id="cfile_1"), RunFile(name=f"{ref.id}.png")),
            file_ids=("cfile_1",),
            citations=(cited,) if ref == REFS[2] else (cited, cited),
            service_tier=None if ref == REFS[0] else "flex",
        )
        for ref, usage in zip(REFS, usages, strict=False)
    ]
    found = as_one(chain[:2], chain[2])

    assert found.usage == Usage(total_tokens=3, cached_tokens=4, cache_write_tokens=None, reasoning_tokens=7)
    assert [file.file_id or file.name for file in found.files] == [
        *("cfile_1", "resp_0.png", "resp_1.png", "resp_2.png"),
    ]
    assert (found.file_ids, found.citations, found.service_tier) == (("cfile_1",), (cited,), "flex")
    assert (
        as_one([replace(run, usage=None) for run in chain[:2]], replace(chain[2], usage=None)).usage is None
    )


def test_the_record_keeps_the_rounds_and_one_without_them_still_loads() -> None:
    record = Record(generation=1, token="t/1", intent_at=5.0, rounds=Rounds(answered=1, earlier=(REFS[0],)))
    stored = json.loads(json.dumps(record.to_json()))
    before = {name: value for name, value in stored.items() if name != "rounds"}
    loaded = Record.from_json(before)

    assert Record.from_json(stored) == record
    assert loaded is not None
    assert loaded.rounds == Rounds()


def test_a_lost_answer_goes_back_to_the_response_that_asked_only_if_the_user_accepts_the_risk() -> None:
    record = Record(generation=1, token="t/1", intent_at=5.0, rounds=Rounds(answered=1, earlier=(REFS[0],)))
    policy = OwnershipPolicy(generation=1, window=60, create_budget=600, cancel_budget=300, token_prefix="t/")
    situation = Situation(record=record, observed=Searched(result=SearchResult(ref=None, conclusive=False)))

    assert isinstance(decide(situation, policy, now=999.0).step, GiveUp)
    resubmits = decide(situation, replace(policy, resubmits=1), now=999.0).step
    assert isinstance(resubmits, Own)
    assert (resubmits.run.ref, resubmits.run.rounds) == (REFS[0], Rounds())
