# SPDX-License-Identifier: Apache-2.0
"""What the Assistants API v2 answers: runs, their calls and their steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef, Step, ToolCall
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.call_items import action_of, arguments_of, brings_its_result
from airflow_provider_openai_runs.wire.protocol import ApiReply
from airflow_provider_openai_runs.wire.retry_after import poll_after

_LIMITS = ("max_completion_tokens", "max_prompt_tokens")


#: What a run has become whose server writes the time of its end, and no status.
_ENDED_AT = {"completed_at": "completed", "failed_at": "failed", "cancelled_at": "cancelled"}


def _raw_status_of(data: Mapping[str, Any]) -> str:
    if data.get("status") is None:
        ended = (
            status for name, status in _ENDED_AT.items() if reading.unix_time(data.get(name)) is not None
        )
        if (status := next(ended, None)) is not None:
            return status
    return reading.raw_status(data)


def read_poll(reply: ApiReply) -> PollResult:
    """Read how a run is doing."""
    raw_status = _raw_status_of(reply.data)
    status = RunStatus.parse(raw_status)
    return PollResult(
        status=status,
        raw_status=raw_status,
        poll_after=poll_after(reply.headers),
        needs_action=status is RunStatus.REQUIRES_ACTION,
    )


def read_created(data: Mapping[str, Any], *, thread_id: str, conn_id: str) -> Run:
    """Read a run whose id the reply says; an id alone is a run whose status nobody knows yet."""
    ref = RunRef(kind=RunKind.THREAD_RUN, id=reading.run_id(data), thread_id=thread_id, conn_id=conn_id)
    return read_run(reading.with_status(data), ref=ref)


def read_run(data: Mapping[str, Any], *, ref: RunRef) -> Run:
    """
    Read a run, without its answer.

    :param ref: what was asked for; no reply replaces its id or its thread.
    """
    raw_status = _raw_status_of(data)
    status = RunStatus.parse(raw_status)
    return Run(
        ref=ref,
        status=status,
        raw_status=raw_status,
        object=reading.text(data.get("object")) or "thread.run",
        created_at=reading.unix_time(data.get("created_at")),
        started_at=reading.unix_time(data.get("started_at")),
        completed_at=reading.unix_time(data.get("completed_at")),
        cancelled_at=reading.unix_time(data.get("cancelled_at")),
        failed_at=reading.unix_time(data.get("failed_at")),
        expires_at=reading.unix_time(data.get("expires_at")),
        assistant_id=reading.text(data.get("assistant_id")),
        model=reading.text(data.get("model")),
        instructions=reading.text(data.get("instructions")),
        tools=tuple(reading.objects_of(data.get("tools"))),
        metadata=reading.text_pairs(data.get("metadata")),
        usage=reading.usage(data.get("usage")),
        service_tier=reading.name(data.get("service_tier")),
        file_ids=tuple(_file_ids(data)),
        last_error=reading.error_object(data.get("last_error")),
        incomplete_details=reading.incomplete_details(data.get("incomplete_details")),
        limits={name: limit for name in _LIMITS if (limit := reading.as_int(data.get(name)))},
        tool_calls=tuple(dict.fromkeys(_tool_calls(data))) if status is RunStatus.REQUIRES_ACTION else (),
    )


def _tool_calls(data: Mapping[str, Any]) -> Iterator[ToolCall]:
    action = reading.object_of(data.get("required_action"))
    # Azure asks for the approval of an MCP server's calls under a name of its own.
    submit = reading.object_of(action.get("submit_tool_outputs") or action.get("submit_tool_approval"))
    for call in reading.objects_of(submit.get("tool_calls")):
        kind = reading.identifier(call.get("type")) or "function"
        # A call stands under the name of its type, which some servers leave out.
        called = next(
            (found for key in ("function", kind) if (found := reading.object_of(call.get(key)))), call
        )
        if brings_its_result(call) or brings_its_result(called):
            continue
        has_arguments = kind == "function" or "arguments" in called
        yield ToolCall(
            id=reading.identifier(call.get("id")),
            name=reading.identifier(called.get("name")) or ("" if kind == "function" else kind),
            arguments=arguments_of(called.get("arguments")) if has_arguments else action_of(called),
            type=kind,
        )


def _file_ids(data: Mapping[str, Any]) -> Iterator[str]:
    """Read the files from the run where a server still sends them, else from its tool resources."""
    if isinstance(data.get("file_ids"), list):
        yield from (item for item in data["file_ids"] if isinstance(item, str))
        return
    for resource in reading.object_of(data.get("tool_resources")).values():
        ids = reading.object_of(resource).get("file_ids")
        yield from (item for item in ids if isinstance(item, str)) if isinstance(ids, list) else ()


def read_step(data: Mapping[str, Any]) -> Step:
    """Read one run step."""
    details = reading.object_of(data.get("step_details"))
    return Step(
        id=reading.identifier(data.get("id")),
        type=reading.identifier(data.get("type")) or reading.identifier(details.get("type")) or "unknown",
        status=reading.text(data.get("status")),
        details=details,
        created_at=reading.unix_time(data.get("created_at")),
        completed_at=reading.unix_time(data.get("completed_at")),
        usage=reading.usage(data.get("usage")),
    )
