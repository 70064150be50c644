# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire.protocol import ApiReply
from airflow_provider_openai_runs.wire.responses import WIRE as RESPONSES
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS

RESPONSE = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="c")
THREAD_RUN = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="c")
URL = "https://a.example/page"
LINK = f"([A page]({URL}))"
KEYS = {"type", "text", "start", "end", "url", "file_id", "title", "filename", "container_id"}


def part(text: str, *annotations: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": list(annotations)}


def message(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts), **more}


def response(*items: Any, **more: Any) -> Run:
    data = {"id": "resp_1", "status": "completed", "output": list(items), **more}
    return RESPONSES.retrieve(RESPONSE).read(ApiReply(data=data))


def url(start: Any, end: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "url_citation",
        "url": URL,
        "title": "A page",
        "start_index": start,
        "end_index": end,
    } | more


def shown(run: Run) -> list[dict[str, Any]]:
    """Return the citations as XCom has them, without what is None."""
    found: list[dict[str, Any]] = run.to_xcom()["citations"]
    assert all(set(citation) == KEYS for citation in found)
    return [{name: value for name, value in citation.items() if value is not None} for citation in found]


def cited_in(run: Run, text: str) -> None:
    """Check that each citation of a run stands where it says, and cites this text."""
    assert run.output_text is not None
    assert run.citations
    for citation in run.citations:
        assert run.output_text[citation.start : citation.end] == citation.text == text


def at(text: str, marked: str) -> tuple[int, int]:
    return text.index(marked), text.index(marked) + len(marked)


def test_a_citation_says_its_place_and_its_source() -> None:
    text = f"It is so {LINK}."
    run = response(message(part(text, url(*at(text, LINK)))))
    start, end = at(text, LINK)
    assert shown(run) == [
        {"type": "url_citation", "text": LINK, "start": start, "end": end, "url": URL, "title": "A page"}
    ]


def test_places_count_in_the_whole_text_of_several_parts_and_messages() -> None:
    text = f"Second {LINK}"
    cited = part(text, url(*at(text, LINK)))
    one_more = part("", url(3, 9))
    run = response(
        message(part("Not this. ", url(0, 3)), phase="commentary"),
        {"type": "reasoning", "summary": []},
        message(part("First. "), cited, {"type": "refusal", "refusal": "no"}, id="msg_1"),
        message(cited, id="msg_2"),
        message(cited, id="msg_2"),  # the same once more
    )
    cited_in(run, LINK)
    assert run.output_text == f"First. {text}{text}"
    assert [citation.start for citation in run.citations] == [14, 14 + len(text)]
    assert response(message(part("One. "), one_more)).citations[0].start is None


def test_every_kind_of_annotation_of_a_response_is_a_citation() -> None:
    text = "See sandbox:/mnt/data/report.csv here."
    path = "sandbox:/mnt/data/report.csv"
    start, end = at(text, path)
    container = {"container_id": "cntr_1", "file_id": "cfile_1", "filename": "report.csv"}
    run = response(
        message(
            part(
                text,
                {"type": "container_file_citation", **container, "start_index": start, "end_index": end},
                {"type": "file_citation", "file_id": "file_1", "filename": "../a.pdf", "index": 3},
                {"type": "file_path", "file_id": "file_2", "index": 0},
            )
        )
    )
    assert shown(run) == [
        {"type": "container_file_citation", "text": path, "start": start, "end": end, **container},
        {"type": "file_citation", "start": 3, "end": 3, "file_id": "file_1", "filename": "a.pdf"},
        {"type": "file_path", "file_id": "file_2"},
    ]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 0),  # what the API writes where it knows no place
        (5, 4),
        (-3, 4),
        (4, 1000),
        (None, None),
        (None, 4),
        ("0", "4"),
        (True, True),
        (2**70, 2**70),
        (0.5, 4),
    ],
)
def test_a_place_that_is_not_in_the_text_is_none(start: Any, end: Any) -> None:
    run = response(message(part("Some text.", url(start, end))))
    assert shown(run) == [{"type": "url_citation", "url": URL, "title": "A page"}]


def test_a_source_in_an_object_of_its_own_is_found() -> None:
    inner = {"url": URL, "title": "A page", "start_index": 0, "end_index": 4}
    run = response(message(part("Some text.", {"type": "url_citation", "url_citation": inner})))
    assert shown(run) == [
        {"type": "url_citation", "text": "Some", "start": 0, "end": 4, "url": URL, "title": "A page"}
    ]


@given(before=st.text(alphabet="a\u00e9\u2020\U0001f600", max_size=20), units=st.booleans())
def test_a_place_is_right_whether_the_server_counts_characters_or_units_of_utf_16(
    before: str, units: bool
) -> None:
    text = f"{before}{URL} and more"
    start = len(before.encode("utf-16-le")) // 2 if units else len(before)
    cited_in(response(message(part(text, url(start, start + len(URL))))), URL)


def test_a_long_text_is_not_repeated() -> None:
    run = response(message(part("x" * 5000, url(0, 5000))))
    assert shown(run) == [
        {"type": "url_citation", "start": 0, "end": 5000, "url": URL, "title": "A page"},
    ]


@pytest.mark.parametrize("annotations", [None, 5, {}, "x", [None, 5, [], {}, {"type": None}, {"type": []}]])
def test_annotations_of_any_form_are_read(annotations: Any) -> None:
    run = response(message({**part("Some text."), "annotations": annotations}))
    assert (run.output_text, run.citations) == ("Some text.", ())


def thread_run(drive: Any, *messages: Any) -> Run:
    read = THREADS.retrieve(THREAD_RUN).read(ApiReply(data={"id": "run_1", "status": "completed"}))
    run: Run = drive(THREADS.complete(read, steps=False), [{"data": list(messages)}])[0]
    return run


def said(*values: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": value} for value in values]
    return {"role": "assistant", "run_id": "run_1", "content": content}


FOOTNOTE = "\u30104:0\u2020source\u3011"


def footnote(start: int, end: int, text: str = FOOTNOTE) -> dict[str, Any]:
    source = {"file_id": "file_1"}
    place = {"start_index": start, "end_index": end}
    return {"type": "file_citation", "text": text, "file_citation": source, **place}


def test_footnotes_of_a_thread_run_count_in_the_whole_text(drive: Any) -> None:
    text = f"It is so{FOOTNOTE}."
    cited = {"value": text, "annotations": [footnote(8, 20)]}
    run = thread_run(drive, said({"value": "First."}, {"value": ""}, cited), said([{"value": "A "}, cited]))
    assert run.output_text == f"First.\n{text}\nA {text}"
    cited_in(run, FOOTNOTE)
    assert shown(run)[0] == {
        "type": "file_citation",
        "text": FOOTNOTE,
        "start": 15,
        "end": 27,
        "file_id": "file_1",
    }


@pytest.mark.parametrize("shift", [0, 4, -4, 7])
def test_a_footnote_is_found_where_its_text_stands(drive: Any, shift: int) -> None:
    text = f"\U0001f600\U0001f600 it is so{FOOTNOTE}."
    start = text.index(FOOTNOTE) + shift
    run = thread_run(drive, said({"value": text, "annotations": [footnote(start, start + len(FOOTNOTE))]}))
    cited_in(run, FOOTNOTE)


def test_a_footnote_that_is_not_in_the_text_has_no_place(drive: Any) -> None:
    annotations = [footnote(0, 4, "gone"), footnote(0, 3, "x" * 5000)]
    run = thread_run(drive, said({"value": "Some text.", "annotations": annotations}))
    assert shown(run) == [
        {"type": "file_citation", "text": "gone", "file_id": "file_1"},
        {"type": "file_citation", "file_id": "file_1"},
    ]


def test_a_text_without_parts_cites_nothing(drive: Any) -> None:
    assert thread_run(drive, {"role": "assistant", "content": "plain"}).citations == ()
    assert response(message(), output_text="whole").citations == ()
