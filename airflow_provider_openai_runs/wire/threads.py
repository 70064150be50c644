# SPDX-License-Identifier: Apache-2.0
"""Thread runs: the Assistants API v2 (https://platform.openai.com/docs/api-reference/runs)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from airflow_provider_openai_runs.runs.checks import TOKEN_KEY
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef, Step, ToolCall
from airflow_provider_openai_runs.runs.ownership import SearchResult
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import Answer, ApiReply, ApiRequest, Flow

_HEADERS = {"OpenAI-Beta": "assistants=v2"}
_PAGE_SIZE = 100
#: A list that never ends is a broken server.
_MAX_PAGES = 100
_QUERY_REFUSED = frozenset({400, 422})
#: Clocks differ, and created_at has whole seconds.
_CLOCK_SLACK = 120.0
_LIMITS = ("max_completion_tokens", "max_prompt_tokens")


class ThreadRunsWire:
    """Requests and replies of thread runs."""

    def create(self, request: RunRequest, *, token: str | None, conn_id: str) -> ApiRequest[Run]:
        """Start a run on the request's thread."""
        body = dict(request.body)
        if token is not None:
            body["metadata"] = {**body.get("metadata", {}), TOKEN_KEY: token}
        # A list; the SDK writes the brackets of ``include[]``.
        query = {"include": body.pop("include")} if "include" in body else {}
        thread_id = request.thread_id or ""

        def read(reply: ApiReply) -> Run:
            return _run(reply.data, thread_id=thread_id, conn_id=conn_id)

        return ApiRequest(
            method="POST",
            path=_runs(thread_id),
            body=body,
            query=query,
            headers=_HEADERS,
            read=read,
            pays=True,
        )

    def poll(self, ref: RunRef) -> ApiRequest[PollResult]:
        """Ask how the run is doing."""
        return ApiRequest(method="GET", path=_run_path(ref), headers=_HEADERS, read=_poll)

    def retrieve(self, ref: RunRef) -> ApiRequest[Run]:
        """Read the run."""

        def read(reply: ApiReply) -> Run:
            return _run(reply.data, thread_id=ref.thread_id or "", conn_id=ref.conn_id)

        return ApiRequest(method="GET", path=_run_path(ref), headers=_HEADERS, read=read)

    def complete(self, run: Run, *, steps: bool) -> Flow[Run]:
        """Add the answer's text and files from the thread's messages, and every page of the steps."""
        thread = quote(run.ref.thread_id or "", safe="")
        texts: list[str] = []
        files = list(run.file_ids)
        messages = yield from _pages(f"/threads/{thread}/messages", {"run_id": run.ref.id, "order": "asc"})
        for message in _answers(run, messages):
            texts += _texts(message.get("content"))
            files += _attached_files(message)
        found = replace(
            run, output_text="\n".join(texts) if texts else None, file_ids=tuple(dict.fromkeys(files))
        )
        if not steps:
            return found
        listed = yield from _pages(f"{_run_path(run.ref)}/steps", {"order": "asc"})
        return replace(found, steps=tuple(map(_step, listed)))

    def cancel(self, ref: RunRef) -> ApiRequest[PollResult]:
        """End the run."""
        return ApiRequest(method="POST", path=f"{_run_path(ref)}/cancel", headers=_HEADERS, read=_poll)

    def search(self, *, thread_id: str | None, token: str, since: float, conn_id: str) -> Flow[SearchResult]:
        """Look through the thread's runs, newest first."""
        if thread_id is None:
            # The thread would have been created with the run, so nobody else can have run on it.
            return SearchResult(ref=None, conclusive=True)
        runs = yield from _pages(_runs(thread_id), {"order": "desc"})
        nameless = False
        ours: dict[str, int] = {}
        for run in runs:
            metadata = reading.text_pairs(run.get("metadata"))
            run_id, found = reading.identifier(run.get("id")), metadata.get(TOKEN_KEY, "")
            created = reading.unix_time(run.get("created_at"))
            recent = created is None or created >= since - _CLOCK_SLACK
            # A whole token is never used twice; its first part comes again in a Dag run of the same name.
            if run_id and (found == token or (found.startswith(token) and recent)):
                ours[run_id] = created or 0
            nameless |= recent and not (metadata and run_id)
        if ours:
            # The newest, and the first of them that are equally new: not every server heeds ``order``.
            ref = RunRef(
                kind=RunKind.THREAD_RUN,
                id=max(ours, key=lambda run_id: ours[run_id]),
                thread_id=thread_id,
                conn_id=conn_id,
            )
            return SearchResult(ref=ref, conclusive=True)
        # A server that does not echo metadata cannot prove that a run is not ours.
        return SearchResult(ref=None, conclusive=not nameless)

    def answer(
        self, run: Run, outputs: Mapping[str, Answer], request: RunRequest | None, *, token: str | None
    ) -> ApiRequest[Run]:
        """Answer all pending calls in one request, as the API demands."""
        del request, token  # the same run goes on

        def read(reply: ApiReply) -> Run:
            return _run(reply.data, thread_id=run.ref.thread_id or "", conn_id=run.ref.conn_id)

        texts = {call: out if isinstance(out, str) else json.dumps(out) for call, out in outputs.items()}
        body = {"tool_outputs": [{"tool_call_id": call, "output": out} for call, out in texts.items()]}
        path = f"{_run_path(run.ref)}/submit_tool_outputs"
        return ApiRequest(method="POST", path=path, body=body, headers=_HEADERS, read=read, pays=True)

    def create_thread(self, thread: Mapping[str, Any]) -> ApiRequest[str]:
        """Create a thread; the call reads its id."""
        return ApiRequest(
            method="POST",
            path="/threads",
            body=dict(thread),
            headers=_HEADERS,
            read=lambda reply: reading.run_id(reply.data),
        )


def list_runs(thread_id: str, *, conn_id: str, order: str = "desc") -> Flow[list[Run]]:
    """List every run of a thread."""
    runs = yield from _pages(_runs(thread_id), {"order": order})
    return [_run(run, thread_id=thread_id, conn_id=conn_id) for run in runs]


def _runs(thread_id: str) -> str:
    return f"/threads/{quote(thread_id, safe='')}/runs"


def _run_path(ref: RunRef) -> str:
    return f"{_runs(ref.thread_id or '')}/{quote(ref.id, safe='')}"


def _pages(path: str, query: Mapping[str, Any]) -> Flow[list[dict[str, Any]]]:
    """
    Read every page; a server without the route has nothing to list.

    One that refuses the query (a smaller page, no order) is asked without it, and its answer put in order.
    """
    found: dict[str | tuple[int, int], dict[str, Any]] = {}
    after: str | None = None
    for number in range(_MAX_PAGES):
        asked = {**query, "limit": _PAGE_SIZE} if query else {}
        page_query = {**asked, **({"after": after} if after else {})}
        try:
            page: ApiReply = yield ApiRequest(
                method="GET", path=path, query=page_query, headers=_HEADERS, read=_whole
            )
        except ApiRequestFailed as failed:
            if failed.failure.http_status in {404, 405, 501} and not path.endswith("/runs"):
                break
            if failed.failure.http_status in _QUERY_REFUSED and query and not found:
                items = sorted((yield from _pages(path, {})), key=_age)
                return items[::-1] if query.get("order") == "desc" else items
            raise
        items = reading.objects_of(page.data.get("data"))
        known = len(found)
        # By id, since some servers repeat items from page to page, or ignore ``after`` and start again.
        found |= {
            reading.identifier(item.get("id")) or (number, place): item for place, item in enumerate(items)
        }
        last = reading.identifier(page.data.get("last_id")) or reading.identifier(
            (items or [{}])[-1].get("id")
        )
        if not page.data.get("has_more") or last in {"", after} or len(found) == known:
            break
        after = last
    return list(found.values())


def _age(item: Mapping[str, Any]) -> int:
    return reading.unix_time(item.get("created_at")) or 0


def _whole(reply: ApiReply) -> ApiReply:
    return reply


def _poll(reply: ApiReply) -> PollResult:
    raw_status = reading.raw_status(reply.data)
    status = RunStatus.parse(raw_status)
    return PollResult(
        status=status,
        raw_status=raw_status,
        poll_after=reading.poll_after(reply.headers),
        needs_action=status is RunStatus.REQUIRES_ACTION,
    )


def _run(data: Mapping[str, Any], *, thread_id: str, conn_id: str) -> Run:
    raw_status = reading.raw_status(data)
    ref = RunRef(kind=RunKind.THREAD_RUN, id=reading.run_id(data), thread_id=thread_id, conn_id=conn_id)
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
        file_ids=tuple(_file_ids(data)),
        last_error=reading.optional_object(data.get("last_error")),
        incomplete_details=reading.optional_object(data.get("incomplete_details")),
        limits={name: limit for name in _LIMITS if (limit := reading.as_int(data.get(name)))},
        tool_calls=tuple(_tool_calls(data)) if status is RunStatus.REQUIRES_ACTION else (),
    )


def _tool_calls(data: Mapping[str, Any]) -> Iterator[ToolCall]:
    action = reading.object_of(data.get("required_action"))
    submit = reading.object_of(action.get("submit_tool_outputs"))
    for call in reading.objects_of(submit.get("tool_calls")):
        function = reading.object_of(call.get("function"))
        yield ToolCall(
            id=reading.identifier(call.get("id")),
            name=reading.identifier(function.get("name")),
            arguments=reading.json_text(function.get("arguments")),
            type=reading.identifier(call.get("type")) or "function",
        )


def _file_ids(data: Mapping[str, Any]) -> Iterator[str]:
    """Read the files from the run where a server still sends them, else from its tool resources."""
    if isinstance(data.get("file_ids"), list):
        yield from (item for item in data["file_ids"] if isinstance(item, str))
        return
    for resource in reading.object_of(data.get("tool_resources")).values():
        ids = reading.object_of(resource).get("file_ids")
        yield from (item for item in ids if isinstance(item, str)) if isinstance(ids, list) else ()


def _answers(run: Run, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pick the run's own messages: a server that does not know the filter answers with the whole thread."""
    answers = [message for message in messages if message.get("role") == "assistant"]
    if ours := [message for message in answers if reading.identifier(message.get("run_id")) == run.ref.id]:
        return ours
    # Some servers do not write down whose answer it is: then it is what came after the run was created.
    since = run.created_at or 0
    return [
        message
        for message in answers
        if not message.get("run_id") and (reading.unix_time(message.get("created_at")) or since) >= since
    ]


def _attached_files(message: Mapping[str, Any]) -> list[str]:
    attached = [item.get("file_id") for item in reading.objects_of(message.get("attachments"))]
    return [item for item in attached if isinstance(item, str)]


def _texts(content: object) -> Iterator[str]:
    """Read the text of a message; some servers send plain text, or a list, in place of ``text.value``."""
    for part in content if isinstance(content, list) else [content]:
        inner = part.get("text") if isinstance(part, Mapping) else part
        pieces = inner if isinstance(inner, list) else [inner]
        found = [piece.get("value") if isinstance(piece, Mapping) else piece for piece in pieces]
        if joined := "".join(piece for piece in found if isinstance(piece, str)):
            yield joined


def _step(data: Mapping[str, Any]) -> Step:
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


WIRE = ThreadRunsWire()

__all__ = ["WIRE", "ThreadRunsWire", "list_runs"]
