# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.cut import cut_steps, size_of

PNG = b"\x89PNG\r\n\x1a\n"


def picture(size: int) -> dict[str, Any]:
    result = base64.b64encode(PNG + b"\0" * (size - len(PNG))).decode()
    return {"id": f"ig_{size}", "type": "image_generation_call", "details": {"result": result}}


def search(size: int) -> dict[str, Any]:
    return {
        "id": f"fs_{size}",
        "type": "file_search_call",
        "details": {"results": [{"text": "a b " * (size // 4)}]},
    }


def test_a_picture_gives_way_to_its_size_and_type_and_the_rest_stays() -> None:
    result: dict[str, Any] = {"output_text": "x", "steps": [search(5_000), picture(20_000), search(4_000)]}
    before = copy.deepcopy(result)
    assert cut_steps(result, limit=12_000) == ["(image/png, 20000 bytes, not in XCom)"]
    assert result["steps"][1] == {
        **before["steps"][1],
        "details": {"result": "(image/png, 20000 bytes, not in XCom)"},
    }
    assert [result["steps"][0], result["steps"][2]] == [before["steps"][0], before["steps"][2]]


def test_no_more_is_left_out_than_it_takes_and_the_largest_first() -> None:
    result = {"steps": [picture(3_000), picture(9_000), search(2_000)]}
    before = copy.deepcopy(result)
    assert len(cut_steps(result, limit=8_000)) == 1
    assert [result["steps"][0], result["steps"][2]] == [before["steps"][0], before["steps"][2]]


def test_the_largest_details_give_way_after_the_pictures() -> None:
    result = {"steps": [search(3_000), search(9_000), picture(2_000)]}
    left_out = cut_steps(result, limit=4_000)
    assert left_out == [
        "(image/png, 2000 bytes, not in XCom)",
        "the details of file_search_call fs_9000 (9027 bytes)",
    ]
    assert [bool(step["details"]) for step in result["steps"]] == [True, False, True]


def test_a_large_text_is_never_cut() -> None:
    result: dict[str, Any] = {"output_text": base64.b64encode(b"x" * 9_000).decode(), "steps": [search(100)]}
    assert len(cut_steps(result, limit=1_000)) == 1
    assert len(result["output_text"]) == 12_000


@given(
    steps=st.lists(st.integers(10, 9_000).map(picture) | st.integers(0, 9_000).map(search), max_size=6),
    limit=st.integers(100, 20_000),
)
def test_what_is_left_fits_and_what_fits_is_left(steps: list[dict[str, Any]], limit: int) -> None:
    result = {"steps": copy.deepcopy(steps)}
    left_out = cut_steps(result, limit=limit)
    if size_of({"steps": steps}) <= limit:
        assert not left_out
        assert result["steps"] == steps
    else:
        bare = {"steps": [{**step, "details": {}} for step in steps]}
        assert size_of(result) <= max(limit, size_of(bare))
        assert left_out or not steps
    assert [{**step, "details": {}} for step in result["steps"]] == [
        {**step, "details": {}} for step in steps
    ]
