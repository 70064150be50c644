# SPDX-License-Identifier: Apache-2.0
"""The requests of a bulk task: each as few as there can be, on the client that all of them share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from airflow_provider_openai_runs.bulk.commands import Polled, Sent
from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.runs.budgets import (
    CANCEL_WAIT,
    FIRST_POLL_AFTER_CANCEL,
    LONGEST_POLL_AFTER_CANCEL,
    NOT_SHOWN_YET,
    POLL_BEFORE_CANCEL,
    POLL_TIMEOUT,
    SEEN_WITHIN,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.wire import flows, reading, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest, Flow

T = TypeVar("T")

#: Cancels that may be under way at once.
CANCELS_AT_ONCE = 100
#: With these a server refuses the cancel of a run that has ended; of other requests 409 means to come later.
_REFUSED_CANCEL = frozenset({400, 409, 422})
_ANSWERED = frozenset({RunStatus.COMPLETED, RunStatus.INCOMPLETE})
#: What a create is nearly always answered with.
_BEGUN = frozenset({RunStatus.QUEUED.value, RunStatus.IN_PROGRESS.value})
#: How often a run that has ended without any answer is read again.
_READS_OF_NOTHING = 2


class Sender(Protocol):
    """Sends requests; the shared client does."""

    async def send(self, request: ApiRequest[T]) -> T:
        """
        Send one request.

        :raises ApiRequestFailed: with what went wrong.
        """

    async def run_flow(self, flow: Flow[T]) -> T:
        """
        Run a flow to its result.

        :raises ApiRequestFailed: for the caller to decide about.
        """


@dataclass(kw_only=True)
class BulkRequests:
    """
    Creates, polls and ends the runs of one connection.

    :param include: what reads have to ask for besides.
    :param create_within: seconds for the answer to a create.
    :param seen: by id, the Unix seconds at which a run that has not ended was asked for last.
    """

    sender: Sender
    conn_id: str
    include: tuple[str, ...] = ()
    create_within: float = 600.0
    seen: dict[str, float] = field(default_factory=dict)
    _cancels: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(CANCELS_AT_ONCE), init=False
    )

    def ref(self, run: NewRun) -> RunRef:
        """Return the reference of a run."""
        return RunRef(kind=RunKind.RESPONSE, id=run.id, conn_id=self.conn_id)

    async def create(self, row: int, body: Mapping[str, Any], *, token: str, leave_by: float) -> Sent:
        """
        Send a create, once.

        :param leave_by: Unix seconds, after which it must not leave any more.
        """
        request = RunRequest(kind=RunKind.RESPONSE, body=body)
        create = wire_of(request.kind).create(request, token=token, conn_id=self.conn_id)

        def read(reply: ApiReply) -> Sent:
            created = NewRun(row=row, id=reading.run_id(reply.data), created_at=time.time())
            # Nearly every one is no more than begun, and to read all of it takes longer than to send it.
            has_begun = reading.text(reply.data.get("status")) in _BEGUN
            run = None if has_begun else create.read(reply)
            ended = run if run is not None and run.status.is_terminal else None
            return Sent(brought=created, headers=reply.headers, ended=ended)

        try:
            sent = await self.sender.send(
                _changed(create, read, timeout=self.create_within, leave_by=leave_by)
            )
        except ApiRequestFailed as failed:
            return Sent(brought=failed.failure)
        if sent.ended is None and isinstance(sent.brought, NewRun):
            self.seen[sent.brought.id] = sent.brought.created_at
        return sent

    async def poll(self, run: NewRun) -> Polled | RequestFailure:
        """Poll a run; the answer of one that has ended is all that there is to read."""
        try:
            polled = await self._read(run)
            for _ in range(_READS_OF_NOTHING if polled.run is not None and polled.run.is_empty else 0):
                # Some servers say that a run has ended before they show what it wrote.
                await asyncio.sleep(NOT_SHOWN_YET)
                polled = await self._read(run)
        except ApiRequestFailed as failed:
            return failed.failure
        if polled.result.needs_action and not polled.result.status.is_terminal:
            with suppress(ApiRequestFailed):
                await self._ask_to_end(run)  # nobody is here to answer
        return polled

    async def status(self, run: NewRun, *, within: float = POLL_TIMEOUT) -> PollResult | RequestFailure:
        """Poll a run, and read no more than how it is doing."""
        ref, at = self.ref(run), time.time()
        try:
            found = await self.sender.send(replace(wire_of(ref.kind).poll(ref), timeout=within))
        except ApiRequestFailed as failed:
            return failed.failure
        self._see(run, found, at)
        return found

    async def cancel(self, run: NewRun) -> Run | RequestFailure:
        """
        End a run, and read it; a run that has ended already is read as it is.

        It is polled first unless it was seen active lately: some gateways overwrite a run that has completed.
        """
        refused = None
        try:
            async with self._cancels:
                polled = None if await self._has_ended(run) else await self._ask_to_end(run)
        except ApiRequestFailed as failed:
            refused = failed.failure
            if refused.is_transient and refused.http_status not in _REFUSED_CANCEL:
                return refused
        else:
            if polled is not None and polled.result.status not in _ANSWERED:
                return polled.run or await self._end_of(run)
        # What has ended refuses its cancel, or answers with what it has become.
        found = await self.poll(run)
        if isinstance(found, RequestFailure):
            return found
        if found.run is None and refused is not None:
            # Whatever the server has said of the cancel, a 404 among it, the run is there and goes on.
            return replace(refused, kind=FailureKind.NOT_ACCEPTED)
        return found.run or await self._end_of(run)

    async def _has_ended(self, run: NewRun) -> bool:
        """Poll it, where nobody did lately."""
        if time.time() < self.seen.get(run.id, 0.0) + SEEN_WITHIN:
            return False
        found = await self.status(run, within=POLL_BEFORE_CANCEL)
        return not isinstance(found, RequestFailure) and found.status.is_terminal

    async def _ask_to_end(self, run: NewRun) -> Polled:
        ref = self.ref(run)
        asked = wire_of(ref.kind).cancel(ref)
        return await self.sender.send(_changed(asked, _polled_of(ref, asked), head_is_enough=False))

    def _see(self, run: NewRun, found: PollResult, at: float) -> None:
        if found.status.is_terminal:
            self.seen.pop(run.id, None)
        else:
            self.seen[run.id] = at

    async def _end_of(self, run: NewRun) -> Run | RequestFailure:
        """Wait for the end of a run that has been asked to."""
        pause, ends = FIRST_POLL_AFTER_CANCEL, time.monotonic() + CANCEL_WAIT
        while time.monotonic() < ends:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_POLL_AFTER_CANCEL)
            found = await self.poll(run)
            if isinstance(found, RequestFailure):
                return found
            if found.run is not None:
                return found.run
        return RequestFailure(kind=FailureKind.NOT_ACCEPTED, text="it is asked to end, and goes on")

    async def _read(self, run: NewRun) -> Polled:
        ref, at = self.ref(run), time.time()
        asked = wire_of(ref.kind).poll(ref)
        # Polls are most of what a task sends; to change a request takes longer than to make one.
        polled = await self.sender.send(
            ApiRequest(
                method=asked.method,
                path=asked.path,
                headers=asked.headers,
                read=_polled_of(ref, asked),
                timeout=POLL_TIMEOUT,
            )
        )
        self._see(run, polled.result, at)
        if polled.run is None or not self.include:
            return polled
        request = RunRequest(kind=ref.kind, body={"include": list(self.include)})
        whole = await self.sender.run_flow(flows.read(ref, steps=True, request=request))
        return replace(polled, run=whole)


def _polled_of(ref: RunRef, asked: ApiRequest[PollResult]) -> Callable[[ApiReply], Polled]:
    """Return what reads from one answer how a run is doing, and all of it if it has ended."""

    def read(reply: ApiReply) -> Polled:
        result = asked.read(reply)
        is_done = result.status.is_terminal or result.needs_action
        return Polled(result=result, run=wire_of(ref.kind).retrieve(ref).read(reply) if is_done else None)

    return read


def _changed(request: ApiRequest[Any], read: Callable[[ApiReply], T], **changes: Any) -> ApiRequest[T]:
    return replace(request, read=read, **changes)
