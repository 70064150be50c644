# SPDX-License-Identifier: Apache-2.0
"""What the API of background responses answers: how a response is doing, what it says, what it wants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_openai_runs.runs.files import each_once
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef, Step
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.files import files_of_items, ids_with
from airflow_provider_openai_runs.wire.protocol import ApiReply
from airflow_provider_openai_runs.wire.response_answer import read_answer
from airflow_provider_openai_runs.wire.response_calls import may_wait, pending_calls
from airflow_provider_openai_runs.wire.retry_after import poll_after

_LIMITS = ("max_output_tokens", "max_tool_calls")
#: Statuses in which the calls in the output are whole; the second one is not in the API, but seen elsewhere.
_CALLS_COUNT = frozenset({RunStatus.COMPLETED, RunStatus.REQUIRES_ACTION})


def read_poll(reply: ApiReply) -> PollResult:
    """Read how a response is doing."""
    raw_status = _raw_status_of(reply.data)
    status = RunStatus.parse(raw_status)
    pending = status is RunStatus.REQUIRES_ACTION or (
        status in _CALLS_COUNT and bool(pending_calls(reply.data))
    )
    return PollResult(
        status=status,
        raw_status=raw_status,
        poll_after=poll_after(reply.headers),
        needs_action=pending,
    )


def read_created(data: Mapping[str, Any], *, request: RunRequest, conn_id: str) -> Run:
    """Read what a create answers; an id alone is a response whose status nobody knows yet."""
    conversation = request.body.get("conversation")
    ref = RunRef(
        kind=RunKind.RESPONSE,
        id=reading.run_id(data),
        thread_id=_conversation_id(conversation),
        conn_id=conn_id,
    )
    return read_run(data if _has_answered(data) else reading.with_status(data), ref=ref, request=request)


def read_run(data: Mapping[str, Any], *, ref: RunRef, request: RunRequest | None = None) -> Run:
    """
    Read a response.

    :param ref: what was asked for; no reply replaces its id or its conversation.
    :param request: what it was created with, where that is known.
    """
    raw_status = _raw_status_of(data)
    status = RunStatus.parse(raw_status)
    if ref.thread_id is None and (conversation := _conversation_id(data.get("conversation"))) is not None:
        ref = replace(ref, thread_id=conversation)
    ended_at = reading.unix_time(data.get("completed_at"))
    previous = reading.text(data.get("previous_response_id"))
    items = reading.items_of(data.get("output"))
    answer = read_answer(data)
    files = each_once(files_of_items(items))
    offered = reading.objects_of(request.body.get("tools")) if request is not None else []
    forgot = request is not None and request.forgot_tools
    return Run(
        ref=ref,
        status=status,
        raw_status=raw_status,
        object=reading.text(data.get("object")) or "response",
        created_at=reading.unix_time(data.get("created_at")),
        completed_at=ended_at if status is RunStatus.COMPLETED else None,
        model=reading.text(data.get("model")),
        instructions=_instructions(data.get("instructions")),
        tools=tuple(reading.objects_of(data.get("tools"))),
        metadata=reading.text_pairs(data.get("metadata")),
        usage=reading.usage(data.get("usage")),
        service_tier=reading.name(data.get("service_tier")),
        file_ids=ids_with(_file_ids(data), files),
        files=files,
        last_error=reading.error_object(data.get("error")),
        incomplete_details=reading.incomplete_details(data.get("incomplete_details")),
        limits={name: limit for name in _LIMITS if (limit := reading.as_int(data.get(name)))},
        tool_calls=pending_calls(data, offered, if_unknown=forgot) if status in _CALLS_COUNT else (),
        output_text=answer.text,
        final_text=answer.final_text,
        refusal=answer.refusal,
        citations=answer.citations,
        is_empty=status is RunStatus.COMPLETED and answer.is_empty,
        may_wait=request is None and may_wait(data),
        steps=tuple(map(_step, items)),
        raw={"previous_response_id": previous} if previous else {},
    )


def _instructions(value: object) -> str | None:
    """Read instructions; those of a prompt template are a list of messages."""
    texts = [
        part["text"] if isinstance(part, Mapping) else part
        for item in (value if isinstance(value, list) else [value])
        for part in _parts(item)
        if isinstance(part.get("text") if isinstance(part, Mapping) else part, str)
    ]
    return "\n".join(texts) or None


def _parts(item: object) -> list[Any]:
    content = item.get("content") if isinstance(item, Mapping) else item
    return content if isinstance(content, list) else [content]


def _conversation_id(conversation: object) -> str | None:
    found = conversation.get("id") if isinstance(conversation, Mapping) else conversation
    return reading.optional_id(found)


def _raw_status_of(data: Mapping[str, Any]) -> str:
    return RunStatus.COMPLETED.value if _has_answered(data) else reading.raw_status(data)


def _has_answered(data: Mapping[str, Any]) -> bool:
    """Whether there is output of a gateway without statuses."""
    output = data.get("output")
    return data.get("status") is None and bool(reading.items_of(output) or reading.text(output))


def _file_ids(data: Mapping[str, Any]) -> Iterator[str]:
    for tool in reading.objects_of(data.get("tools")):
        ids = reading.object_of(tool.get("container")).get("file_ids")
        yield from (item for item in ids if isinstance(item, str)) if isinstance(ids, list) else ()


def _step(item: Mapping[str, Any]) -> Step:
    details = {key: value for key, value in item.items() if key not in {"id", "type", "status"}}
    return Step(
        id=reading.identifier(item.get("id")),
        type=reading.identifier(item.get("type")) or "unknown",
        status=reading.text(item.get("status")),
        details=details,
    )
