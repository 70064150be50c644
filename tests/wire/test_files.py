# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.files import RunFile, each_once, file_name
from airflow_provider_openai_runs.runs.inline import inline_content
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.text import visible
from airflow_provider_openai_runs.wire.protocol import ApiReply
from airflow_provider_openai_runs.wire.responses import WIRE as RESPONSES
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS

RESPONSE = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="c")
THREAD_RUN = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="c")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(100))
PICTURE = base64.b64encode(PNG).decode()


def response(*items: Any, **more: Any) -> Run:
    data = {"id": "resp_1", "status": "completed", "output": list(items), **more}
    return RESPONSES.retrieve(RESPONSE).read(ApiReply(data=data))


def message(*annotations: Any, text: str = "Here it is.") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": list(annotations)}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}


def shown(run: Run) -> list[dict[str, Any]]:
    """Return the files as XCom has them, without what is None."""
    files: list[dict[str, Any]] = run.to_xcom()["files"]
    assert all(
        set(file) == {"name", "media_type", "size", "file_id", "container_id", "uri"} for file in files
    )
    return [{name: value for name, value in file.items() if value is not None} for file in files]


CITED = {
    "type": "container_file_citation",
    "container_id": "cntr_1",
    "file_id": "cfile_1",
    "filename": "report.csv",
    "start_index": 0,
    "end_index": 0,
    "index": None,
}


@pytest.mark.parametrize(
    ("part", "file"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
            {"name": "msg_1_0.png", "media_type": "image/png", "size": len(PNG)},
        ),
        (
            {"type": "output_file", "file_id": "file_9", "filename": "a.txt"},
            {"name": "a.txt", "media_type": "text/plain", "file_id": "file_9"},
        ),
    ],
)
def test_a_part_of_a_message_may_be_a_file(part: dict[str, Any], file: dict[str, Any]) -> None:
    said = message() | {"content": [part]}
    assert shown(response(said)) == [file]
    assert shown(response(said | {"role": "user"})) == []


def test_a_picture_of_a_response_is_a_file_with_its_size_and_type() -> None:
    run = response({"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PICTURE})
    assert shown(run) == [{"name": "ig_1.png", "media_type": "image/png", "size": len(PNG)}]
    assert run.files[0].data == PICTURE
    assert PICTURE not in repr(run.files)


@pytest.mark.parametrize("result", [None, "", 5, []])
def test_a_picture_that_failed_is_no_file(result: Any) -> None:
    assert shown(response({"type": "image_generation_call", "id": "ig_1", "result": result})) == []


def test_a_file_of_a_container_is_found_in_the_annotation_and_counts_among_the_ids() -> None:
    tool = {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file_1"]}}
    run = response(message(CITED, CITED), tools=[tool])
    assert shown(run) == [
        {"name": "report.csv", "media_type": "text/csv", "file_id": "cfile_1", "container_id": "cntr_1"}
    ]
    assert run.file_ids == ("file_1", "cfile_1")


def test_pictures_among_the_outputs_of_code_are_files() -> None:
    outputs = [
        {"type": "logs", "logs": "a"},
        {"type": "image", "url": f"data:image/png;base64,{PICTURE}"},
        {"type": "image", "url": "https://files.example/plot.webp?sig=1"},
        {"type": "files", "files": [{"mime_type": "text/csv", "file_id": "file_2"}]},
    ]
    call = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "outputs": outputs}
    assert shown(response(call)) == [
        {"name": "ci_1_1.png", "media_type": "image/png", "size": len(PNG)},
        {"name": "plot.webp", "media_type": "image/webp"},
        {"media_type": "text/csv", "file_id": "file_2", "container_id": "cntr_1"},
    ]


def test_a_source_is_no_file_that_the_run_has_produced() -> None:
    cited = {"type": "file_citation", "file_id": "file_1", "filename": "a.pdf", "index": 3}
    run = response(message(cited, {"type": "file_path", "file_id": "file_2", "index": 0}))
    assert shown(run) == [{"file_id": "file_2"}]


@pytest.mark.parametrize(
    "outputs", [None, 5, "x", [None], [{"type": "image"}], [{"type": "image", "url": 5}]]
)
def test_outputs_of_any_form_are_read(outputs: Any) -> None:
    assert shown(response({"type": "code_interpreter_call", "outputs": outputs})) == []


def thread_run(drive: Any, *messages: Any, steps: list[Any] | None = None) -> Run:
    read = THREADS.retrieve(THREAD_RUN).read(ApiReply(data={"id": "run_1", "status": "completed"}))
    pages = [{"data": list(messages)}, {"data": steps or []}]
    run: Run = drive(THREADS.complete(read, steps=steps is not None), pages)[0]
    return run


def test_files_of_the_messages_of_a_thread_run_are_found(drive: Any) -> None:
    link = {
        "type": "file_path",
        "text": "sandbox:/mnt/data/report.csv",
        "start_index": 0,
        "end_index": 28,
        "file_path": {"file_id": "file_2"},
    }
    answer = {
        "role": "assistant",
        "run_id": "run_1",
        "content": [
            {"type": "image_file", "image_file": {"file_id": "file_1"}},
            {"type": "text", "text": {"value": link["text"], "annotations": [link]}},
        ],
        "attachments": [{"file_id": "file_2"}, {"file_id": "file_3", "tools": []}, {"file_id": None}],
    }
    run = thread_run(drive, answer)
    assert shown(run) == [
        {"file_id": "file_1"},
        {"name": "report.csv", "media_type": "text/csv", "file_id": "file_2"},
        {"file_id": "file_3"},
    ]
    assert run.file_ids == ("file_1", "file_2", "file_3")


def test_a_picture_that_only_a_step_shows_is_found_with_the_steps(drive: Any) -> None:
    outputs = [{"type": "image", "image": {"file_id": "file_9"}}, {"type": "logs", "logs": ""}]
    call = {"type": "code_interpreter", "code_interpreter": {"input": "x", "outputs": outputs}}
    step = {"id": "s", "step_details": {"type": "tool_calls", "tool_calls": [call]}}
    run = thread_run(drive, steps=[step])
    assert (shown(run), run.file_ids) == ([{"file_id": "file_9"}], ("file_9",))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("a.csv", "a.csv"),
        ("/mnt/data/a.csv", "a.csv"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\u202efdp.exe\n", "a\\u202efdp.exe"),
        ("..", None),
        ("/", None),
        ("", None),
        (None, None),
        (5, None),
        ("x" * 500, "x" * 99 + "…"),
    ],
)
def test_a_name_is_one_visible_part_of_a_path(written: Any, name: str | None) -> None:
    assert file_name(written) == name


@given(text=st.text())
def test_no_name_leaves_its_folder(text: str) -> None:
    name = file_name(text)
    assert name is None or (0 < len(name) <= 100 and name == visible(name) and "/" not in name)
    assert name not in {".", ".."}


@given(data=st.binary(min_size=1, max_size=3000), in_url=st.booleans())
def test_the_size_of_base64_is_that_of_its_bytes(data: bytes, in_url: bool) -> None:
    written = base64.b64encode(data).decode()
    found = inline_content(f"data:text/csv;base64,{written}" if in_url else written)
    assert found is not None
    assert found.size == len(data)
    assert base64.b64decode((f"data:text/csv;base64,{written}" if in_url else written)[found.start :]) == data


@pytest.mark.parametrize("text", ["", "A sentence.", "data:text/plain,abc", "data:;base64,%%%", "a\0b"])
def test_another_text_is_no_base64(text: str) -> None:
    assert inline_content(text) is None


def test_the_type_is_the_one_that_the_bytes_show() -> None:
    found = inline_content(f"data:text/html;base64,{PICTURE}")
    assert found is not None
    assert found.media_type == "image/png"
    declared = inline_content("data:Text/CSV;charset=utf-8;base64,YSxi")
    assert declared is not None
    assert declared.media_type == "text/csv"


def test_what_is_said_of_a_file_in_several_places_is_put_together() -> None:
    files = [RunFile(file_id="a"), RunFile(name="x"), RunFile(name="a.csv", file_id="a", container_id="c")]
    merged = each_once([*files, RunFile(name="b.csv", file_id="a"), RunFile(name="x")])
    assert merged == (
        RunFile(name="a.csv", file_id="a", container_id="c"),
        RunFile(name="x"),
        RunFile(name="x"),
    )
