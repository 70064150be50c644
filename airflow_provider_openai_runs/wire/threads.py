# SPDX-License-Identifier: Apache-2.0
"""Thread runs: the Assistants API v2 (https://platform.openai.com/docs/api-reference/runs)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import quote

from airflow_provider_openai_runs.runs.acquisition import SearchResult
from airflow_provider_openai_runs.runs.checks import TOKEN_KEY
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.files import each_once
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.files import files_of_step, ids_with
from airflow_provider_openai_runs.wire.protocol import Answer, ApiReply, ApiRequest, Flow, Receiver
from airflow_provider_openai_runs.wire.thread_answer import own_messages, read_answer
from airflow_provider_openai_runs.wire.thread_pages import HEADERS, Listing, oldest_first, pages, read_list
from airflow_provider_openai_runs.wire.thread_replies import (
    read_created,
    read_poll,
    read_run,
    read_step,
)

#: Clocks differ, and created_at has whole seconds.
_CLOCK_SLACK = 120.0
#: The same where nothing but its time tells a run apart from ours: some servers write their local time.
_CLOCKS_DIFFER = 15 * 3600.0
#: Statuses by which a server says that it has no such route.
_ROUTE_IS_MISSING = frozenset({405, 410, 501})
#: What a server says about a thing it does not know, as against a route it does not have.
_THING_IS_MISSING = re.compile(
    r"(?i)\b(no |unknown |with id|does not exist|model|\w*_[A-Za-z0-9]{6,}"
    r"|(thread|run|assistant|response|file|conversation)\b[^/<]* not found)"
)
_INVALID_URL = re.compile(r"(?i)invalid url|assistants api")


class ThreadRunsWire:
    """Requests of thread runs."""

    can_search = True
    answers_in_place = True

    def create_thread_for(self, request: RunRequest) -> ApiRequest[str] | None:
        """Create the request's thread first, so that a lost answer never leaves a run on an unknown one."""
        if request.thread is None or request.thread_id is not None:
            return None
        return self.create_thread(request.thread)

    def create(self, request: RunRequest, *, token: str | None, conn_id: str) -> ApiRequest[Run]:
        """Start a run on the request's thread."""
        body = dict(request.body)
        if token is not None:
            body["metadata"] = {**body.get("metadata", {}), TOKEN_KEY: token}
        # A list; the SDK writes the brackets of ``include[]``.
        query = {"include": body.pop("include")} if "include" in body else {}
        thread_id = request.thread_id or ""

        def read(reply: ApiReply) -> Run:
            return read_created(reply.data, thread_id=thread_id, conn_id=conn_id)

        return ApiRequest(
            method="POST",
            path=_runs(thread_id),
            body=body,
            query=query,
            headers=HEADERS,
            read=read,
            pays=True,
        )

    def poll(self, ref: RunRef) -> ApiRequest[PollResult]:
        """Ask how the run is doing."""
        return ApiRequest(
            method="GET", path=_run_path(ref), headers=HEADERS, read=read_poll, head_is_enough=True
        )

    def retrieve(
        self, ref: RunRef, request: RunRequest | None = None, *, include: Sequence[str] = ()
    ) -> ApiRequest[Run]:
        """Read the run; it says by itself which calls are pending, and only its steps leave things out."""
        del request, include

        def read(reply: ApiReply) -> Run:
            return read_run(reply.data, ref=ref)

        return ApiRequest(method="GET", path=_run_path(ref), headers=HEADERS, read=read)

    def complete(self, run: Run, *, steps: bool, include: Sequence[str] = ()) -> Flow[Run]:
        """Add the answer's text and files from the thread's messages, and every page of the steps."""
        messages = yield from _messages(run)
        return _completed(run, messages, (yield from _steps(run.ref, include)) if steps else False)

    def whole(
        self, ref: RunRef, request: RunRequest | None, receiver: Receiver, *, include: Sequence[str] = ()
    ) -> Flow[Run]:
        """Read run, messages and steps; together they are the whole reply."""
        del request
        asked = ApiRequest(method="GET", path=_run_path(ref), headers=HEADERS, read=lambda reply: reply)
        reply: ApiReply = yield asked
        run = read_run(reply.data, ref=ref)
        messages = yield from _messages(run)
        steps = yield from _steps(ref, include)
        parts = {
            "run": reply.data,
            "messages": own_messages(run, messages.items),
            "steps": None if steps is None else steps.items,
        }
        receiver.restart()
        receiver.take(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        return _completed(run, messages, steps)

    def cancel(self, ref: RunRef) -> ApiRequest[PollResult]:
        """End the run."""
        return ApiRequest(method="POST", path=f"{_run_path(ref)}/cancel", headers=HEADERS, read=read_poll)

    def search(self, *, thread_id: str | None, token: str, since: float, conn_id: str) -> Flow[SearchResult]:
        """Search the thread's runs, newest first."""
        if thread_id is None:
            # Every intent names its thread; whose name is lost may have a run on any.
            return SearchResult(ref=None, conclusive=False)
        listing = yield from read_list(_runs(thread_id), {"order": "desc"})
        may_be_ours = False
        ours: dict[str, int] = {}
        tokens = [reading.text_pairs(run.get("metadata")).get(TOKEN_KEY, "") for run in listing.items]
        for run, found in zip(listing.items, tokens, strict=True):
            run_id = reading.optional_id(run.get("id"))
            created = reading.unix_time(run.get("created_at"))
            # A whole token is never used twice; its first part comes again in a Dag run of the same name.
            recent = created is None or created >= since - _CLOCK_SLACK
            if run_id and (found == token or (found.startswith(token) and recent)):
                ours[run_id] = created or 0
            # Only a token, whose ever it is, shows that this server gives metadata back.
            is_somebody_elses = not found.startswith(token) if found else any(tokens)
            is_older = created is not None and created < since - _CLOCKS_DIFFER
            may_be_ours |= not (run_id and is_somebody_elses) and not is_older
        if ours:
            # The newest, and the first of them that are equally new: not every server heeds ``order``.
            ref = RunRef(
                kind=RunKind.THREAD_RUN,
                id=max(ours, key=lambda run_id: ours[run_id]),
                thread_id=thread_id,
                conn_id=conn_id,
            )
            return SearchResult(ref=ref, conclusive=True)
        return SearchResult(ref=None, conclusive=listing.is_whole and not may_be_ours)

    def answer(
        self, run: Run, outputs: Mapping[str, Answer], request: RunRequest | None, *, token: str | None
    ) -> ApiRequest[Run]:
        """Answer all pending calls in one request, as the API demands."""
        del request, token  # the same run goes on

        def read(reply: ApiReply) -> Run:
            return read_run(reply.data, ref=run.ref)

        texts = {call: out if isinstance(out, str) else json.dumps(out) for call, out in outputs.items()}
        body = {"tool_outputs": [{"tool_call_id": call, "output": out} for call, out in texts.items()]}
        path = f"{_run_path(run.ref)}/submit_tool_outputs"
        return ApiRequest(method="POST", path=path, body=body, headers=HEADERS, read=read, pays=True)

    def close(self, run: Run, *, conversation: str | None) -> Flow[str | None]:
        """Do nothing: a cancel frees the thread."""
        del run, conversation
        yield from ()
        return None

    def unanswered(self, run: Run, *, conversation: str | None) -> Flow[tuple[dict[str, Any], ...]]:
        """Return nothing: see ``close``."""
        del run, conversation
        yield from ()
        return ()

    def output_format(self, *, name: str, schema: Mapping[str, Any], strict: bool) -> dict[str, Any]:
        """Return a ``response_format``."""
        return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": strict}}

    def page_template(self, host: str) -> str | None:
        """Return nothing: OpenAI's own pages of thread runs are gone, and others are not known."""
        del host
        return None

    def missing_route(self, failure: RequestFailure) -> str | None:
        """Return what to use in place of the Assistants API."""
        known_thing = failure.kind is not FailureKind.NOT_FOUND or _THING_IS_MISSING.search(failure.text)
        if (
            failure.http_status not in _ROUTE_IS_MISSING
            and known_thing
            and not _INVALID_URL.search(failure.text)
        ):
            return None
        return (
            f"has no Assistants API ({failure}). OpenAI removed it on 2026-08-26. Use CreateResponseOperator "
            "there: assistant_id=... becomes model=... and instructions=..., the thread's message becomes "
            "input=..., thread_id=... becomes conversation=...; or point conn_id at a server that still "
            "speaks the API. See docs/assistants-sunset.md."
        )

    def create_thread(self, thread: Mapping[str, Any]) -> ApiRequest[str]:
        """Create a thread, and read its id."""
        return ApiRequest(
            method="POST",
            path="/threads",
            body=dict(thread),
            headers=HEADERS,
            read=lambda reply: reading.run_id(reply.data),
        )


def list_runs(thread_id: str, *, conn_id: str, order: str = "desc") -> Flow[list[Run]]:
    """List every run of a thread; one whose id cannot be used is left out, nobody could ask for it."""
    runs = yield from pages(_runs(thread_id), {"order": order})
    return [
        read_created(run, thread_id=thread_id, conn_id=conn_id)
        for run in runs
        if reading.optional_id(run.get("id")) is not None
    ]


def _messages(run: Run) -> Flow[Listing]:
    """
    Read the messages of a run, oldest first.

    A server that does not know the filter may cut the list of a long thread before it comes to them.
    """
    path = f"/threads/{quote(run.ref.thread_id or '', safe='')}/messages"
    listing = yield from read_list(path, {"run_id": run.ref.id, "order": "asc"})
    if listing.items and not listing.is_whole and not own_messages(run, listing.items):
        newest = yield from read_list(path, {"run_id": run.ref.id, "order": "desc"})
        if own_messages(run, newest.items):
            # Also where they have no times, but where the server does not know the order either.
            is_turned = newest.items[:1] != listing.items[:1]
            listing = replace(newest, items=newest.items[::-1]) if is_turned else newest
    return replace(listing, items=oldest_first(listing.items))


def _steps(ref: RunRef, include: Sequence[str]) -> Flow[Listing | None]:
    """Read the steps; None if they are beyond what is read: they must not cost the answer."""
    query = {"order": "asc", **({"include": list(include)} if include else {})}
    try:
        return (yield from read_list(f"{_run_path(ref)}/steps", query))
    except ApiRequestFailed as failed:
        if failed.failure.kind is not FailureKind.TOO_LARGE:
            raise
        return None


def _completed(run: Run, messages: Listing, listed: Listing | Literal[False] | None) -> Run:
    """
    Add to a run what its thread's messages say, and its steps.

    :param listed: the steps; None where they cannot be read, False where they are not wanted.
    """
    answer = read_answer(run, messages.items)
    file_ids = ids_with(run.file_ids, answer.files)
    has_nothing = run.status is RunStatus.COMPLETED and not answer.has_content and not file_ids
    found = replace(
        run,
        output_text=answer.text,
        final_text=answer.final_text,
        refusal=answer.refusal,
        incomplete_details=run.incomplete_details or answer.incomplete_details,
        citations=answer.citations,
        file_ids=file_ids,
        files=each_once(answer.files),
        # A thread without any message is that of a server which does not show them.
        is_empty=has_nothing and messages.is_whole and bool(messages.items),
        is_unread=has_nothing and not messages.is_whole,
    )
    if listed is False:
        return found
    if listed is None:
        return replace(found, steps=(), steps_truncated=True)
    read = tuple(map(read_step, listed.items))
    files = each_once([*answer.files, *(file for step in read for file in files_of_step(step.details))])
    return replace(found, steps=read, files=files, file_ids=ids_with(run.file_ids, files))


def _runs(thread_id: str) -> str:
    return f"/threads/{quote(thread_id, safe='')}/runs"


def _run_path(ref: RunRef) -> str:
    return f"{_runs(ref.thread_id or '')}/{quote(ref.id, safe='')}"


WIRE = ThreadRunsWire()

__all__ = ["WIRE", "ThreadRunsWire", "list_runs"]
