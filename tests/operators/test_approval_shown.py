# SPDX-License-Identifier: Apache-2.0
"""What the page of calls shows to a person: neither less than is done, nor secrets, nor a false title."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.tool_calls import approval_text
from airflow_provider_openai_runs.tool_calls.approval import ApprovalDecision
from airflow_provider_openai_runs.tool_calls.approval_form import changed
from airflow_provider_openai_runs.tool_calls.approval_page import ApprovalPage
from airflow_provider_openai_runs.tool_calls.approval_shown import ShownCall
from tests.support import approval_pages
from tests.support.approval_pages import BROKEN, MAIL, MCP, REFUND, RUN, decided

page_of = approval_pages.page_of


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
@example(amount=2**53, by=1)
def test_no_edit_of_a_large_number_is_lost(amount: int, by: int) -> None:
    found = ShownCall.of(ToolCall(id="c", name="f", arguments=json.dumps({"amount": amount})))
    assert found.editable is not None
    edited = type(found.editable["amount"])(amount + by)
    assert changed({"amount": edited}, found.editable, found.arguments) == {"amount": edited}
    assert changed(found.editable, found.editable, found.arguments) is None
