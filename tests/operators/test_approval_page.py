# SPDX-License-Identifier: Apache-2.0
"""The page by which a person decides about calls, beside the play of Airflow's side in conftest.py."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from airflow_provider_openai_runs.exceptions import RunRequestError
from airflow_provider_openai_runs.runs.model import RunRef, ToolCall
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.tool_calls import approval_text
from airflow_provider_openai_runs.tool_calls.approval import ApprovalDecision, calls_to_approve, digest
from airflow_provider_openai_runs.tool_calls.approval_checks import check_approval
from airflow_provider_openai_runs.tool_calls.approval_form import changed
from airflow_provider_openai_runs.tool_calls.approval_page import ApprovalPage, OtherPage
from airflow_provider_openai_runs.tool_calls.approval_shown import ShownCall
from tests.support.scene import Scene

RUN = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="openai_default")
REFUND = ToolCall(id="call_1", name="refund", arguments='{"order": "A-17", "amount": 12.5}')
MAIL = ToolCall(id="call_2", name="send_mail", arguments='{"to": ["ann@example.org"]}')
BROKEN = ToolCall(id="call_3", name="refund", arguments='{"order": ')
MCP = ToolCall(id="mcpr_1", name="roll_dice", arguments='{"sides": 6}', type="mcp_approval_request")
PERSON = {"id": "ann", "name": "Ann"}


@pytest.fixture
def page_of(scene: Scene, pages: Any) -> Callable[..., ApprovalPage]:
    """Make a page about calls, as each worker does anew."""
    ti = SimpleNamespace(id="01936d3e-0000-7000-8000-000000000001", dag_id="shop", task_id="ask")

    def make(*calls: ToolCall, ref: RunRef = RUN, round_number: int = 1, **texts: str | None) -> ApprovalPage:
        log: Any = logging.getLogger()
        return ApprovalPage(
            ti=ti, ref=ref, calls=calls, round_number=round_number, store=scene.store, log=log, **texts
        )

    return make


# -- what is asked about -------------------------------------------------------------------------------------


def decided(page: ApprovalPage, event: Mapping[str, Any]) -> dict[str, ApprovalDecision]:
    found = page.decisions(event)
    assert not isinstance(found, OtherPage)
    return {call.id: decision for call, decision in found.items()}


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


@pytest.mark.parametrize("approve", [None, False, True, ["refund"], lambda _name, _arguments: True])
def test_each_form_of_approve_is_accepted(scene: Scene, approve: Any) -> None:
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


# -- what the page shows -------------------------------------------------------------------------------------


def test_the_page_shows_run_task_functions_and_arguments(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND, MAIL).show()

    assert pages.page.subject == "2 calls of task ask: refund, send_mail"
    assert pages.page.options == ["Approve", "Reject"]
    assert pages.page.defaults == ["Reject"]
    for shown in ("`run_1`", "`thread_1`", "`ask`", "`shop`", "`refund`", '"order": "A-17"', "`send_mail`"):
        assert shown in pages.page.body


@pytest.mark.parametrize(
    ("template", "subject"),
    [
        (None, "refund of task ask: order A-17, amount 12.5"),
        ("{function} of {dag}.{task}: order {order}, {amount}", "refund of shop.ask: order A-17, 12.5"),
        ("{count} until {deadline}, {nothing} {order.__class__}", "1 until {}, {nothing} {order.__class__}"),
    ],
)
def test_the_subject_says_function_task_and_arguments_by_a_template_of_ones_own(
    page_of: Callable[..., ApprovalPage], pages: Any, template: str | None, subject: str
) -> None:
    page_of(REFUND, subject=template).show(deadline=1_700_000_000.0)
    assert pages.page.subject == subject.replace("{}", "2023-11-14 22:13:20 UTC")


def test_the_page_has_the_models_last_words_the_deadline_and_no_number_of_its_own(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    words = f"{'long ago ' * 500}Ann's cup came broken, so I refund it."
    page_of(REFUND, words=words).show(deadline=1_700_000_000.0, afterwards="then no call is made")

    read = MarkdownIt("commonmark").render(pages.page.body)
    assert "came broken, so I refund it." in read
    assert len(read) < 2_500
    assert "Decide until <strong>2023-11-14 22:13:20 UTC</strong>: then no call is made." in read
    assert "[page]" not in read


def test_a_page_that_an_earlier_version_has_written_is_known_again() -> None:
    assert approval_text.is_page("What to do?\n\nPage `abc`", "abc")
    assert not approval_text.is_page("What to do?\n\nPage `abd`", "abc")


def test_the_form_holds_arguments_to_edit_a_choice_for_each_of_several_calls_and_a_comment(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND, MCP, BROKEN).show()

    fields = {name: field["value"] for name, field in pages.page.params.items()}
    assert fields == {
        "approve_1": True,
        "arguments_1": {"order": "A-17", "amount": 12.5},
        "approve_2": True,
        "approve_3": True,
        "comment": "",
    }


def test_a_single_call_needs_no_choice_beside_the_pages_own(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(REFUND).show()

    assert set(pages.page.params) == {"arguments_1", "comment"}


#: Two of the last three hide in ordinary text: a space that breaks no line, and a part of a flag.
CHARACTERS = "`~#\n\r\t []()!<>*_\\|\"'ab\u2028\u202e\0\xa0\xad\U000e0067"
WORDS = st.text(st.sampled_from(CHARACTERS), max_size=40) | st.text(max_size=40)


@given(name=WORDS, text=WORDS, as_json=st.booleans())
@example(name="a`b", text="```\n# Forged\n[link](http://x)", as_json=False)
@example(name="`", text="``````", as_json=True)
@example(name="a\n\n# b", text="", as_json=False)
def test_what_the_model_writes_cannot_leave_its_code(name: str, text: str, as_json: bool) -> None:
    shown = ShownCall.of(ToolCall(id="c", name=name, arguments=json.dumps({text: text}) if as_json else text))
    ti = SimpleNamespace(dag_id="shop", task_id="ask")
    found = approval_text.body(
        ti=ti,
        ref=RUN,
        calls=[shown],
        page="abc",
        words=f"a{text}a",
        deadline=0.0,
        afterwards="then none is made",
    )

    blocks = MarkdownIt("commonmark").parse(found)
    assert "abc" not in MarkdownIt("commonmark").render(found)
    assert approval_text.is_page(found, "abc")
    inline = [child.type for block in blocks for child in block.children or []]
    assert [block.tag for block in blocks if block.type == "heading_open"] == ["h3"]
    code = [block.type for block in blocks if block.type in {"fence", "code_block", "html_block"}]
    assert code == ["fence", "fence"]
    assert set(inline) <= {"text", "code_inline", "strong_open", "strong_close"}
    assert inline.count("code_inline") == 5  # run, thread, task, Dag, function
    assert not {"\u202e", "\u2028", "\0"} & set(found)


def test_long_arguments_are_cut_with_a_note_and_the_form_holds_them_whole(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    text = "x" * 20_000
    page_of(ToolCall(id="c", name="note", arguments=json.dumps({"text": text}))).show()

    assert "Only the first 8,000 of 20,016 characters" in pages.page.body
    assert pages.page.params["arguments_1"]["value"] == {"text": text}


def test_arguments_too_long_for_a_form_cannot_be_edited_and_the_page_says_so(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(ToolCall(id="c", name="note", arguments=json.dumps({"text": "x" * 70_000}))).show()

    assert "too long to be changed here" in pages.page.body
    assert "arguments_1" not in pages.page.params


def test_the_text_of_many_calls_fits_into_what_every_database_takes(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    arguments = json.dumps({"text": "\U0001f600" * 9_000})
    page_of(*(ToolCall(id=f"c{n}", name="note" * 50, arguments=arguments) for n in range(128))).show()

    assert len(pages.page.body.encode()) < 2**16


def test_secrets_are_masked_and_come_back_where_a_person_leaves_them(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    call = ToolCall(id="c", name="join", arguments='{"user": "ann", "password": "hunter2"}')
    page_of(call).show()
    assert "hunter2" not in pages.page.model_dump_json()

    untouched = decided(page_of(call), pages.answered())["c"]
    edited = decided(page_of(call), pages.answered(arguments_1={"user": "bob", "password": "***"}))["c"]
    assert untouched == ApprovalDecision(approved=True)
    assert edited.arguments == {"user": "bob", "password": "hunter2"}


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


# -- what is shown is that call ------------------------------------------------------------------------------


def test_what_cannot_be_seen_stands_as_escapes_on_the_page_and_in_the_form_and_is_done_as_it_is(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    hidden = {"to": "ann\u202egro.elpmaxe\u200b\ufe0f", "note": "a\x1b[2Kb\nc"}
    call = ToolCall(id="c", name="mail", arguments=json.dumps(hidden))
    page_of(call).show()

    assert r"ann\u202egro.elpmaxe\u200b\ufe0f" in pages.page.body
    assert pages.page.params["arguments_1"]["value"]["to"] == r"ann\u202egro.elpmaxe\u200b\ufe0f"
    assert not set("\u202e\u200b\x1b\ufe0f") & set(pages.page.model_dump_json())
    assert decided(page_of(call), pages.answered())["c"] == ApprovalDecision(approved=True)
    edited = decided(page_of(call), pages.answered(arguments_1={"to": "ann", "note": r"a\x1b[2Kb" + "\nc"}))
    assert edited["c"].arguments == {**hidden, "to": "ann"}


@pytest.mark.parametrize(
    "arguments",
    [
        '{"amount": 5, "amount": 5000}',
        '{"of": {"amount": 5000, "amount": 5}}',
        '{"amount": 5.00000000000000000001}',
        '{"amount": 1e999}',
        '{"amount": NaN}',
        '{"a": ' + "[" * 150 + "]" * 150 + "}",
    ],
)
def test_arguments_that_programs_read_differently_stand_there_as_they_were_written(
    page_of: Callable[..., ApprovalPage], pages: Any, arguments: str
) -> None:
    page_of(ToolCall(id="c", name="f", arguments=arguments)).show()

    assert arguments in pages.page.body
    assert "shown as the model wrote them" in pages.page.body
    assert "arguments_1" not in pages.page.params


def test_the_page_says_what_it_leaves_out_and_which_server_is_asked(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    masked = ToolCall(id="a", name="n" * 300, arguments='{"password": "hunter2"}')
    long = ToolCall(
        id="b",
        name="roll",
        arguments=json.dumps({"x": "y" * 9000}),
        type="mcp_approval_request",
        server="dice",
    )
    page_of(masked, long).show()

    assert "*** stands for a value that the call has" in pages.page.body
    assert "(300 characters)" in pages.page.body
    assert (
        "Only the first 4,000 of 9,013 characters are shown; the rest cannot be seen here." in pages.page.body
    )
    assert "`roll` of the MCP server `dice`" in pages.page.body


def test_a_title_leaves_out_arguments_whose_names_seem_the_same(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    arguments = '{"amount": 1000000, "amount\xa0": 5, "to": "ann"}'
    page_of(ToolCall(id="c", name="refund", arguments=arguments)).show()

    assert pages.page.subject == "refund of task ask: to ann"


def test_a_row_of_which_nobody_knows_whose_secret_it_holds_is_not_sent(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    call = ToolCall(id="c", name="join", arguments='{"all": [{"password": "one1"}, {"password": "two2"}]}')
    page_of(call).show()
    edited = decided(page_of(call), pages.answered(arguments_1={"all": [{"password": "***"}]}))

    assert edited["c"].approved is False
    assert "***" in (edited["c"].comment or "")
    typed = decided(page_of(call), pages.answered(arguments_1={"all": [{"password": "three"}]}))
    assert typed["c"].arguments == {"all": [{"password": "three"}]}


def test_three_stars_that_a_person_writes_where_nothing_is_masked_are_a_text(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(MAIL).show()
    edited = decided(page_of(MAIL), pages.answered(arguments_1={"to": ["***urgent***"]}))

    assert edited[MAIL.id] == ApprovalDecision(approved=True, arguments={"to": ["***urgent***"]})


@given(name=WORDS, value=WORDS)
@example(name="price", value="5\xa0€")
@example(name="flag", value="\U0001f3f4\U000e0067\U000e0062\U000e007f")
def test_the_title_names_whatever_a_single_call_is_asked_with(name: str, value: str) -> None:
    call = ToolCall(id="c", name="refund", arguments=json.dumps({name: value}))
    ti = SimpleNamespace(dag_id="shop", task_id="ask")
    title = approval_text.subject(None, ti=ti, calls=[ShownCall.of(call)], deadline=None)

    assert title.startswith("refund of task ask: ")
    assert title.isprintable()


def test_a_page_opens_for_a_call_with_a_space_that_breaks_no_line(
    page_of: Callable[..., ApprovalPage], pages: Any
) -> None:
    page_of(ToolCall(id="c", name="refund", arguments='{"price": "5\xa0€"}')).show()

    assert pages.page.subject == "refund of task ask: price 5 €"
    assert r"5\xa0€" in pages.page.body


@given(text=WORDS, as_json=st.booleans())
@example(text="\ud800\0\u2066\u3164", as_json=True)
def test_whatever_the_model_writes_is_shown_in_visible_characters(text: str, as_json: bool) -> None:
    arguments = json.dumps({"a": text}, ensure_ascii=False) if as_json else text
    found = ShownCall.of(ToolCall(id="c", name="f", arguments=arguments))

    assert found.text.replace("\n", "").replace("\t", "").isprintable()
    assert not set("\u3164\ufe0f") & set(found.text)


@given(amount=st.integers(2**53 - 5, 2**70), by=st.integers(1, 5))
def test_no_edit_of_a_large_number_is_lost(amount: int, by: int) -> None:
    found = ShownCall.of(ToolCall(id="c", name="f", arguments=json.dumps({"amount": amount})))
    assert found.editable is not None
    edited = type(found.editable["amount"])(amount + by)
    assert changed({"amount": edited}, found.editable, found.arguments) == {"amount": edited}
    assert changed(found.editable, found.editable, found.arguments) is None


# -- what was put before a person stays with that person -----------------------------------------------------


@pytest.mark.parametrize("approve", [None, False, ["send_mail"], lambda _name, _arguments: False])
def test_a_call_that_a_person_was_asked_about_needs_one_whatever_the_dag_says_now(
    approve: Any,
) -> None:
    assert calls_to_approve([REFUND, BROKEN], approve, asked=[digest(REFUND)])[0] == REFUND
