# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk import inputs
from airflow_provider_openai_runs.bulk.head import TaskHead, begin
from airflow_provider_openai_runs.bulk.inputs import BulkInput, open_input
from airflow_provider_openai_runs.bulk.item_request import ItemRequest
from airflow_provider_openai_runs.bulk.storage import HEAD, StorageFolder
from airflow_provider_openai_runs.runs.errors import RunRequestError, RunStorageError
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.storage import OutputStore

LOG: Any = logging.getLogger(__name__)


class LazySequence(Sequence[str]):
    """What Airflow hands over of a mapped task: each slice is asked for."""

    def __init__(self, count: int) -> None:
        self.length = count
        self.asked = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Any) -> Any:
        self.asked += 1
        assert isinstance(key, slice), "an item at a time is asked for"
        return [f"text {number}" for number in range(*key.indices(self.length))]


def _file(folder: Path, content: str, name: str = "in.jsonl") -> str:
    (folder / name).write_text(content)
    return str(folder / name)


def test_the_rows_of_a_file_can_be_read_again_and_again(tmp_path: Path) -> None:
    source = open_input(input_path=_file(tmp_path, '"a"\n"b"\n'), log=LOG)
    first = source.rows()
    assert next(first).values == {"input": "a"}
    assert [row.values for row in source.rows()] == [{"input": "a"}, {"input": "b"}]
    assert [row.values for row in first] == [{"input": "b"}]


def test_what_a_mapped_task_has_returned_is_asked_for_in_slices_and_once() -> None:
    items = LazySequence(250)
    source = open_input(items=items, log=LOG)
    assert source.head.rows == 250
    assert [row.values for row in source.rows()][-1] == {"input": "text 249"}
    assert len([*source.rows()]) == 250
    assert items.asked == 3


def test_an_item_that_no_json_can_hold_is_read_all_the_same() -> None:
    circular: list[Any] = []
    circular.append(circular)
    source = open_input(items=[{1: "a", "b": 2}, {("k",): 1}, circular, "y"], log=LOG)
    assert [row.number for row in source.rows()] == [0, 1, 2, 3]


@pytest.mark.parametrize("items", [LazySequence(5_001), ["x" * 1_000_000] * 6])
def test_a_list_that_is_too_large_for_airflow_is_an_error_that_names_input_path(items: Any) -> None:
    with pytest.raises(RunRequestError, match="give input_path"):
        open_input(items=items, log=LOG)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "Give one of items and input_path"),
        ({"items": [], "input_path": "/x.csv"}, "Give one of items and input_path"),
        ({"items": "['a']"}, "items is str: must be a list"),
        ({"items": {"a": 1}}, "items is dict: must be a list"),
        ({"input_path": "/no/such/file.csv"}, "there is no such file"),
        ({"input_path": "/no/such/file.xlsx"}, r"must end in \.jsonl, \.csv or \.parquet"),
        ({"input_path": "relative.csv"}, "must be a URI"),
    ],
)
def test_an_input_that_cannot_be_read_is_an_error_before_anything_is_sent(
    arguments: dict[str, Any], error: str
) -> None:
    with pytest.raises(RunRequestError, match=error):
        open_input(**arguments, log=LOG)


def _request(values: Mapping[str, Any]) -> RunRequest:
    names = frozenset({"input", "model", "temperature", "metadata"})
    return ItemRequest(arguments={"model": "m", "metadata": {"team": "a"}}, names=names)(values)


def test_the_arguments_of_a_row_take_the_place_of_the_operators() -> None:
    own = {"model": "m", "metadata": {"team": "a"}, "background": True, "store": True}
    assert _request({"input": "Why?"}).body == {"input": "Why?", **own}
    assert _request({"input": "Why?", "model": "", "metadata": None}).body == {"input": "Why?", **own}
    assert _request({"input": "x", "model": "other"}).body == {"input": "x", **own, "model": "other"}


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (
            {"input": "x", "temprature": 1},
            "'temprature' is no argument of a response; did you mean 'temperature'",
        ),
        ({"input": "x", "temperature": 3}, "temperature=3: must be between 0 and 2"),
        ({"input": "x", "conversation": "conv_1"}, "conversation is refused"),
        ({"model": "m"}, "input=None: is required"),
    ],
)
def test_a_row_that_cannot_be_sent_is_an_error_that_names_the_argument(
    row: dict[str, Any], error: str
) -> None:
    with pytest.raises(RunRequestError, match=error):
        _request(row)


def test_what_a_row_says_of_its_text_leaves_the_type_of_the_answer() -> None:
    typed = {"type": "json_schema", "name": "answer"}
    request_of = ItemRequest(
        arguments={"model": "m", "output_format": typed}, names=frozenset({"input", "text"})
    )

    body = request_of({"input": "Why?", "text": {"verbosity": "low"}}).body
    assert body["text"] == {"verbosity": "low", "format": typed}
    with pytest.raises(RunRequestError, match=r"output_type sets text\['format'\]"):
        request_of({"input": "Why?", "text": {"format": {"type": "text"}}})


def test_a_row_that_may_have_a_run_from_an_earlier_task_is_left_out(tmp_path: Path) -> None:
    lines = [
        {"input": "failed", "_failure": {"row": 4, "error": "It failed."}},
        {"input": "lost", "_failure": {"row": 5, "error": "No answer.", "token": "t/1"}},
        {"input": "going", "_failure": {"row": 6, "error": "Not ended.", "run": "resp_1"}},
    ]
    path = _file(tmp_path, "\n".join(map(json.dumps, lines)))
    assert [row.number for row in open_input(input_path=path, log=LOG).rows()] == [0]
    again = open_input(input_path=path, on_lost_create="resubmit", log=LOG)
    assert [row.number for row in again.rows()] == [0, 1, 2]


@pytest.fixture
def folder(tmp_path: Path) -> StorageFolder:
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)
    return StorageFolder.of_task(str(tmp_path / "out"), ti=ti, generation=0, log=LOG)


def _head(source: BulkInput) -> TaskHead:
    return TaskHead(conn_id="c", input=source.head, began_at=7.0, fingerprint={"model": "abc"})


def test_a_retry_goes_on_with_the_input_that_the_first_attempt_has_read(
    tmp_path: Path, folder: StorageFolder
) -> None:
    path = _file(tmp_path, '"a"')
    first = begin(folder, _head(open_input(input_path=path, log=LOG)))
    Path(path).touch()
    later = TaskHead(
        conn_id="other", input=open_input(input_path=path, log=LOG).head, began_at=9.0, fingerprint={}
    )
    assert begin(folder, later) == first


@pytest.mark.parametrize("kind", ["file", "list"])
def test_an_input_that_has_changed_is_an_error_that_says_to_clear(
    tmp_path: Path, folder: StorageFolder, kind: str
) -> None:
    def opened(text: str) -> BulkInput:
        if kind == "list":
            return open_input(items=[text], log=LOG)
        return open_input(input_path=_file(tmp_path, json.dumps(text)), log=LOG)

    begin(folder, _head(opened("a")))
    with pytest.raises(RunRequestError, match=r"has changed .*sent nothing.*clear the task"):
        begin(folder, _head(opened("b")))


def test_a_head_that_is_damaged_is_never_a_first_attempt(tmp_path: Path, folder: StorageFolder) -> None:
    source = open_input(items=["a"], log=LOG)
    folder.write(b'{"conn_id": 1}', HEAD)
    with pytest.raises(RunRequestError, match="Clear the task"):
        begin(folder, _head(source))


def test_storage_that_fails_says_so_and_is_not_an_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_input(input_path=_file(tmp_path, '"a"'), log=LOG)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Forbidden")

    with monkeypatch.context() as patch:
        patch.setattr(type(OutputStore(str(tmp_path), log=LOG)._fs), "open", refuse)
        with pytest.raises(RunStorageError, match="Forbidden"):
            [*source.rows()]
    (tmp_path / "in.jsonl").unlink()
    with pytest.raises(RunStorageError, match="the file is gone"):
        [*source.rows()]


class _Broken(io.BytesIO):
    def readline(self, *_: Any) -> bytes:
        raise OSError("Connection reset")


def test_a_file_that_breaks_off_in_the_middle_is_a_failure_of_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_input(input_path=_file(tmp_path, '"a"'), log=LOG)
    monkeypatch.setattr(OutputStore, "open", lambda *_: _Broken())
    with pytest.raises(RunStorageError, match="Connection reset"):
        [*source.rows()]


def test_the_hash_of_a_list_says_nothing_of_its_prompts() -> None:
    head = open_input(items=["secret prompt"], log=LOG).head
    assert "secret" not in json.dumps(head.to_json())
    assert inputs.InputHead.from_json(head.to_json()) == head
