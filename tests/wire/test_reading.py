# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.usage import Usage
from airflow_provider_openai_runs.wire import reading


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (1_700_000_000, 1_700_000_000),
        (1_700_000_000.9, 1_700_000_000),
        (1_700_000_000_123, 1_700_000_000),
        (1_700_000_000_123.5, 1_700_000_000),
        (0, None),
        (-5, None),
        (None, None),
        (True, None),
        ("2026-01-01T00:00:00Z", 1_767_225_600),
        ("2026-01-01T02:00:00.5+02:00", 1_767_225_600),
        ("2026-01-01T00:00:00", 1_767_225_600),
        ("1700000000", 1_700_000_000),
        ("1700000000123.5", 1_700_000_000),
        ("yesterday", None),
        ("", None),
        ("nan", None),
        ("9" * 5000, None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        ({}, None),
    ],
)
def test_a_time_is_whole_seconds_or_nothing(value: object, found: int | None) -> None:
    assert reading.unix_time(value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [(5, 5), (5.0, 5), (0, 0), (5.5, None), (True, None), ("5", None), (1e300, None), (float("nan"), None)],
)
def test_a_count_is_whole_or_nothing(value: object, found: int | None) -> None:
    assert reading.as_int(value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [("run_1", "run_1"), (7, "7"), ("", ""), (None, ""), (True, ""), ({}, ""), ([], ""), (1.5, "")],
)
def test_an_id_is_text_or_a_number(value: object, found: str) -> None:
    assert reading.identifier(value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [('{"a": 1}', '{"a": 1}'), ({"a": 1}, '{"a": 1}'), ([1], "[1]"), (None, ""), ("", ""), (False, "false")],
)
def test_arguments_of_a_call_are_json_text(value: object, found: str) -> None:
    assert reading.json_text(value) == found


def test_arguments_that_are_an_abyss_are_still_text() -> None:
    abyss: list[Any] = []
    for _ in range(100_000):
        abyss = [abyss]
    assert len(json.loads(reading.json_text(abyss))) == 1


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 4}, (1, 2, 4)),
        ({"input_tokens": 1, "output_tokens": 2}, (1, 2, 3)),
        ({"prompt_tokens": None, "input_tokens": 1, "output_tokens": 2.0}, (1, 2, 3)),
        ({"total_tokens": 9}, (0, 0, 9)),
        ({"input_tokens": 4, "output_tokens": 2, "total_tokens": 0}, (4, 2, 6)),
        ({"input_tokens": "4", "output_tokens": "2", "total_tokens": "6"}, (4, 2, 6)),
        ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, (0, 0, 0)),
        ({"prompt_tokens": 0, "input_tokens": 5, "output_tokens": 4}, (5, 4, 9)),
        ({"total_tokens": 9, "input_tokens": 4}, (4, 5, 9)),
        ({"total_tokens": 9, "input_tokens": -1, "output_tokens": 2}, (7, 2, 9)),
        ({"prompt_tokens": 4, "completion_tokens": 2**70, "total_tokens": 6}, (4, 2, 6)),
        ({"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": -1}, (4, 2, 6)),
    ],
)
def test_usage_is_read_under_the_names_of_either_api(value: object, found: tuple[int, int, int]) -> None:
    prompt, completion, total = found
    assert reading.usage(value) == Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=total
    )


@pytest.mark.parametrize(
    ("details", "found"),
    [
        # As OpenAI's responses, its thread runs (with their slip of the pen), and chat completions have it.
        (
            {
                "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
                "output_tokens_details": {"reasoning_tokens": 3},
            },
            (5, 2, 3),
        ),
        (
            {
                "prompt_token_details": {"cached_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            (5, None, 0),
        ),
        ({"prompt_tokens_details": {"cached_tokens": 5.0}}, (5, None, None)),
        ({"input_tokens_details": None, "output_tokens_details": []}, (None, None, None)),
        ({"input_tokens_details": {"cached_tokens": "5"}}, (5, None, None)),
        ({"input_tokens_details": {"cached_tokens": "five"}}, (None, None, None)),
        ({"cache_read_input_tokens": 5, "cache_creation_input_tokens": 2}, (5, 2, None)),
        ({"input_tokens_details": {"cached_tokens": -5, "cache_write_tokens": 2**64}}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_what_tokens_were_cached_or_thought_is_read_and_not_guessed(
    details: dict[str, Any], found: tuple[int | None, ...]
) -> None:
    usage = reading.usage({"total_tokens": 9, **details})
    assert usage is not None
    assert (usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == found


def test_what_a_cache_brought_beside_the_prompt_is_of_the_prompt_where_it_cannot_be_within_it() -> None:
    beside = {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11, "cache_read_input_tokens": 90}
    within = {**beside, "cache_read_input_tokens": 9}
    assert reading.usage(beside) == Usage(
        prompt_tokens=100, completion_tokens=1, total_tokens=101, cached_tokens=90
    )
    assert reading.usage(within) == Usage(
        prompt_tokens=10, completion_tokens=1, total_tokens=11, cached_tokens=9
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        "12",
        {"prompt_tokens": "one"},
        {"cost": 5},
        {"total_tokens": -1},
        {"total_tokens": 2**64},
    ],
)
def test_usage_that_is_missing_is_not_zero(value: object) -> None:
    assert reading.usage(value) is None


@pytest.mark.parametrize("value", [None, [], "text", 5, [["a"]]])
def test_what_is_no_object_says_nothing(value: object) -> None:
    assert reading.object_of(value) == {}
    assert reading.objects_of(value) == []
    assert reading.optional_object(value) is None
    assert reading.text_pairs(value) == {}


def test_objects_are_picked_out_of_what_stands_around_them() -> None:
    assert reading.object_of({"a": 1}) == {"a": 1}
    assert reading.objects_of([1, {"a": 1}, None]) == [{"a": 1}]
    assert reading.optional_object({}) is None
    assert reading.optional_object({"a": 1}) == {"a": 1}
    assert reading.text_pairs({"a": "b", "c": 5, "d": None}) == {"a": "b"}


@pytest.mark.parametrize("value", ["", None, 5, []])
def test_text_says_something_or_is_nothing(value: object) -> None:
    assert reading.text(value) is None
    assert reading.text("x") == "x"


@pytest.mark.parametrize("data", [{}, {"id": "", "status": ""}, {"id": None, "status": 5, "detail": "x"}])
def test_an_answer_without_a_run_is_unreadable_and_says_what_there_was(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no run id, only") as caught:
        reading.run_id(data)
    assert all(name in str(caught.value) for name in data)
    with pytest.raises(ValueError, match="no status, only"):
        reading.raw_status(data)


@pytest.mark.parametrize(
    ("raw_status", "found"),
    [
        ("COMPLETED", "completed"),
        ("Canceled", "cancelled"),
        ("succeeded", "completed"),
        ("error", "failed"),
        ("in_progress", "in_progress"),
        ("Paused by Ops", "Paused by Ops"),
    ],
)
def test_a_status_is_known_by_other_names_of_the_same_meaning(raw_status: str, found: str) -> None:
    assert reading.raw_status({"status": raw_status}) == found


def test_the_id_of_a_run_may_be_a_number() -> None:
    assert reading.run_id({"id": 17}) == "17"
