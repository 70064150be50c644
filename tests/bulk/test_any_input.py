# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in an input, its rows are numbered one after another, and what failed can be read again."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.bulk.rows import FAILURE, Row, of_file, of_items
from airflow_provider_openai_runs.runs.errors import RunRequestError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
LINES = st.lists(
    st.sampled_from([b"{}", b'"a"', b"{", b'{"custom_id":1}', b"\xff", b"a,b,c", b"", b'"', b"\0"])
)


@given(
    value=st.dictionaries(st.text().filter(lambda key: key not in {"custom_id", FAILURE}), JSON, max_size=4)
)
def test_what_failed_is_read_again_as_it_was(value: dict[str, Any]) -> None:
    [row] = of_items([value])
    failure = {"row": 7, "error": "It failed."}
    [again] = of_file("failed.jsonl", io.BytesIO(row.to_failed_line(failure)))
    assert again == Row(number=0, values=row.values, failure=failure)


@given(
    content=st.binary(max_size=200) | LINES.map(b"\n".join) | LINES.map(b"\r\n".join),
    name=st.sampled_from(["in.jsonl", "in.csv"]),
)
def test_any_file_is_rows_or_an_error_that_says_why(content: bytes, name: str) -> None:
    rows: list[Row] = []
    try:
        rows.extend(of_file(name, io.BytesIO(content)))
    except RunRequestError as error:
        assert "must be CSV" in str(error)  # noqa: PT017 # it need not be raised
    assert [row.number for row in rows] == [*range(len(rows))]
    assert all((row.values is None) == (row.error is not None) for row in rows)
