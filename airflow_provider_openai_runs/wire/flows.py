# SPDX-License-Identifier: Apache-2.0
"""
Create, read and cancel as flows of requests, and the retries with which every flow is run.

The hook drives them with a synchronous or an asynchronous client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from airflow_provider_openai_runs.runs.budgets import (
    FIRST_POLL_AFTER_CANCEL,
    REPLY_TIMEOUT,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure, pause_before_retry
from airflow_provider_openai_runs.runs.fate import CancelResult
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.wire import Answer, Flow, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest, Sleep

T = TypeVar("T")

#: How servers refuse to cancel what has ended: OpenAI 400, others 409.
_REFUSED_CANCEL = frozenset({400, 409, 422})
#: How servers refuse a query that they do not know.
_REFUSED_INCLUDE = frozenset({400, 422})
#: How servers answer that cannot cancel at all; 404 also means that the run is unknown.
_NO_CANCEL = frozenset({404, 405, 501})


def create(request: RunRequest, *, token: str | None, conn_id: str) -> Flow[Run]:
    """Start a run, on a new thread if the request brings one."""
    wire = wire_of(request.kind)
    if (new_thread := wire.create_thread_for(request)) is not None:
        # Two requests: a lost answer to this one leaves an empty thread, which costs nothing.
        request = replace(request, thread_id=(yield new_thread))
    run: Run = yield wire.create(request, token=token, conn_id=conn_id)
    return run


def read(
    ref: RunRef, *, steps: bool, request: RunRequest | None = None, include: Sequence[str] = ()
) -> Flow[Run]:
    """
    Read a run with its output, and with all its steps if wanted.

    :param request: it created the run, if that is known. What it included is asked for again, unless the
        server has no way to take that in a read.
    :param include: what else to ask for; a server that refuses it is an error.
    """
    again = () if include or request is None else request.include
    try:
        run: Run = yield wire_of(ref.kind).retrieve(ref, request, include=include or again)
    except ApiRequestFailed as failed:
        if not again or failed.failure.http_status not in _REFUSED_INCLUDE:
            raise
        run = yield wire_of(ref.kind).retrieve(ref, request)
    return (yield from complete(run, steps=steps, include=include or again))


def complete(run: Run, *, steps: bool, include: Sequence[str] = ()) -> Flow[Run]:
    """Add to a run what its API keeps elsewhere."""
    return (yield from wire_of(run.ref.kind).complete(run, steps=steps, include=include))


def single(request: ApiRequest[T]) -> Flow[T]:
    """Send one request."""
    found: T = yield request
    return found


def answer(
    run: Run, outputs: Mapping[str, Answer], request: RunRequest | None, *, token: str | None = None
) -> Flow[Run]:
    """Answer the model's calls, all in one request."""
    answered: Run = yield wire_of(run.ref.kind).answer(run, outputs, request, token=token)
    return answered


def cancel(ref: RunRef, *, wait: float, visible_by: float = 0.0) -> Flow[CancelResult]:
    """
    End a run and wait up to ``wait`` seconds for its end. A run that has ended already is success.

    Never raises ``ApiRequestFailed``: the result says what is known.

    :param visible_by: until this Unix time a 404 means that the run is not visible yet, not that it is gone.
    """
    ends = time.monotonic() + wait
    observed: PollResult | None = None
    refused: RequestFailure | None = None
    pause = FIRST_POLL_AFTER_CANCEL
    try:
        while True:
            if refused is not None or observed is None:
                try:
                    observed, refused = yield from _ask_to_end(ref)
                except ApiRequestFailed as failed:
                    too_early = failed.failure.kind is FailureKind.NOT_FOUND and time.time() < visible_by
                    if not too_early or time.monotonic() + pause >= ends:
                        raise
                    yield Sleep(pause)
                    pause = min(pause * 2, 5.0)
                    continue
            else:
                observed = yield wire_of(ref.kind).poll(ref)
            cannot = refused is not None and refused.http_status in _NO_CANCEL and time.time() >= visible_by
            if observed.status.is_terminal or cannot or time.monotonic() + pause >= ends:
                return CancelResult(
                    polled=observed,
                    failure=refused if observed.status.is_active else None,
                    accepted=refused is None,
                )
            yield Sleep(pause)
            pause = min(pause * 2, 5.0)
    except ApiRequestFailed as failed:
        gone = failed.failure.kind is FailureKind.NOT_FOUND
        accepted = observed is not None and refused is None
        return CancelResult(polled=None if gone else observed, failure=failed.failure, accepted=accepted)


def _ask_to_end(ref: RunRef) -> Flow[tuple[PollResult, RequestFailure | None]]:
    """Cancel once; when refused, find out why: it has ended, is gone, or cannot be cancelled, or not yet."""
    try:
        observed: PollResult = yield wire_of(ref.kind).cancel(ref)
    except ApiRequestFailed as failed:
        if failed.failure.http_status not in _REFUSED_CANCEL | _NO_CANCEL:
            raise
        observed = yield wire_of(ref.kind).poll(ref)
        return observed, None if observed.status is RunStatus.CANCELLING else failed.failure
    return observed, None


def with_retries(flow: Flow[T], *, budget: float) -> Flow[T]:
    """
    Run a flow within a budget in seconds, and send again what may be sent again.

    That is every request after a transient failure, but of one that pays only what the server certainly did
    not accept (connect errors, 429, 424, 409 and 503 in the API's own form): a time-out or a 500 may have
    started the run.
    """
    ends = time.monotonic() + budget
    advance: Callable[[], ApiRequest[Any] | Sleep] = partial(next, flow)
    while True:
        try:
            step = advance()
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            found = (yield step) if isinstance(step, Sleep) else (yield from _sent_until(step, ends))
        except ApiRequestFailed as failed:
            advance = partial(flow.throw, failed)
        else:
            advance = partial(flow.send, found)


def _sent_until(request: ApiRequest[T], ends: float) -> Flow[T]:
    tries = 0
    while True:
        left = max(1.0, ends - time.monotonic())
        timeout = request.timeout or (left if request.pays else min(left, REPLY_TIMEOUT))
        try:
            found: T = yield replace(request, timeout=timeout)
        except ApiRequestFailed as failed:
            failure = failed.failure
            pause = pause_before_retry(failure, tries)
            tries += 1
            again = failure.may_be_sent_again if request.pays else failure.is_transient
            if not again or time.monotonic() + pause >= ends:
                raise
            yield Sleep(pause)
        else:
            return found
