# SPDX-License-Identifier: Apache-2.0
"""What an answer cites, and where in its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.simulator.content import is_image
from airflow_provider_openai_runs.simulator.ids import child_id
from airflow_provider_openai_runs.simulator.tool_results import (
    CodeInterpreter,
    FileSearch,
    FoundFile,
    ProducedFile,
    ToolResult,
    WebSearch,
)

_FOLDER = "/mnt/data/"


@dataclass(frozen=True, slots=True)
class Citation:
    """A place to be found in the text by its `marker`, which is added as `written` where it is missing.

    `annotate` makes the annotation from the ends of the marker. Without a marker the end of the text is
    annotated.
    """

    marker: str
    written: str
    annotate: Callable[[int, int], dict[str, Any]]


def path_of(file: ProducedFile) -> str:
    """Give the path of a file in the machine that the code ran on."""
    return _FOLDER + file.name


def found_file_id(run_id: str, found: FoundFile) -> str:
    """Give the id of a file that a search found."""
    return found.file_id or child_id("file", run_id, found.name, joint="-")


def produced_file_id(run_id: str, file: ProducedFile, *, in_container: bool) -> str:
    """Give the id of a file that code has written: in a container it is of another kind."""
    return child_id(
        "cfile" if in_container else "file", run_id, file.name, joint="_" if in_container else "-"
    )


def of_response(run_id: str, container_id: str, results: Sequence[ToolResult]) -> list[Citation]:
    """List what a response cites."""
    found: list[Citation] = []
    for result in results:
        if isinstance(result, WebSearch):
            found.extend(_url(page.url, page.title) for page in result.pages if page.cited)
        elif isinstance(result, FileSearch):
            found.extend(_file(found_file_id(run_id, one), one.name) for one in result.found if one.cited)
        elif isinstance(result, CodeInterpreter):
            found.extend(_container_file(run_id, container_id, file) for file in result.files if file.cited)
    return found


def of_thread_run(run_id: str, results: Sequence[ToolResult]) -> list[Citation]:
    """List what the message of a thread run cites; pictures are shown in it instead."""
    found: list[Citation] = []
    for result in results:
        if isinstance(result, FileSearch):
            cited = [one for one in result.found if one.cited]
            found.extend(_quote(run_id, index, one) for index, one in enumerate(cited))
        elif isinstance(result, CodeInterpreter):
            found.extend(
                _path(run_id, file) for file in result.files if file.cited and not is_image(file.name)
            )
    return found


def with_markers(text: str, citations: Sequence[Citation]) -> str:
    """Add to a text the markers that it lacks."""
    for citation in citations:
        if citation.marker not in text:
            text += citation.written
    return text


def annotations_in(text: str, citations: Sequence[Citation]) -> Iterator[dict[str, Any]]:
    """Annotate the markers that are in a text."""
    for citation in citations:
        start = text.find(citation.marker) if citation.marker else len(text)
        if start >= 0:
            yield citation.annotate(start, start + len(citation.marker))


def _url(url: str, title: str) -> Citation:
    marker = f"([{title}]({url}))"
    return Citation(
        marker,
        f" {marker}",
        lambda start, end: {
            "type": "url_citation",
            "end_index": end,
            "start_index": start,
            "title": title,
            "url": url,
        },
    )


def _file(file_id: str, name: str) -> Citation:
    return Citation(
        "",
        "",
        lambda start, _end: {"type": "file_citation", "file_id": file_id, "filename": name, "index": start},
    )


def _container_file(run_id: str, container_id: str, file: ProducedFile) -> Citation:
    marker = f"sandbox:{path_of(file)}"
    return Citation(
        marker,
        f"\n\n[{file.name}]({marker})",
        lambda start, end: {
            "type": "container_file_citation",
            "container_id": container_id,
            "end_index": end,
            "file_id": produced_file_id(run_id, file, in_container=True),
            "filename": file.name,
            "start_index": start,
        },
    )


def _quote(run_id: str, index: int, found: FoundFile) -> Citation:
    marker = f"\u30104:{index}\u2020{found.name}\u3011"
    return Citation(
        marker,
        marker,
        lambda start, end: {
            "type": "file_citation",
            "text": marker,
            "start_index": start,
            "end_index": end,
            "file_citation": {"file_id": found_file_id(run_id, found)},
        },
    )


def _path(run_id: str, file: ProducedFile) -> Citation:
    marker = f"sandbox:{path_of(file)}"
    return Citation(
        marker,
        f"\n\n[{file.name}]({marker})",
        lambda start, end: {
            "type": "file_path",
            "text": marker,
            "start_index": start,
            "end_index": end,
            "file_path": {"file_id": produced_file_id(run_id, file, in_container=False)},
        },
    )
