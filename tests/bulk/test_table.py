# SPDX-License-Identifier: Apache-2.0
"""With the extra ``parquet``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import rows, table
from airflow_provider_openai_runs.bulk.rows import of_file
from airflow_provider_openai_runs.runs.errors import RunRequestError

pa: Any = pytest.importorskip("pyarrow")
RESULT = {
    "id": "resp_1",
    "status": "completed",
    "output_text": "étage",
    "output": {"team": "billing", "urgent": None},
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}


def test_results_are_one_table_with_a_row_an_item(tmp_path: Path) -> None:
    one = {**RESULT, "row": 0, "custom_id": "a", "state": "succeeded", "error": None}
    other: dict[str, Any] = {"row": 1, "custom_id": None, "state": "failed", "error": "It failed."}
    table.write(tmp_path / "results.parquet", iter([one, other] * 1_500))
    found = rows.parquet_module().read_table(tmp_path / "results.parquet").to_pylist()
    assert len(found) == 3_000
    assert json.loads(found[0].pop("output")) == RESULT["output"]
    assert found[0] == {
        "row": 0,
        "custom_id": "a",
        "state": "succeeded",
        "error": None,
        "cost": None,
        "refusal": None,
        "model": None,
        "id": "resp_1",
        "status": "completed",
        "output_text": "étage",
        "prompt_tokens": 2,
        "completion_tokens": 1,
        "total_tokens": 3,
    }
    assert (found[1]["row"], found[1]["error"], found[1]["id"]) == (1, "It failed.", None)


def test_text_that_no_table_can_hold_is_replaced(tmp_path: Path) -> None:
    result = {**RESULT, "row": 0, "custom_id": "a\ud800", "output": {"team": "b\udfff"}}
    table.write(tmp_path / "results.parquet", [result])
    [found] = rows.parquet_module().read_table(tmp_path / "results.parquet").to_pylist()
    assert found["custom_id"] == "a\ufffd"
    assert json.loads(found["output"]) == {"team": "b\ufffd"}


def test_a_table_without_results_is_a_table(tmp_path: Path) -> None:
    table.write(tmp_path / "results.parquet", [])
    assert rows.parquet_module().read_table(tmp_path / "results.parquet").num_rows == 0


def test_a_parquet_file_is_an_input_like_any_table() -> None:
    file = io.BytesIO()
    given = [{"custom_id": str(number), "text": f"ticket {number}"} for number in range(1_000)]
    rows.parquet_module().write_table(pa.Table.from_pylist(given), file)
    file.seek(0)
    found = [*of_file("tickets.parquet", file)]
    assert [row.number for row in found] == [*range(1_000)]
    assert (found[-1].custom_id, found[-1].values) == ("999", {"text": "ticket 999"})


def test_a_file_that_is_no_parquet_says_so() -> None:
    with pytest.raises(RunRequestError, match="is no Parquet"):
        [*of_file("tickets.parquet", io.BytesIO(b"id,text\n"))]
