# SPDX-License-Identifier: Apache-2.0
"""Which calls a person is asked about on a page, and what the answer decides."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.exceptions import RunRequestError
from airflow_provider_openai_runs.runs.model import RunRef, ToolCall
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.tool_calls.approval import ApprovalDecision, calls_to_approve, digest
from airflow_provider_openai_runs.tool_calls.approval_checks import check_approval
from airflow_provider_openai_runs.tool_calls.approval_page import ApprovalPage, OtherPage
from tests.support import approval_pages
from tests.support.airflow_versions import needs_store
from tests.support.approval_pages import BROKEN, MAIL, MCP, PERSON, REFUND, decided
from tests.support.scene import Scene

page_of = approval_pages.page_of


# -- what is asked about -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("approve", "asked"),
    [
        (None, []),
        (False, []),
        (True, [REFUND, MAIL, BROKEN, MCP]),
        (["refund"], [REFUND, BROKEN]),
        (["roll_dice", "send_mail"], [MAIL, MCP]),
        (lambda name, _: name == "roll_dice", [BROKEN, MCP]),
        (lambda _, arguments: arguments.get("amount", 0) > 10, [REFUND, BROKEN]),
        (lambda name, _: {"refund": False}.get(name), [MAIL, BROKEN, MCP]),
    ],
)
def test_a_person_is_asked_about_the_calls_that_approve_names_and_about_those_a_callable_cannot_judge(
    approve: Any, asked: list[ToolCall]
) -> None:
    assert calls_to_approve([REFUND, MAIL, BROKEN, MCP], approve) == asked


@needs_store
@pytest.mark.parametrize("approve", [None, False, True, ["refund"], lambda _name, _arguments: True])
def test_each_form_of_approve_is_accepted(scene: Scene, approve: Any) -> None:
    check_approval(approve)


async def _later(_name: str, _arguments: Any) -> bool:
    return False


@needs_store
@pytest.mark.parametrize(
    ("approve", "why"),
    [
        (lambda _name: True, "two arguments"),
        (lambda *, _name, _arguments: True, "two arguments"),
        (_later, "asynchronous"),
    ],
)
def test_a_callable_that_cannot_be_asked_is_refused_when_the_dag_is_parsed(approve: Any, why: str) -> None:
    with pytest.raises(RunRequestError, match=why):
        check_approval(approve)


@pytest.mark.parametrize("approve", ["refund", 1, {"refund": True}, [""], [7], []])
def test_a_wrong_approve_is_refused_when_the_dag_is_parsed(scene: Scene, approve: Any) -> None:
    with pytest.raises(RunRequestError, match="approve"):
        check_approval(approve)


def test_an_airflow_without_the_page_is_refused_with_the_way_that_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("airflow.sdk.exceptions.TaskAwaitingInput", raising=False)
    with pytest.raises(RunRequestError, match=r"3\.3.*on_tool_calls='return'.*ApprovalOperator"):
        check_approval(True)
    check_approval(False)


# -- what is decided -----------------------------------------------------------------------------------------


def test_an_approved_page_makes_the_calls_as_they_are(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND, MAIL, MCP, BROKEN).show()

    decisions = decided(page_of(REFUND, MAIL, MCP, BROKEN), pages.answered())
    assert decisions == dict.fromkeys(
        ["call_1", "call_2", "mcpr_1", "call_3"], ApprovalDecision(approved=True)
    )


def test_a_rejected_page_rejects_every_call_with_the_comment(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND, MAIL).show()

    decisions = decided(page_of(REFUND, MAIL), pages.answered("Reject", comment=" Too much. "))
    assert decisions == dict.fromkeys(
        ["call_1", "call_2"], ApprovalDecision(approved=False, comment="Too much.")
    )
    assert "a person rejected it" in decisions["call_1"].rejection()
    assert decisions["call_1"].rejection().endswith("Too much.")


def test_one_call_of_an_approved_page_can_be_rejected(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND, MAIL).show()

    decisions = decided(page_of(REFUND, MAIL), pages.answered(approve_1=False))
    assert [decision.approved for decision in decisions.values()] == [False, True]


@pytest.mark.parametrize("entered", [None, "true", 1, "yes"])
def test_only_a_plain_yes_approves_a_call(
    page_of: Callable[..., ApprovalPage], pages: Any, entered: Any
) -> None:
    page_of(REFUND, MAIL).show()

    decisions = decided(page_of(REFUND, MAIL), pages.answered(approve_1=entered))
    assert not decisions["call_1"].approved


def test_edited_arguments_take_the_place_of_the_models(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()

    found = decided(page_of(REFUND), pages.answered(arguments_1={"order": "A-17", "amount": 5}))["call_1"]
    assert found == ApprovalDecision(approved=True, arguments={"order": "A-17", "amount": 5})


def test_arguments_edited_into_something_else_than_an_object_reject_the_call(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()

    found = decided(page_of(REFUND), pages.answered(arguments_1=[1]))["call_1"]
    assert not found.approved
    assert "no JSON object" in found.rejection()


def test_numbers_that_a_browser_rounds_or_writes_in_its_way_are_not_taken_for_edited(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    call = ToolCall(
        id="c", name="f", arguments='{"id": 12345678901234567891, "rate": 1.0, "of": [{"a": 2.0}]}'
    )
    page_of(call).show()

    same = {"id": "12345678901234567891", "rate": 1, "of": [{"a": 2}]}
    assert decided(page_of(call), pages.answered(arguments_1=same))["c"] == ApprovalDecision(approved=True)
    other = decided(page_of(call), pages.answered(arguments_1={**same, "rate": 2}))["c"]
    assert other.arguments == {"id": 12345678901234567891, "rate": 2, "of": [{"a": 2.0}]}


def test_a_number_beyond_every_float_is_compared_as_it_is(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    call = ToolCall(id="c", name="f", arguments=json.dumps({"n": 10**400}))
    page_of(call).show()

    assert decided(page_of(call), pages.answered())["c"].arguments is None
    assert decided(page_of(call), pages.answered(arguments_1={"n": 1}))["c"].arguments == {"n": 1}


def test_an_answer_without_the_form_and_one_with_untouched_fields_as_descriptions_count(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND, MAIL).show()
    bare = {**pages.answered(), "params_input": {}}
    described = {**pages.answered(), "params_input": pages.page.params}

    for event in (bare, described):
        decisions = decided(page_of(REFUND, MAIL), event)
        assert decisions == dict.fromkeys(["call_1", "call_2"], ApprovalDecision(approved=True))


def test_a_call_of_an_mcp_tool_is_decided_and_whoever_wants_it_changed_has_not_approved_it(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(MCP).show()
    assert decided(page_of(MCP), pages.answered())["mcpr_1"] == ApprovalDecision(approved=True)

    found = decided(page_of(MCP), pages.answered(arguments_1={"sides": 20}))["mcpr_1"]
    assert not found.approved
    assert "cannot be changed" in found.rejection()


def test_when_the_time_is_over_every_call_is_rejected_and_the_model_hears_why(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()
    event = pages.timed_out()

    assert ApprovalPage.is_timeout(event)
    found = decided(page_of(REFUND), event)["call_1"]
    assert not found.approved
    assert "nobody decided in time" in found.rejection()


@pytest.mark.parametrize(
    ("event", "is_timeout"),
    [
        ({"error": "The response timeout has passed", "error_type": "timeout"}, True),
        ({"chosen_options": ["Reject"], "responded_by_user": None, "timedout": False}, True),
        ({"chosen_options": ["Reject"], "responded_by_user": PERSON, "timedout": False}, False),
    ],
)
def test_the_end_of_the_time_is_known_in_each_form_that_airflow_tells_it(
    event: dict[str, Any],
    is_timeout: bool,
) -> None:
    assert ApprovalPage.is_timeout(event) is is_timeout


# -- one page for a task instance ----------------------------------------------------------------------------


def test_the_same_calls_asked_about_again_open_their_page_again(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()
    pages.answered()
    page_of(REFUND).show()

    assert pages.answer is None
    assert not decided(page_of(REFUND), pages.answered("Reject"))["call_1"].approved


def test_a_page_of_the_past_answered_behind_the_tasks_back_is_open_before_airflow_closes_it(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()
    pages.answered()
    refused = page_of(MAIL).show()

    assert refused == OtherPage(is_open=True)
    assert pages.answer is None


def test_a_second_round_is_refused_and_leaves_the_first_answer_alone(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()
    answer = pages.answered()
    page_of(REFUND).decisions(answer)
    refused = page_of(MAIL).show()

    assert refused == OtherPage(is_open=False)
    assert pages.answer == answer


def test_on_airflow_3_4_the_answer_to_the_page_before_approves_nothing_of_the_second(
    page_of: Callable[..., ApprovalPage], refreshed_pages: Any
) -> None:
    page_of(REFUND).show()
    page_of(REFUND).decisions(refreshed_pages.answered())

    assert page_of(MAIL, round_number=2).show() is None
    assert isinstance(page_of(REFUND).decisions(refreshed_pages.answered()), OtherPage)
    assert decided(page_of(MAIL, round_number=2), refreshed_pages.answered())["call_2"].approved


def test_a_newer_worker_beside_an_older_airflow_shows_no_second_page(
    page_of: Callable[..., ApprovalPage], refreshed_pages: Any
) -> None:
    refreshed_pages.refreshes = False
    page_of(REFUND).show()
    page_of(REFUND).decisions(refreshed_pages.answered())

    assert page_of(MAIL).show() == OtherPage(is_open=True)


def test_a_page_that_nobody_answered_counts_as_open_until_airflow_has_closed_it(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()
    later = RunRef(kind=RunKind.THREAD_RUN, id="run_2", thread_id="thread_1", conn_id="openai_default")
    refused = page_of(REFUND, ref=later).show()
    assert refused == OtherPage(is_open=True)

    closed = page_of(REFUND, ref=later).decisions(pages.timed_out())
    assert closed == OtherPage(is_open=False)
    refused = page_of(MAIL, ref=later).show()
    assert refused == OtherPage(is_open=False)


def test_an_approval_meant_for_other_calls_approves_nothing(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()
    assert isinstance(page_of(MAIL).decisions(pages.answered("Approve")), OtherPage)


def test_a_page_whose_note_was_lost_is_known_by_its_text(
    scene: Scene, page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()
    scene.store.values.clear()
    refused = page_of(MAIL).show()
    assert refused == OtherPage(is_open=True)
    assert isinstance(page_of(MAIL).decisions(pages.answered("Approve")), OtherPage)

    scene.store.values.clear()
    page_of(REFUND).show()
    assert decided(page_of(REFUND), pages.answered())["call_1"].approved


def test_a_note_that_cannot_be_written_does_not_lose_the_decision(
    scene: Scene, page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()
    scene.store.fail("set", ConnectionError("the API server is down"))

    assert decided(page_of(REFUND), pages.answered())["call_1"].approved


# -- a page stands for exactly the raw calls on it -----------------------------------------------------------

CALLS = st.builds(
    ToolCall,
    id=st.sampled_from(["a", "b", ""]) | st.text(max_size=3),
    name=st.sampled_from(["a", "b", ""]) | st.text(max_size=3),
    arguments=st.sampled_from(["a", "\ud83d\ude00", "\U0001f600", "\ud800", "\udfff", "?"])
    | st.text(max_size=3),
    type=st.sampled_from(["function", "mcp_approval_request"]),
    server=st.sampled_from([None, "", "a"]),
)


@given(one=CALLS, other=CALLS)
def test_two_calls_have_one_digest_only_if_they_are_one_call(one: ToolCall, other: ToolCall) -> None:
    assert (digest(one) == digest(other)) == (one == other)


@pytest.mark.parametrize(
    "changed",
    [{"arguments": '{"order": "A-17", "amount": 5000}'}, {"name": "refund_all"}, {"server": "other"}],
    ids=lambda changed: next(iter(changed)),
)
@pytest.mark.parametrize("answered", [True, False])
def test_a_call_with_the_id_of_an_approved_one_is_not_made_under_its_page(
    page_of: Callable[..., ApprovalPage], pages: Any, changed: dict[str, str], answered: bool
) -> None:
    page_of(REFUND).show()
    event = pages.answered()
    if answered:
        page_of(REFUND).decisions(event)

    other = replace(REFUND, **changed)
    assert isinstance(page_of(other).decisions(event), OtherPage)
    assert page_of(other).show() == OtherPage(is_open=False)


def test_nor_is_the_very_same_call_in_a_later_round(page_of: Callable[..., ApprovalPage], pages: Any) -> None:
    page_of(REFUND).show()
    event = pages.answered()
    page_of(REFUND).decisions(event)

    assert isinstance(page_of(REFUND, round_number=2).decisions(event), OtherPage)


def test_without_a_note_nothing_proves_what_a_person_has_seen_and_nothing_is_made(
    scene: Scene, page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()
    for lost in ({}, {"openai_run_approval": "?"}, {"openai_run_approval": {"answered": False}}):
        scene.store.values.clear()
        scene.store.values.update(lost)
        assert isinstance(page_of(REFUND).decisions(pages.answered()), OtherPage)


def test_a_page_that_an_older_version_has_shown_counts_once(
    scene: Scene, page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page = hashlib.sha256(b'["run_1", "call_1"]').hexdigest()[:16]
    pages.page = SimpleNamespace(body=f"Page `{page}`", params={})
    scene.store.values["openai_run_approval"] = {"page": page, "answered": False}
    assert page_of(REFUND).show() == OtherPage(is_open=True)  # a retry has it closed
    assert isinstance(page_of(REFUND).decisions(pages.answered()), OtherPage)

    scene.store.values["openai_run_approval"] = {"page": page, "answered": False}
    assert decided(page_of(REFUND), pages.answered())["call_1"].approved
    assert scene.store.values["openai_run_approval"]["answered"] is True
    assert isinstance(page_of(REFUND).decisions(pages.answered()), OtherPage)
    assert page_of(REFUND).show() == OtherPage(is_open=False)


def test_the_note_keeps_the_digest_of_each_call(
    scene: Scene, page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND, MAIL).show()
    assert scene.store.values["openai_run_approval"]["calls"] == [digest(REFUND), digest(MAIL)]


@pytest.mark.parametrize("options", [[], ["approve"], ["Approve", "Reject"], ["Yes"], None])
def test_only_the_one_option_approves(
    page_of: Callable[..., ApprovalPage], pages: Any, options: list[str] | None
) -> None:
    page_of(REFUND).show()
    event = {**pages.answered(), "chosen_options": options}
    assert not decided(page_of(REFUND), event)["call_1"].approved


def test_a_field_that_the_page_does_not_have_approves_nothing(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND, MAIL).show()
    found = decided(page_of(REFUND, MAIL), pages.answered(argument_1={"amount": 5}))

    assert [decision.approved for decision in found.values()] == [False, False]
    assert "'argument_1'" in found["call_1"].rejection()


def test_the_log_says_who_has_approved_what(
    page_of: Callable[..., ApprovalPage], pages: Any, caplog: pytest.LogCaptureFixture
) -> None:
    page_of(REFUND, MAIL).show()
    with caplog.at_level(logging.INFO):
        page_of(REFUND, MAIL).decisions(pages.answered(approve_2=False))
    assert "Ann approved 1 of 2 calls" in caplog.text


# -- what was put before a person stays with that person -----------------------------------------------------


@pytest.mark.parametrize("approve", [None, False, ["send_mail"], lambda _name, _arguments: False])
def test_a_call_that_a_person_was_asked_about_needs_one_whatever_the_dag_says_now(
    approve: Any,
) -> None:
    assert calls_to_approve([REFUND, BROKEN], approve, asked=[digest(REFUND)])[0] == REFUND
