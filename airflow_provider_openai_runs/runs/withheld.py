# SPDX-License-Identifier: Apache-2.0
"""
A run without the texts that are not to be in Airflow (``text_in_xcom``): what the model wrote beyond a limit.

With a limit of 0 not a word is left: not of the answer, and not of what was asked, where the API repeats it.
Ids, statuses, times and counts stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from airflow_provider_openai_runs.runs.citations import Citation
from airflow_provider_openai_runs.runs.files import RunFile
from airflow_provider_openai_runs.runs.model import Run, Step, ToolCall
from airflow_provider_openai_runs.runs.tools import names_of

T = TypeVar("T", Citation, RunFile)

#: What is text of a citation, or of a file.
_WRITTEN = ("text", "url", "title", "filename", "name")
#: Stands where a text means more than it says: that the model declined, that a run failed.
WITHHELD = "withheld (text_in_xcom)"


def is_too_long(text: str | None, limit: int | None) -> bool:
    """Return whether a text is not to be in XCom; ``limit`` counts the bytes of its UTF-8, None is none."""
    return bool(text) and limit is not None and len((text or "").encode("utf-8", "replace")) > limit


def without_text(run: Run, limit: int | None) -> Run:
    """
    Return a run without the texts above the limit.

    :param limit: bytes; None keeps all.
    """
    if limit is None:
        return run
    found = replace(
        run,
        output_text=_kept(run.output_text, limit),
        final_text=_kept(run.final_text, limit),
        refusal=WITHHELD if is_too_long(run.refusal, limit) else run.refusal,
        tool_calls=tuple(_without_arguments(call, run, limit) for call in run.tool_calls),
        steps=run.steps if run.steps is None else tuple(_without_details(step, limit) for step in run.steps),
        steps_truncated=run.steps_truncated
        or any(_has_too_long(step.details, limit) for step in run.steps or ()),
        citations=tuple(_shortened(citation, limit) for citation in run.citations),
        files=tuple(_shortened(file, limit) for file in run.files),
        body=b"",
    )
    if limit > 0:
        return found
    return replace(
        found,
        instructions=None,
        tools=tuple(_named_only(tool) for tool in run.tools),
        last_error=run.last_error and {**_codes(run.last_error), "message": WITHHELD},
        incomplete_details=run.incomplete_details and _codes(run.incomplete_details),
    )


def _kept(text: str | None, limit: int) -> str | None:
    return None if is_too_long(text, limit) else text


def _without_arguments(call: ToolCall, run: Run, limit: int) -> ToolCall:
    # The name is the model's, too: it may be none of those that it was offered.
    name = call.name if limit > 0 or call.name in names_of(list(run.tools)) else WITHHELD
    arguments = WITHHELD if is_too_long(call.arguments, limit) else call.arguments
    return replace(call, name=name, arguments=arguments)


def _without_details(step: Step, limit: int) -> Step:
    return replace(step, details=_pruned(step.details, limit) if limit > 0 else {})


def _has_too_long(value: Any, limit: int) -> bool:
    if isinstance(value, str):
        return is_too_long(value, limit)
    if isinstance(value, Mapping):
        return any(_has_too_long(item, limit) for item in (*value, *value.values()))
    return isinstance(value, (list, tuple)) and any(_has_too_long(item, limit) for item in value)


def _pruned(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return _kept(value, limit)
    if isinstance(value, Mapping):
        return {
            name: _pruned(item, limit)
            for name, item in value.items()
            if not is_too_long(name if isinstance(name, str) else None, limit)
        }
    return [_pruned(item, limit) for item in value] if isinstance(value, (list, tuple)) else value


def _named_only(tool: Mapping[str, Any]) -> dict[str, Any]:
    name = next(iter(names_of([tool])), None)
    return {"type": tool.get("type"), **({"function": {"name": name}} if name else {})}


def _codes(error: Mapping[str, Any]) -> dict[str, Any]:
    return {name: error[name] for name in ("code", "type", "reason") if name in error}


def _shortened(value: T, limit: int) -> T:
    """Return a citation or a file without the texts of it that are the model's, or a stranger's."""
    texts: dict[str, Any] = {
        name: _kept(getattr(value, name), limit) for name in _WRITTEN if hasattr(value, name)
    }
    return replace(value, **texts)
