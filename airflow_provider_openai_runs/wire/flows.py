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
from urllib.parse import quote

from airflow_provider_openai_runs.runs.budgets import (
    FIRST_POLL_AFTER_CANCEL,
    LEAST_REPLY_TIMEOUT,
    LONGEST_PAUSE,
    LONGEST_POLL_AFTER_CANCEL,
    REPLY_TIMEOUT,
    SERVER_HINT_BOUNDS,
)
from airflow_provider_openai_runs.runs.failure import FailureKind, pause_before_retry
from airflow_provider_openai_runs.runs.fate import CancelResult
from airflow_provider_openai_runs.runs.files import RunFile
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.wire import Answer, Flow, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest, Receiver, Sleep

T = TypeVar("T")

#: How servers refuse to cancel what has ended: OpenAI 400, others 409. A poll says what it means.
_REFUSED_CANCEL = frozenset({400, 409, 422})
#: How servers refuse a query that they do not know.
_REFUSED_INCLUDE = frozenset({400, 422})
#: To a poll: the run is unknown. To a cancel also: this server cannot cancel at all.
_NOT_FOUND = 404


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
    wire = wire_of(ref.kind)

    def reading(asked: Sequence[str]) -> Flow[Run]:
        run: Run = yield wire.retrieve(ref, request, include=asked)
        return (yield from wire.complete(run, steps=steps, include=asked))

    return (yield from _including(reading, request, include))


def complete(run: Run, *, steps: bool, include: Sequence[str] = ()) -> Flow[Run]:
    """Add to a run what its API keeps elsewhere."""
    return (yield from wire_of(run.ref.kind).complete(run, steps=steps, include=include))


def whole(
    ref: RunRef, receiver: Receiver, *, request: RunRequest | None = None, include: Sequence[str] = ()
) -> Flow[Run]:
    """
    Read a run with its output and every step; the parameters are those of ``read``.

    :param receiver: takes all of the reply, however large.
    """
    reading = partial(wire_of(ref.kind).whole, ref, request, receiver)
    return (yield from _including(lambda asked: reading(include=asked), request, include))


def _including(
    reading: Callable[[Sequence[str]], Flow[Run]], request: RunRequest | None, include: Sequence[str]
) -> Flow[Run]:
    """Read with ``include``, or with what the request included, unless the server refuses that in a read."""
    again = () if include or request is None else request.include
    try:
        return (yield from reading(include or again))
    except ApiRequestFailed as failed:
        if not again or failed.failure.http_status not in _REFUSED_INCLUDE:
            raise
    return (yield from reading(()))


def content(file: RunFile, receiver: Receiver) -> Flow[None]:
    """Let ``receiver`` take the bytes of a file that the server keeps."""
    file_id = quote(file.file_id or "", safe="")
    path = f"/files/{file_id}/content"
    if file.container_id:
        path = f"/containers/{quote(file.container_id, safe='')}{path}"
    yield ApiRequest(method="GET", path=path, read=lambda _: None, receiver=receiver)


def withholding(flow: Flow[T]) -> Flow[T]:
    """Run a flow in which no failure repeats what the server said: it may quote the prompt, or the answer."""

    def sent(step: ApiRequest[Any] | Sleep) -> Flow[Any]:
        try:
            return (yield step)
        except ApiRequestFailed as failed:
            withheld = replace(failed.failure, is_withheld=True)
            raise ApiRequestFailed(withheld, pays=failed.pays) from None

    return (yield from _with_each(flow, sent))


def pause(seconds: float, *, refresh_connection: bool = False) -> Flow[None]:
    """Wait; with ``refresh_connection``, the next request reads the connection anew."""
    yield Sleep(seconds, refresh_connection=refresh_connection)


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


def close(ref: RunRef, request: RunRequest | None = None) -> Flow[str | None]:
    """
    Answer with an error the calls of a response that nobody goes on with: they would block its conversation.

    :param request: it created the run, if that is known.
    :return: the conversation that can be used again; None where there is nothing to close.
    """
    wire = wire_of(ref.kind)
    run: Run = yield wire.retrieve(ref, request)
    return (yield from wire.close(run, conversation=None))


def unanswered(ref: RunRef, request: RunRequest | None = None) -> Flow[tuple[dict[str, Any], ...]]:
    """Return the input items that ``close`` sends; with another create they do the same."""
    wire = wire_of(ref.kind)
    run: Run = yield wire.retrieve(ref, request)
    return (yield from wire.unanswered(run, conversation=None))


def cancel(
    ref: RunRef,
    *,
    wait: float,
    visible_by: float = 0.0,
    polled: PollResult | None = None,
    polls_first: bool = True,
) -> Flow[CancelResult]:
    """
    End a run and wait up to ``wait`` seconds for its end. A run that has ended already is success.

    Polls before it cancels, each time: some gateways overwrite the status of a run that has completed. It
    needs no ``with_retries``: what is refused or fails is answered by another poll. Never raises
    ``ApiRequestFailed``: the result says what is known.

    :param visible_by: until this Unix time a 404 means that the run is not visible yet, not that it is gone.
    :param polled: the run a moment ago, where the caller knows it.
    :param polls_first: whether to poll where the caller does not; it may just have tried.
    """
    ends = time.monotonic() + wait
    found, pause = CancelResult(polled=polled), FIRST_POLL_AFTER_CANCEL
    is_fresh = polled is not None or not polls_first
    while True:
        if not is_fresh:
            found = yield from _poll_to_end(ref, found, ends - time.monotonic(), visible_by)
        # Also a run that its server does not know is asked to end: another replica may know it.
        is_sure = found.has_ended and (found.asked or not found.is_gone)
        if is_sure or (found.asked and _is_final(found, visible_by)):
            return found
        if not found.accepted and (found.polled is None or found.polled.status is not RunStatus.CANCELLING):
            found = yield from _ask_to_end(ref, found, ends - time.monotonic())
        asked_to_wait = min((found.failure and found.failure.retry_after) or 0.0, LONGEST_PAUSE)
        if found.has_ended or time.monotonic() + max(pause, asked_to_wait) >= ends:
            return found
        yield Sleep(max(pause, asked_to_wait))
        pause, is_fresh = min(pause * 2, LONGEST_POLL_AFTER_CANCEL), False


def _poll_to_end(ref: RunRef, found: CancelResult, seconds: float, visible_by: float) -> Flow[CancelResult]:
    # A poll that hangs leaves time for the cancel.
    share = 1 if found.accepted else 3
    try:
        polled: PollResult = yield _once(wire_of(ref.kind).poll(ref), seconds / share)
    except ApiRequestFailed as failed:
        is_gone = failed.failure.says_gone and time.time() >= visible_by
        return replace(
            found, polled=None if is_gone else found.polled, failure=failed.failure, is_gone=is_gone
        )
    return replace(found, polled=polled, failure=None if polled.status.is_terminal else found.refusal)


def _ask_to_end(ref: RunRef, found: CancelResult, seconds: float) -> Flow[CancelResult]:
    try:
        polled: PollResult = yield _once(wire_of(ref.kind).cancel(ref), seconds)
    except ApiRequestFailed as failed:
        failure = found.failure if found.polled is None else failed.failure
        is_gone = found.is_gone and not failed.failure.is_transient
        return replace(
            found, failure=failure or failed.failure, refusal=failed.failure, asked=True, is_gone=is_gone
        )
    return CancelResult(polled=polled, asked=True, accepted=True)


def _is_final(found: CancelResult, visible_by: float) -> bool:
    """Whether asking again would bring the same."""
    failure = found.failure
    is_early = failure is not None and failure.http_status == _NOT_FOUND and time.time() < visible_by
    if failure is None or failure.is_transient or is_early:
        return False
    if failure is not found.refusal and failure.kind is FailureKind.NOT_FOUND and not failure.says_gone:
        return False  # of a gateway, whose server may be back in a moment
    # A run that has just ended refuses its cancel as well, and the next poll says so.
    is_of_the_cancel = failure is found.refusal
    return not is_of_the_cancel or failure.http_status not in _REFUSED_CANCEL


def _once(request: ApiRequest[T], seconds: float) -> ApiRequest[T]:
    return replace(request, once=True, timeout=min(max(LEAST_REPLY_TIMEOUT, seconds), REPLY_TIMEOUT))


def with_retries(flow: Flow[T], *, budget: float) -> Flow[T]:
    """
    Run a flow within a budget in seconds, and send again what may be sent again.

    That is every request after a transient failure, but of one that pays only what the server certainly did
    not accept (connect errors, 429, 424, 425, 409 and 503 in the API's own form): a time-out or a 500 may
    have started the run.
    """
    return (yield from _with_each(flow, partial(_sent_until, ends=time.monotonic() + budget)))


def _with_each(flow: Flow[T], sent: Callable[[ApiRequest[Any] | Sleep], Flow[Any]]) -> Flow[T]:
    """Run a flow, each of its steps by a flow of its own."""
    advance: Callable[[], ApiRequest[Any] | Sleep] = partial(next, flow)
    while True:
        try:
            step = advance()
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            found = yield from sent(step)
        except ApiRequestFailed as failed:
            advance = partial(flow.throw, failed)
        else:
            advance = partial(flow.send, found)


def _sent_until(request: ApiRequest[Any] | Sleep, ends: float) -> Flow[Any]:
    if isinstance(request, Sleep) or request.once:
        return (yield request)
    tries = 0
    while True:
        left = max(LEAST_REPLY_TIMEOUT, ends - time.monotonic())
        takes_long = request.pays or (request.receiver or request.upload) is not None
        timeout = request.timeout or (left if takes_long else min(left, REPLY_TIMEOUT))
        try:
            found = yield replace(request, timeout=timeout)
        except ApiRequestFailed as failed:
            failure = failed.failure
            pause = pause_before_retry(failure, tries)
            pause = pause if request.pays else min(pause, SERVER_HINT_BOUNDS[1])
            tries += 1
            again = failure.may_be_sent_again if request.pays else failure.is_transient
            if not again or time.monotonic() + pause >= ends:
                raise
            yield Sleep(pause, because=f"{request.method} {request.path} failed: {failure.brief}")
        else:
            return found
