# SPDX-License-Identifier: Apache-2.0
"""
The rows of a bulk task's input, one after another: a list, or a file in one of four forms.

Nothing of a file is kept: a hundred thousand rows take the memory of one. A row that cannot be read is a row
with an error, so that the others go on; a file that cannot be read is an error.
"""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, Any

from airflow_provider_openai_runs.bulk.columns import check_columns, with_objects
from airflow_provider_openai_runs.bulk.events import Asked
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.ceiling import Amount
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.text import encodable, message_text

#: Longer ones are failed items: a line without an end would fill the memory.
MAX_ROW_BYTES = 16 * 1024 * 1024
#: Characters of a label, which the journal keeps, too.
MAX_CUSTOM_ID = 512
#: The path of the API that a line of a batch file may name.
_ENDPOINT = "/v1/responses"
#: Rows and bytes of a Parquet file that are read at once.
_PARQUET_ROWS, _PARQUET_PIECE = 200, 1024 * 1024
#: The key of a line in ``failed.jsonl`` that says why the item is in there. Stored, so it stays.
FAILURE = "_failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One row of an input.

    :param number: its place, from 0; it names the item.
    :param custom_id: the label that the input gives it.
    :param values: as the input has them: the columns of a table, or the keys of an object.
    :param error: why it cannot be sent.
    :param asked: what the price of its run goes by, where there are prices.
    :param reserved: what its run may take at most, where there is a ceiling.
    :param failure: of a row of ``failed.jsonl``: why the item is in there.
    """

    number: int
    custom_id: str | None = None
    values: Mapping[str, Any] | None = None
    error: str | None = None
    asked: Asked | None = None
    reserved: Amount | None = None
    failure: Mapping[str, Any] | None = None

    @property
    def may_have_run(self) -> bool:
        """Whether an earlier task may have created a run for it, whose end nobody knows."""
        return self.failure is not None and any(self.failure.get(name) for name in ("token", "run", "batch"))

    def to_failed_line(self, failure: Mapping[str, Any]) -> bytes:
        """
        Return its line in ``failed.jsonl``.

        :param failure: ``row`` and ``error``; ``token`` of a create, or id of a ``run`` or a ``batch``, that
            may be going.
        """
        label = {} if self.custom_id is None else {"custom_id": self.custom_id}
        if self.values is not None:
            with suppress(TypeError, ValueError, RecursionError):  # what no JSON can hold was never sent
                return _line({**self.values, **label, FAILURE: failure})
        return _line({**label, FAILURE: {**failure, "unread": True}})


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str).encode() + b"\n"


def of_items(items: Iterable[Any]) -> Iterator[Row]:
    """Yield the rows of a list of texts, or of dicts of arguments."""
    for number, item in enumerate(items):
        if isinstance(item, str):
            yield Row(number=number, values={"input": item})
        else:
            yield _of_object(number, item)


def check_form(name: str) -> None:
    """
    See whether a file is of a form that can be read here, before anything is paid for.

    :raises RunRequestError: if not.
    """
    check_ending(name)
    if _ending(name) == "parquet":
        parquet_module()


def check_ending(name: str) -> None:
    """Raise a RunRequestError unless the ending of a file names a form that can be read here."""
    if _ending(name) not in _READERS:
        raise checks.invalid("input_path", name, "must end in .jsonl, .csv or .parquet")


def of_file(name: str, file: IO[bytes]) -> Iterator[Row]:
    """
    Yield the rows of a file.

    :param name: whose ending says the form: ``.jsonl`` (also of the Batch API), ``.csv`` or ``.parquet``.
    :raises RunRequestError: for another ending, and for a table that cannot be read at all.
    """
    check_form(name)
    yield from _READERS[_ending(name)](file)


def with_request(rows: Iterable[Row], request: Callable[[Mapping[str, Any]], Any] | None) -> Iterator[Row]:
    """
    Yield rows whose values are arguments.

    :param request: the user's function from a row's values to the arguments that differ, and ``custom_id`` if
        it likes; None where the values are arguments. What it raises is the row's error.
    """
    for row in rows:
        if request is None or row.values is None:
            yield row if row.values is None else replace(row, values=with_objects(row.values))
            continue
        try:
            label = {} if row.custom_id is None else {"custom_id": row.custom_id}
            # A copy: what it changes would be there in the next pass over the input, and in failed.jsonl.
            made = request({**copy.deepcopy(dict(row.values)), **label})
        except Exception as error:  # noqa: BLE001 # whatever a user's function raises
            kind = type(error).__name__
            yield replace(row, values=None, error=f"request() raised {kind}: {message_text(error)}")
            continue
        made = {"input": made} if isinstance(made, (str, list, tuple)) else made
        if isinstance(made, Mapping):
            yield _labelled(row, {str(key): item for key, item in made.items()})
        else:
            kind = type(made).__name__
            text = f"request() returned {kind}, and must return a dict of arguments, or the input"
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
    row = _of_object(number, value)
    values = dict(row.values or {})
    failure = values.pop(FAILURE, None)
    if isinstance(failure, Mapping):
        if not failure.get("unread"):
            return replace(row, values=values, failure=failure)
        why = message_text(failure.get("error") or "It could not be read")
        return replace(row, values=None, error=why, failure=failure)
    if values.get("method") == "POST" and isinstance(values.get("url"), str) and "body" in values:
        return _of_batch_line(row, values)
    return row


def _of_batch_line(row: Row, values: Mapping[str, Any]) -> Row:
    if values["url"] != _ENDPOINT:
        error = f"url is {message_text(values['url'])}, and must be {_ENDPOINT}"
        return replace(row, values=None, error=error)
    if not isinstance(values["body"], Mapping):
        return replace(row, values=None, error="body must be an object")
    return replace(row, values=dict(values["body"]))


def _of_object(number: int, value: object) -> Row:
    if not isinstance(value, Mapping):
        return Row(number=number, error=f"The row is {type(value).__name__}, and must be an object or text")
    return _labelled(Row(number=number), {str(key): item for key, item in value.items()})


def _labelled(row: Row, values: dict[str, Any]) -> Row:
    """Return a row with values, of which the label is none; an empty one, as tables have it, is no label."""
    custom_id = values.pop("custom_id", None)
    if custom_id is None or custom_id == "":
        return replace(row, values=values)
    label = encodable(checks.as_text(custom_id))
    if len(label) > MAX_CUSTOM_ID:
        return replace(row, values=None, error=f"custom_id has more than {MAX_CUSTOM_ID} characters")
    return replace(row, values=values, custom_id=label)


def _of_csv(file: IO[bytes]) -> Iterator[Row]:
    # As spreadsheets write it: with a byte order mark.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    csv.field_size_limit(MAX_ROW_BYTES)
    # Strict: a quote that nobody closes would take all other rows into one.
    table = csv.DictReader(text, strict=True)
    try:
        check_columns(table.fieldnames or ())
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
    parquet = parquet_module()
    from pyarrow import ArrowInvalid  # noqa: PLC0415 # an extra

    try:
        number = 0
        # Read piece by piece: a row group may have a million rows.
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=_PARQUET_PIECE)
        check_columns(table.schema_arrow.names)
        for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
            yield from _of_batch(number, batch)
            number += batch.num_rows
    except ArrowInvalid as error:
        raise RunRequestError(f"The file is no Parquet: {message_text(error)}. Nothing was sent.") from None


def _of_batch(first: int, batch: Any) -> Iterator[Row]:
    """Read rows of Arrow's; a value that Python has no form for is the error of its row alone."""
    try:
        columns = batch.to_pylist()
    except (ValueError, ArithmeticError) as error:
        if batch.num_rows == 1:
            yield Row(number=first, error=f"The row has a value that cannot be read: {message_text(error)}")
            return
        for place in range(batch.num_rows):
            yield from _of_batch(first + place, batch.slice(place, 1))
        return
    for number, values in enumerate(columns, first):
        yield _of_object(number, values)


def parquet_module() -> Any:
    """
    Return pyarrow's module for Parquet.

    :raises RunRequestError: if it is not installed.
    """
    try:
        from pyarrow import parquet  # noqa: PLC0415 # an extra
    except ImportError:
        raise RunRequestError(
            "A .parquet file needs pyarrow: install airflow-provider-openai-runs[parquet]. Nothing was sent."
        ) from None
    return parquet


_READERS: dict[str, Callable[[IO[bytes]], Iterator[Row]]] = {
    "jsonl": _of_jsonl,
    "ndjson": _of_jsonl,
    "csv": _of_csv,
    "parquet": _of_parquet,
}


def _ending(name: str) -> str:
    return name.lower().rpartition(".")[2]
