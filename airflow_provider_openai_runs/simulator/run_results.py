# SPDX-License-Identifier: Apache-2.0
"""What a thread run leaves of its hosted tools: steps, the parts of its message, files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.citations import (
    annotations_in,
    found_file_id,
    of_thread_run,
    produced_file_id,
)
from airflow_provider_openai_runs.simulator.content import Content, is_image
from airflow_provider_openai_runs.simulator.file import StoredFile
from airflow_provider_openai_runs.simulator.ids import child_id
from airflow_provider_openai_runs.simulator.tool_results import CodeInterpreter, FileSearch, ProducedFile

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.run import ThreadRun


def tool_calls(run: ThreadRun) -> Iterator[dict[str, Any]]:
    """Write the calls of hosted tools that thread runs have, one for each step."""
    for index, result in enumerate(run.scenario.output):
        key = child_id("call", run.id, f"tool {index}")
        if isinstance(result, CodeInterpreter):
            yield {"id": key, "type": "code_interpreter", "code_interpreter": _code(run.id, result)}
        elif isinstance(result, FileSearch):
            yield {"id": key, "type": "file_search", "file_search": _search(run.id, result)}


def message_parts(run: ThreadRun) -> dict[str, Any]:
    """Write content and attachments of the message that a run ends with: pictures first, then its text."""
    produced = [file for file in _produced(run) if file.cited]
    pictures = [_picture(_key(run, file)) for file in produced if is_image(file.name)]
    cited = of_thread_run(run.id, run.scenario.output)
    texts: list[dict[str, Any]] = [
        {"type": "text", "text": {"value": text, "annotations": list(annotations_in(text, cited))}}
        for text in run.answer.texts
    ]
    if run.scenario.refusal is not None:
        texts = [{"type": "refusal", "refusal": run.scenario.refusal}]
    attached = [
        {"file_id": _key(run, file), "tools": [{"type": "code_interpreter"}]}
        for file in produced
        if not is_image(file.name)
    ]
    return {"content": [*pictures, *texts], "attachments": attached}


def produced_files(run: ThreadRun) -> Iterator[StoredFile]:
    """Give the files that a run writes; they are there once it has ended with an answer."""
    for file in _produced(run):
        yield StoredFile(
            id=_key(run, file),
            filename=file.name,
            purpose="assistants_output",
            created_at=run.created_at,
            content=Content.made_up(file.name, size=file.size, text=file.text),
            is_ready=run.is_answered,
        )


def _produced(run: ThreadRun) -> list[ProducedFile]:
    return [
        file for result in run.scenario.output if isinstance(result, CodeInterpreter) for file in result.files
    ]


def _key(run: ThreadRun, file: ProducedFile) -> str:
    return produced_file_id(run.id, file, in_container=False)


def _picture(file_id: str) -> dict[str, Any]:
    return {"type": "image_file", "image_file": {"file_id": file_id}}


def _code(run_id: str, result: CodeInterpreter) -> dict[str, Any]:
    outputs: list[dict[str, Any]] = [] if result.logs is None else [{"type": "logs", "logs": result.logs}]
    for file in result.files:
        if is_image(file.name):
            file_id = produced_file_id(run_id, file, in_container=False)
            outputs.append({"type": "image", "image": {"file_id": file_id}})
    return {"input": result.code, "outputs": outputs}


def _search(run_id: str, result: FileSearch) -> dict[str, Any]:
    found = [
        {
            "file_id": found_file_id(run_id, one),
            "file_name": one.name,
            "score": one.score,
            "attributes": {},
            "content": [{"type": "text", "text": one.text}],
        }
        for one in result.found
    ]
    return {"ranking_options": {"ranker": "default_2024_08_21", "score_threshold": 0.0}, "results": found}
