# SPDX-License-Identifier: Apache-2.0
"""What a thread run leaves of its hosted tools: the parts of its message, files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.citations import (
    annotations_in,
    of_thread_run,
    produced_file_id,
)
from airflow_provider_openai_runs.simulator.content import Content, is_image
from airflow_provider_openai_runs.simulator.file import StoredFile
from airflow_provider_openai_runs.simulator.tool_results import CodeInterpreter, ProducedFile

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.run import ThreadRun


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
