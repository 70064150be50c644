# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.output_paths import (
    MAX_SEGMENT,
    file_segments,
    known_ending,
    segment,
    task_segments,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ask", "ask"),
        ("manual__2026-11-21T00:00:00+00:00", "manual__2026-11-21T00=3A00=3A00=2B00=3A00"),
        ("../x", "=2E.=2Fx"),
        (".hidden", "=2Ehidden"),
        ("ä", "=C3=A4"),
    ],
)
def test_a_text_is_one_part_of_a_path(text: str, expected: str) -> None:
    assert segment(text) == expected


@given(st.text(), st.text())
def test_two_texts_never_have_the_same_name(one: str, other: str) -> None:
    assert 0 < len(segment(one)) <= MAX_SEGMENT
    assert (segment(one) == segment(other)) == (one == other)


def test_what_is_too_long_has_a_hash_and_keeps_its_ending() -> None:
    long, other = segment("a" * 200 + ".png"), segment("a" * 201 + ".png")

    assert len(long) == MAX_SEGMENT
    assert long.endswith(".png")
    assert "==" in long
    assert long != other
    assert "." not in segment("a" * 200 + "." + "b" * 20)


def test_a_mapped_task_has_a_folder_for_each_index() -> None:
    names = {"dag_id": "a_dag", "run_id": "r", "task_id": "ask"}

    assert task_segments(**names, map_index=-1) == ("a_dag", "r", "ask")
    assert task_segments(**names, map_index=0) == ("a_dag", "r", "ask", "0")


@pytest.mark.parametrize(
    ("name", "shows_name", "expected"),
    [
        ("/tmp/report.PDF", True, "report.PDF"),  # noqa: S108 - as a model writes it
        ("C:\\charts\\a.png", True, "a.png"),
        ("", True, "file"),
        ("secret plan.PNG", False, "file.png"),
        ("a.secret", False, "file"),
    ],
)
def test_a_file_lies_in_a_folder_of_its_id(name: str, expected: str, *, shows_name: bool) -> None:
    found = file_segments(file_id="file_1", name=name, shows_name=shows_name)

    assert found == ("files", "file_1", expected)


def test_only_an_ending_of_a_common_type_is_known() -> None:
    assert [known_ending(name) for name in ("a.csv", "a.CSV", "a.of_mine", "a")] == [".csv", ".csv", "", ""]
