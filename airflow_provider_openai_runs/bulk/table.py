# SPDX-License-Identifier: Apache-2.0
"""The results of a bulk task as one Parquet file, with the extra ``parquet``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_provider_openai_runs.bulk.rows import parquet_module
from airflow_provider_openai_runs.runs.text import encodable

#: Rows that are held in memory to be written, and that one row group has.
_ROWS = 1_000
_TEXTS = ("custom_id", "state", "error", "id", "status", "model", "output_text", "output", "refusal", "cost")
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")


def is_possible() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def write(path: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """
    Write results as a table: a row an item, in no promised order; ``output`` is JSON.

    :param results: as ``read_results`` yields them.
    :raises RunRequestError: without pyarrow.
    """
    parquet = parquet_module()
    import pyarrow as pa  # noqa: PLC0415 # an extra

    numbers = [("row", pa.int64()), *((name, pa.int64()) for name in _TOKENS)]
    schema = pa.schema([*numbers[:1], *((name, pa.string()) for name in _TEXTS), *numbers[1:]])
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in _chunks(map(_row, results)):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    output = result.get("output")
    usage = result.get("usage") or {}
    return {
        "row": result["row"],
        **{name: _text(result.get(name)) for name in _TEXTS},
        "output": None if output is None else encodable(json.dumps(output, ensure_ascii=False)),
        **{name: usage.get(name) for name in _TOKENS},
    }


def _text(value: Any) -> Any:
    # What an earlier version has written may hold what no table can.
    return encodable(value) if isinstance(value, str) else value


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(rows, _ROWS)):
        yield chunk
