# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import rows as rows_module
from airflow_provider_openai_runs.bulk.rows import Row, of_file, of_items, with_request, with_unique_ids
from airflow_provider_openai_runs.runs.errors import RunRequestError

ITEMS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def _read(name: str, content: str | bytes) -> list[Row]:
    data = content.encode() if isinstance(content, str) else content
    return [*of_file(name, io.BytesIO(data))]


def test_a_list_of_texts_and_of_arguments_is_an_input() -> None:
    rows = [*of_items(["hello", {"input": "x", "temperature": 0, "custom_id": 7}, 5])]
    assert rows[0] == Row(number=0, values={"input": "hello"})
    assert rows[1] == Row(number=1, custom_id="7", values={"input": "x", "temperature": 0})
    assert rows[2].error == "The row is int, and must be an object or text"


def test_lines_of_json_are_read_and_a_bad_one_does_not_stop_the_others() -> None:
    rows = _read("in.jsonl", '{"input": "a"}\n\n{"input": \n"b"\n[1]\n{"input": "c", "custom_id": "x"}')
    assert [row.number for row in rows] == [0, 1, 2, 3, 4]
    assert rows[1].error is not None
    assert "no JSON" in rows[1].error
    assert rows[2].values == {"input": "b"}
    assert rows[3].error == "The row is list, and must be an object or text"
    assert rows[4] == Row(number=4, custom_id="x", values={"input": "c"})


def test_a_file_of_the_batch_api_is_read_as_it_is() -> None:
    line = {"custom_id": "r1", "method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": "a"}}
    chat = {**line, "url": "/v1/chat/completions"}
    rows = _read("batch.jsonl", "\n".join(map(json.dumps, [line, chat, {**line, "body": 1}])))
    assert rows[0] == Row(number=0, custom_id="r1", values={"model": "m", "input": "a"})
    assert rows[1].error == "url is /v1/chat/completions, and must be /v1/responses"
    assert rows[2].error == "body must be an object"


def test_a_file_of_failures_is_an_input_and_names_the_lost_creates() -> None:
    failures = [{"row": 17, "error": "failed"}, {"row": 18, "error": "no answer", "token": "t/1"}]
    given = [Row(number=0, custom_id="x", values={"row": 1, "error": "a column"}), Row(number=1, values={})]
    lines = [row.to_failed_line(failure) for row, failure in zip(given, failures, strict=True)]
    one, other = _read("failed.jsonl", b"".join(lines))
    assert one == replace(given[0], failure=failures[0])
    assert not one.may_have_run
    assert other.may_have_run


def test_a_row_that_could_not_be_read_is_not_read_from_the_file_of_failures_either() -> None:
    [row] = _read("failed.jsonl", Row(number=3).to_failed_line({"row": 3, "error": "The row is no JSON"}))
    assert (row.values, row.error) == (None, "The row is no JSON")


def test_a_row_that_no_json_can_hold_is_named_among_the_failures() -> None:
    circular: dict[str, Any] = {}
    circular["input"] = circular
    [row] = of_items([{**circular, "custom_id": "x"}])
    [again] = _read("failed.jsonl", row.to_failed_line({"row": 0, "error": "input is no text"}))
    assert (again.custom_id, again.values, again.error) == ("x", None, "input is no text")


def test_a_table_of_pages_is_no_file_of_the_batch_api() -> None:
    [row] = _read("pages.csv", "url,body,method\nhttps://example.com,<p>,POST")
    assert row.values == {"url": "https://example.com", "body": "<p>", "method": "POST"}


def test_a_line_without_an_end_is_one_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_ROW_BYTES", 100)
    rows = _read("in.jsonl", json.dumps("x" * 1_000) + "\n" + json.dumps("y"))
    assert rows[0].error == "The row has more than 100 bytes"
    assert rows[1].values == {"input": "y"}


def test_a_table_as_a_spreadsheet_writes_it_is_read() -> None:
    content = '\ufefftext,custom_id\r\n"two\nlines, and a comma",a\r\nétage,b\r\ntoo,many,columns\r\n'
    rows = _read("tickets.CSV", content)
    assert rows[0] == Row(number=0, custom_id="a", values={"text": "two\nlines, and a comma"})
    assert rows[1].values == {"text": "étage"}
    assert rows[2].error == "The row has more columns than the first line names"


def test_a_table_in_another_encoding_is_an_error_that_says_so() -> None:
    with pytest.raises(RunRequestError, match=r"after line .*It must be CSV in UTF-8"):
        _read("in.csv", b"text\n" + b"ok\n" * 5_000 + "caf\xe9\n".encode("latin-1"))


@pytest.mark.parametrize(("head", "name"), [("input,model,input", "input"), ("a,user,b,user,a", "user")])
def test_two_columns_of_a_name_are_refused_by_that_name(head: str, name: str) -> None:
    with pytest.raises(RunRequestError, match=rf"more than one column '{name}'.*Nothing was sent"):
        _read("in.csv", f"{head}\n1,2,3,4\n")


def test_columns_without_a_name_as_a_spreadsheet_leaves_them_are_no_fault() -> None:
    [row] = _read("in.csv", "input,,\nWhy?,,\n")
    assert row.values == {"input": "Why?", "": ""}


def test_two_columns_of_a_name_are_refused_in_parquet_too(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_arrays([["a"], ["b"]], names=["input", "input"]), tmp_path / "in.parquet")
    with (
        (tmp_path / "in.parquet").open("rb") as file,
        pytest.raises(RunRequestError, match="more than one column 'input'"),
    ):
        list(of_file("in.parquet", file))


@pytest.mark.parametrize(
    ("name", "written", "found"),
    [
        ("metadata", '{"team": "a", "n": 1}', {"team": "a", "n": 1}),
        ("reasoning", ' {"effort": "low"}', {"effort": "low"}),
        ("tools", '[{"type": "web_search"}]', [{"type": "web_search"}]),
        ("include", '["reasoning.encrypted_content"]', ["reasoning.encrypted_content"]),
        ("extra_body", '{"new": true}', {"new": True}),
        ("tool_choice", '{"type": "web_search"}', {"type": "web_search"}),
        ("tool_choice", "auto", "auto"),
        ("metadata", "team=a", "team=a"),
        ("metadata", "1", "1"),
        ("metadata", "{", "{"),
        ("metadata", "", ""),
        ("input", '[{"role": "user", "content": "Why?"}]', '[{"role": "user", "content": "Why?"}]'),
        ("instructions", '{"a": 1}', '{"a": 1}'),
        ("user", "[1]", "[1]"),
    ],
)
def test_json_in_a_table_is_the_object_of_an_argument_that_is_one(
    name: str, written: str, found: Any
) -> None:
    quoted = written.replace('"', '""')
    rows = _read("in.csv", f'{name},model\n"{quoted}",m\n')
    assert [row.values for row in with_request(rows, None)] == [{name: found, "model": "m"}]
    # What the user's function gets is what the table has.
    assert [row.values for row in with_request(rows, dict)] == [{name: written, "model": "m"}]


def test_a_quote_that_nobody_closes_takes_no_rows_with_it() -> None:
    rows = of_file("a.csv", io.BytesIO(b'input\nfirst\n"second\nthird\nfourth\n'))
    assert next(rows).values == {"input": "first"}
    with pytest.raises(RunRequestError, match="The table cannot be read after line"):
        next(rows)


def test_a_value_that_python_has_no_form_for_is_the_error_of_its_row(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    day = 86_400_000_000
    column = pa.array([0, 10_000 * 366 * day, day], type=pa.timestamp("us"))
    pq.write_table(pa.table({"input": ["a", "b", "c"], "at": column}), tmp_path / "in.parquet")
    with (tmp_path / "in.parquet").open("rb") as file:
        rows = list(of_file("in.parquet", file))
    assert [row.number for row in rows] == [0, 1, 2]
    assert [row.error is None for row in rows] == [True, False, True]
    assert "cannot be read" in (rows[1].error or "")
    assert rows[2].values is not None
    assert rows[2].values["input"] == "c"


def test_what_the_users_function_changes_is_a_copy() -> None:
    items = [{"input": "a", "tags": ["x"]}]

    def request(values: dict[str, Any]) -> str:
        values["tags"].append("y")
        return str(values["tags"])

    for _ in range(2):
        (row,) = with_request(of_items(items), request)  # type: ignore[arg-type]
        assert row.values == {"input": "['x', 'y']"}


def test_an_unknown_form_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(RunRequestError, match=r"must end in \.jsonl, \.csv or \.parquet"):
        _read("in.xlsx", b"")


def test_the_users_function_makes_the_arguments_and_its_errors_are_the_rows() -> None:
    def request(row: Mapping[str, Any]) -> Any:
        return {"a": {"input": "A"}, "b": "B", "c": 1, "e": ITEMS, "f": tuple(ITEMS)}[row["kind"]]

    rows = [*with_request(of_items([{"kind": kind} for kind in "abcdef"]), request)]
    assert rows[0].values == {"input": "A"}
    assert rows[1].values == {"input": "B"}
    assert rows[2].error == "request() returned int, and must return a dict of arguments, or the input"
    assert rows[3].error == "request() raised KeyError: 'd'"
    assert [row.values for row in rows[4:]] == [{"input": ITEMS}, {"input": tuple(ITEMS)}]


def test_a_label_without_an_end_is_a_failed_row() -> None:
    [row] = of_items([{"custom_id": "x" * 513, "input": "a"}])
    assert row.error == "custom_id has more than 512 characters"


def test_the_users_function_sees_and_makes_the_label() -> None:
    def request(row: Mapping[str, Any]) -> Any:
        return {"input": row["text"], "custom_id": f"T-{row['custom_id']}"}

    [row] = with_request(of_items([{"custom_id": 7, "text": "a"}]), request)
    assert row == Row(number=0, custom_id="T-7", values={"input": "a"})


def test_a_second_row_of_the_same_id_is_a_failed_one() -> None:
    rows = [*with_unique_ids(of_items([{"custom_id": "a"}, {}, {"custom_id": "a"}]))]
    assert [row.error for row in rows] == [None, None, "custom_id a is that of row 0, too"]


def test_a_label_that_no_database_can_hold_is_replaced_where_it_is_read() -> None:
    [row] = _read("in.jsonl", r'{"custom_id": "T\ud800", "input": "x"}')
    assert row.custom_id == "T\ufffd"
    [row] = [
        *with_request(_read("in.jsonl", '{"n": 1}'), lambda row: {"custom_id": "T\0", "input": row["n"]})
    ]
    assert row.custom_id == "T\ufffd"
