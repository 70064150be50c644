# SPDX-License-Identifier: Apache-2.0
"""
The rows of a bulk task's input, one after another: a list, or a file in one of four forms.

Nothing of a file is kept: a hundred thousand rows take the memory of one. A row that cannot be read is a row
with an error, so that the others go on; a file that cannot be read is an error.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.text import message_text

#: Longer ones are failed items: a line without an end would fill the memory.
MAX_ROW_BYTES = 16 * 1024 * 1024
#: The path of the API that a line of a batch file may name.
_ENDPOINT = "/v1/responses"
#: Keys of a line in ``failed.jsonl`` that are no arguments.
_ABOUT_FAILURE = frozenset({"row", "error", "lost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One row of an input.

    :param number: its place, from 0; it names the item.
    :param custom_id: the label that the input gives it.
    :param values: as the input has them: the columns of a table, or the keys of an object.
    :param error: why it cannot be sent.
    :param lost: of a row of ``failed.jsonl`` whose create may have been accepted: the token and the reason.
    """

    number: int
    custom_id: str | None = None
    values: Mapping[str, Any] | None = None
    error: str | None = None
    lost: Mapping[str, Any] | None = None


def of_items(items: Iterable[Any]) -> Iterator[Row]:
    """Yield the rows of a list of texts, or of dicts of arguments."""
    for number, item in enumerate(items):
        if isinstance(item, str):
            yield Row(number=number, values={"input": item})
        else:
            yield _of_object(number, item)


def of_file(name: str, file: IO[bytes]) -> Iterator[Row]:
    """
    Yield the rows of a file.

    :param name: whose ending says the form: ``.jsonl`` (also of the Batch API), ``.csv`` or ``.parquet``.
    :raises RunRequestError: for another ending, and for a table that cannot be read at all.
    """
    ending = name.lower().rpartition(".")[2]
    readers: dict[str, Callable[[IO[bytes]], Iterator[Row]]] = {
        "jsonl": _of_jsonl,
        "ndjson": _of_jsonl,
        "csv": _of_csv,
        "parquet": _of_parquet,
    }
    if ending not in readers:
        raise checks.invalid("input_path", name, "must end in .jsonl, .csv or .parquet")
    yield from readers[ending](file)


def with_request(rows: Iterable[Row], request: Callable[[Mapping[str, Any]], Any] | None) -> Iterator[Row]:
    """
    Yield rows whose values are arguments.

    :param request: the user's function from a row's values to the arguments that differ; None where the
        values are arguments. What it raises is the row's error.
    """
    for row in rows:
        if request is None or row.values is None:
            yield row
            continue
        try:
            made = request(row.values)
        except Exception as error:  # noqa: BLE001 # whatever a user's function raises
            kind = type(error).__name__
            yield replace(row, values=None, error=f"request() raised {kind}: {message_text(error)}")
            continue
        made = {"input": made} if isinstance(made, str) else made
        if isinstance(made, Mapping):
            yield replace(row, values=made)
        else:
            text = (
                f"request() returned {type(made).__name__}, and must return a dict of arguments, or the input"
            )
            yield replace(row, values=None, error=text)


def with_unique_ids(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows; one whose ``custom_id`` an earlier row has gets an error."""
    known: dict[str, int] = {}
    for row in rows:
        if row.custom_id is not None:
            first = known.setdefault(row.custom_id, row.number)
            if first != row.number:
                text = f"custom_id {message_text(row.custom_id)} is that of row {first}, too"
                yield replace(row, values=None, error=text)
                continue
        yield row


def _of_jsonl(file: IO[bytes]) -> Iterator[Row]:
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_ROW_BYTES)
            yield Row(number=number, error=f"The row has more than {MAX_ROW_BYTES} bytes")
        elif not line.strip():
            continue
        else:
            yield _of_line(number, line)
        number += 1


def _of_line(number: int, line: bytes) -> Row:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(number=number, error=f"The row is no JSON: {message_text(error)}")
    if isinstance(value, str):
        return Row(number=number, values={"input": value})
    return _of_object(number, value)


def _of_object(number: int, value: object) -> Row:
    if not isinstance(value, Mapping):
        return Row(number=number, error=f"The row is {type(value).__name__}, and must be an object or text")
    values = {str(key): item for key, item in value.items()}
    custom_id = values.pop("custom_id", None)
    row = Row(number=number, custom_id=None if custom_id is None else checks.as_text(custom_id))
    lost = values.get("lost")
    if "body" in values and "url" in values:
        if values["url"] != _ENDPOINT:
            return replace(row, error=f"url is {message_text(values['url'])}, and must be {_ENDPOINT}")
        if not isinstance(values["body"], Mapping):
            return replace(row, error="body must be an object")
        values = dict(values["body"])
    values = {key: item for key, item in values.items() if key not in _ABOUT_FAILURE}
    return replace(row, values=values, lost=lost if isinstance(lost, Mapping) else None)


def _of_csv(file: IO[bytes]) -> Iterator[Row]:
    # As spreadsheets write it: with a byte order mark.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    csv.field_size_limit(MAX_ROW_BYTES)
    table = csv.DictReader(text)
    try:
        for number, columns in enumerate(table):
            if None in columns:
                yield Row(number=number, error="The row has more columns than the first line names")
            else:
                yield _of_object(number, columns)
    except (csv.Error, UnicodeError) as error:
        raise RunRequestError(
            f"The table cannot be read after line {table.line_num}: {message_text(error)}. "
            "It must be CSV in UTF-8."
        ) from None
    finally:
        text.detach()


def _of_parquet(file: IO[bytes]) -> Iterator[Row]:
    try:
        from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 # an extra
    except ImportError:
        raise RunRequestError(
            "A .parquet file needs pyarrow: install airflow-provider-openai-runs[parquet]. Nothing was sent."
        ) from None
    try:
        number = 0
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=1_000):
            for columns in batch.to_pylist():
                yield _of_object(number, columns)
                number += 1
    except ArrowInvalid as error:
        raise RunRequestError(f"The file is no Parquet: {message_text(error)}. Nothing was sent.") from None
