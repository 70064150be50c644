# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.messages import checked_input
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.named_ids import check_is_no_result, named_id

RESULT: Any = {"ref": {"kind": "response"}, "id": "resp_1", "output_text": "Blue.", "usage": None}


@pytest.mark.parametrize("found", ["resp_1", "run/1?x y", "a.b", "..a", "none"])
def test_an_id_is_left_as_it_is(found: str) -> None:
    assert named_id("response_id", found) == found


@pytest.mark.parametrize("value", ["", " ", "None"])
def test_an_id_of_a_template_that_rendered_to_nothing_says_so(value: str) -> None:
    with pytest.raises(RunRequestError, match=r"must be the id of a run; if it comes from a template"):
        named_id("response_id", value)


@pytest.mark.parametrize("value", [None, 5, [], "a/../b", "./a", "a\nb", "x" * 5000])
def test_what_is_no_id_is_refused_by_its_argument(value: object) -> None:
    with pytest.raises(RunRequestError, match=r"^thread_id=.*must be the id of a thread\. Nothing was sent"):
        named_id("thread_id", value, of="thread")


def test_a_whole_result_in_place_of_a_value_names_the_value() -> None:
    for name, meant in (("ref", "ref"), ("input", "output_text")):
        with pytest.raises(RunRequestError, match=rf"^{name} is the whole result.*task.output\['{meant}'\]"):
            check_is_no_result(name, RESULT, meant=meant)
    with pytest.raises(RunRequestError, match="response_id is the whole result"):
        named_id("response_id", RESULT)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"ref": "{'kind': 'response'}"}, "a template makes text of it"),
        ({"ref": 5}, "must be a dict with 'kind' and 'id'"),
        ({"ref": {"id": "resp_1"}}, "which API"),
        ({"ref": {"kind": "response", "id": ""}}, "must be the id of a run"),
        ({"ref": {"kind": "response", "id": "None"}}, "must be the id of a run"),
        ({"ref": {"kind": "thread_run", "id": "run_1"}}, "lacks 'thread_id'"),
        ({"ref": {"kind": "thread_run", "id": "run_1", "thread_id": "a\n"}}, "the id of a thread"),
        ({"ref": RESULT}, "the whole result"),
        ({"response_id": "None"}, "rendered to nothing"),
        ({"run_id": "run_1"}, "needs the run's thread"),
        ({"run_id": "None", "thread_id": "thread_1"}, "run_id='None'"),
        ({"run_id": "thread_1:"}, "run_id=''"),
        ({}, "Name one run"),
    ],
)
def test_a_run_that_is_not_named_is_refused_and_nothing_sent(named: dict[str, Any], words: str) -> None:
    with pytest.raises(RunRequestError, match=words) as caught:
        RunRef.resolve(**named)
    assert str(caught.value).endswith("Nothing was sent.")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["a", "b"], "is a list of texts"),
        (("a",), "is a list of texts"),
        ({"role": "user", "content": "a"}, "is one message"),
        (RESULT, "the whole result"),
        ([{"role": "user", "content": " "}], "is blank"),
        ([{"role": "system", "content": " "}], "is blank"),
        ([{"role": "user", "content": [{"type": "input_text", "text": None}]}], "is blank"),
        ([[], [None, " "]], "is blank"),
    ],
)
def test_a_prompt_that_asks_nothing_or_too_much_at_once_is_refused(value: Any, words: str) -> None:
    with pytest.raises(RunRequestError, match=words):
        checked_input(value)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (5, "5"),
        ([1, 2], "[1, 2]"),
        ({"a": 1}, '{"a": 1}'),
        ([{"role": "user", "content": 5}], [{"role": "user", "content": "5"}]),
        (
            [{"type": "item_reference", "id": "x"}, {"role": "user", "content": {"a": 1}}],
            [{"type": "item_reference", "id": "x"}, {"role": "user", "content": '{"a": 1}'}],
        ),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": 5}, {"type": "input_image"}]}],
            [{"role": "user", "content": [{"type": "input_text", "text": "5"}, {"type": "input_image"}]}],
        ),
    ],
)
def test_what_a_template_has_rendered_natively_is_text_again(value: Any, sent: Any) -> None:
    assert checked_input(value) == sent
