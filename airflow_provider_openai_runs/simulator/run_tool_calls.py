# SPDX-License-Identifier: Apache-2.0
"""The calls of hosted tools, as the steps of a thread run show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from airflow_provider_openai_runs.simulator.citations import found_file_id, produced_file_id
from airflow_provider_openai_runs.simulator.content import is_image
from airflow_provider_openai_runs.simulator.ids import child_id
from airflow_provider_openai_runs.simulator.tool_results import CodeInterpreter, FileSearch


def tool_calls(run_id: str, output: Iterable[object]) -> Iterator[dict[str, Any]]:
    """Write the calls of hosted tools that thread runs have, one for each step."""
    for index, result in enumerate(output):
        key = child_id("call", run_id, f"tool {index}")
        if isinstance(result, CodeInterpreter):
            yield {"id": key, "type": "code_interpreter", "code_interpreter": _code(run_id, result)}
        elif isinstance(result, FileSearch):
            yield {"id": key, "type": "file_search", "file_search": _search(run_id, result)}


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
