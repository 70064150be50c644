# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
CHECKS: list[Callable[[Any], Any]] = [
    lambda value: checks.text("some_name", value),
    lambda value: checks.flag("some_name", value),
    lambda value: checks.number("some_name", value, low=0, high=2),
    lambda value: checks.count("some_name", value),
    lambda value: checks.seconds("some_name", value),
    checks.completion_window,
    checks.metadata,
    lambda value: checks.mapping("some_name", value),
    lambda value: checks.sequence("some_name", value),
    lambda value: checks.json_object("some_name", value),
]


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(RunRequestError) as caught:
        check()
    assert not caught.value.retryable
    return str(caught.value)


@given(value=json_values)
def test_a_check_accepts_a_value_or_refuses_it_in_words(value: Any) -> None:
    for check in CHECKS:
        try:
            check(value)
        except RunRequestError as error:
            message = str(error)
            assert message.startswith(("some_name=", "completion_window=", "metadata"))
            assert message.endswith(" Nothing was sent.")
            assert len(message) < 600


@pytest.mark.parametrize("value", [0, 2, 1.5, "0.7", 2.0])
def test_a_number_within_bounds_is_accepted_also_as_text_of_a_template(value: object) -> None:
    assert checks.number("temperature", value, low=0, high=2) == float(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [3, -0.1, "2.01"])
def test_a_number_out_of_bounds_is_refused_with_the_bounds(value: object) -> None:
    message = refusal(lambda: checks.number("temperature", value, low=0, high=2))
    assert message == f"temperature={value!r}: must be between 0 and 2. Nothing was sent."


@pytest.mark.parametrize("value", [True, None, "warm", [], "nan", float("inf"), 10**400, "1e999"])
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    assert "must be a number" in refusal(lambda: checks.number("temperature", value, low=0, high=2))


@pytest.mark.parametrize(("value", "found"), [(1, 1), ("256", 256), (3.0, 3)])
def test_a_count_is_whole(value: object, found: int) -> None:
    counted = checks.count("max_tokens", value)
    assert counted == found
    assert isinstance(counted, int)


@pytest.mark.parametrize("value", [0, -5, 1.5, "0"])
def test_a_count_below_one_or_broken_is_refused(value: object) -> None:
    message = refusal(lambda: checks.count("max_tokens", value))
    assert message == f"max_tokens={value!r}: must be a whole number of at least 1. Nothing was sent."


def test_seconds_may_be_a_timedelta() -> None:
    assert checks.seconds("poll_interval", timedelta(minutes=2)) == 120
    assert checks.seconds("poll_interval", 0.5) == 0.5


@pytest.mark.parametrize("value", [0, -1, "0", timedelta(0), timedelta(seconds=-1)])
def test_no_time_at_all_is_refused(value: object) -> None:
    message = refusal(lambda: checks.seconds("poll_interval", value))
    assert message.startswith(f"poll_interval={value!r}: must be more than 0 seconds and at most")


def test_an_interval_may_have_its_own_floor() -> None:
    assert "more than 2 seconds" in refusal(lambda: checks.seconds("poll_interval", 2, above=2))


@pytest.mark.parametrize(("value", "found"), [(7200, 7200), ("7200", 7200), (timedelta(hours=2), 7200)])
def test_a_completion_window_is_seconds(value: object, found: float) -> None:
    assert checks.completion_window(value) == found


@pytest.mark.parametrize("value", ["2h", "24h", "soonest"])
def test_the_windows_of_other_apis_are_refused_by_name(value: str) -> None:
    message = refusal(lambda: checks.completion_window(value))
    assert message.startswith(f"completion_window={value!r}: must be seconds")
    assert "background_options" in message
    assert "batch" in message


@pytest.mark.parametrize("value", [-1, 0, "-3", timedelta(days=-1)])
def test_a_completion_window_in_the_past_is_refused(value: object) -> None:
    message = refusal(lambda: checks.completion_window(value))
    assert message.startswith(f"completion_window={value!r}: must be more than 0 seconds and at most")


def test_fifteen_pairs_of_metadata_are_the_users() -> None:
    pairs = {f"key{place}": "x" * 512 for place in range(15)}
    assert checks.metadata(pairs) == pairs


def test_a_sixteenth_pair_is_refused_because_the_token_needs_it() -> None:
    message = refusal(lambda: checks.metadata({f"key{place}": "x" for place in range(16)}))
    assert message.startswith("metadata={'key0': 'x'")
    assert "has 16 pairs" in message
    assert "at most 15 are yours" in message


@pytest.mark.parametrize("value", [None, "x" * 513, ["x" * 513]])
def test_metadata_that_is_not_short_text_is_refused(value: object) -> None:
    message = refusal(lambda: checks.metadata({"team": value}))
    assert message.startswith("metadata['team']=")
    assert repr(value)[:90] in message
    assert "must be text of at most 512 characters" in message


def test_metadata_becomes_the_text_that_it_was_before_it_was_rendered_natively() -> None:
    given = {"day": 20261126, "share": 0.5, "last": True, "rows": [1, "é"]}
    assert checks.metadata(given) == {"day": "20261126", "share": "0.5", "last": "True", "rows": '[1, "é"]'}


@pytest.mark.parametrize("key", [5, "", "k" * 65])
def test_metadata_keys_are_short_text(key: object) -> None:
    message = refusal(lambda: checks.metadata({key: "x"}))
    assert repr(key)[:60] in message
    assert "a key must be text of 1 to 64 characters" in message


def test_metadata_must_be_a_dict() -> None:
    assert refusal(lambda: checks.metadata("a=b")).startswith("metadata='a=b': must be a dict")


@given(value=st.dictionaries(st.text(), st.integers()))
def test_a_json_object_is_the_same_as_a_dict_and_as_its_text(value: dict[str, int]) -> None:
    assert checks.json_object("parameters", value) == value
    assert checks.json_object("parameters", json.dumps(value)) == value


@pytest.mark.parametrize("value", ["[]", "null", "{", "no json", [], 5, None, "[" * 100_000])
def test_what_is_no_json_object_is_refused(value: object) -> None:
    message = refusal(lambda: checks.json_object("parameters", value))
    assert message.startswith(f"parameters={value!r}"[:100])
    assert "must be a JSON object, as a dict or as its text" in message


@pytest.mark.parametrize("value", [".", "..", None, 5, ["thread_1"]])
def test_an_id_is_text_that_says_something(value: object) -> None:
    message = refusal(lambda: checks.text("thread_id", value))
    assert message == f"thread_id={value!r}: must be a non-empty string. Nothing was sent."


@pytest.mark.parametrize("value", ["", " ", "None", " None "])
@pytest.mark.parametrize("check", [lambda value: checks.text("model", value), checks.completion_window])
def test_what_a_template_has_made_of_nothing_is_refused_as_that(
    check: Callable[[object], object], value: str
) -> None:
    assert "if it comes from a template, that has rendered to nothing" in refusal(lambda: check(value))


def test_no_window_where_one_is_needed_is_refused_as_what_a_template_made_of_nothing() -> None:
    assert "rendered to nothing, or to None" in refusal(lambda: checks.completion_window(None))


@pytest.mark.parametrize("value", ["None", " None\n"])
def test_a_model_is_not_ordered_what_a_template_made_of_none(value: str) -> None:
    message = refusal(lambda: checks.free_text("instructions", value))
    assert message.startswith(f"instructions={value!r}: must be text; if it comes from a template")


@pytest.mark.parametrize("value", ["None of these colours, please", "", " ", "none"])
def test_instructions_may_be_blank_and_begin_as_they_like(value: str) -> None:
    assert checks.free_text("instructions", value) == value


@pytest.mark.parametrize("value", ["ab", b"ab", {"a": 1}, {1, 2}, None])
def test_a_list_is_a_list(value: object) -> None:
    assert f"tools={value!r}: must be a list" in refusal(lambda: checks.sequence("tools", value))
    assert checks.sequence("tools", (1, 2)) == [1, 2]


def test_a_long_value_is_cut_in_the_error() -> None:
    message = refusal(lambda: checks.mapping("text", "word " * 1000))
    assert len(message) < 200
    assert "…" in message


def test_a_key_inside_a_wrong_value_is_not_shown() -> None:
    message = refusal(lambda: checks.sequence("tools", {"headers": {"Authorization": "Bearer s3cr3tw0rd"}}))
    assert "s3cr3tw0rd" not in message
    assert "headers" in message


@pytest.mark.parametrize("value", [True, "True", " true "])
def test_what_a_template_rendered_to_true_is_true(value: object) -> None:
    assert checks.flag("store", value) is True


@pytest.mark.parametrize("value", [False, "False", "false"])
def test_what_a_template_rendered_to_false_is_false(value: object) -> None:
    assert checks.flag("store", value) is False


@pytest.mark.parametrize("value", ["", "no", 0, 1, None, []])
def test_what_is_neither_true_nor_false_is_refused(value: object) -> None:
    with pytest.raises(RunRequestError, match=r"store=.*must be true or false"):
        checks.flag("store", value)
