# SPDX-License-Identifier: Apache-2.0
"""
Create, read and cancel as flows of calls, and the patience with which every flow is run.

The hook drives them with a synchronous or an asynchronous client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.wire import Answer, Flow, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest, Sleep
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS

T = TypeVar("T")

#: Seconds that one answer may take, where the budget allows. A create may take the whole budget: gateways
#: that ignore ``background`` answer only when the run has ended.
_ANSWER_TIMEOUT = 60.0
_LONGEST_PAUSE = 30.0
#: How servers refuse to cancel what has ended: OpenAI 400, others 409.
_REFUSED_CANCEL = frozenset({400, 409, 422})
#: How servers answer that cannot cancel at all; 404 also means that the run is unknown.
_NO_CANCEL = frozenset({404, 405, 501})
_FIRST_POLL_AFTER_CANCEL = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResult:
    """
    What became of a run that was asked to end.

    :param look: the last look at it; None when nobody could say, or it is gone.
    :param trouble: why not.
    :param accepted: the server took the cancel, whatever became of the looks after it.
    """

    polled: PollResult | None
    failure: RequestFailure | None = None
    accepted: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the run is over for certain."""
        return self.is_gone or (self.polled is not None and self.polled.status.is_terminal)

    @property
    def is_gone(self) -> bool:
        """Whether the server knows no such run any more."""
        unknown = self.failure is not None and self.failure.kind is FailureKind.NOT_FOUND
        # A server without a way to cancel says 404 to that, and knows the run all the same.
        return unknown and self.polled is None


def create(request: RunRequest, *, token: str | None, conn_id: str) -> Flow[Run]:
    """Start a run, on a new thread if the request brings one."""
    if request.thread is not None and request.thread_id is None:
        # Two calls: a lost answer to this one leaves an empty thread, which costs nothing.
        thread_id = yield THREADS.create_thread(request.thread)
        request = replace(request, thread_id=thread_id)
    run: Run = yield wire_of(request.kind).create(request, token=token, conn_id=conn_id)
    return run


def read(ref: RunRef, *, steps: bool) -> Flow[Run]:
    """Read a run with its output, and with all its steps if wanted."""
    run: Run = yield wire_of(ref.kind).retrieve(ref)
    return (yield from complete(run, steps=steps))


def complete(run: Run, *, steps: bool) -> Flow[Run]:
    """Add to a run what its API keeps elsewhere."""
    return (yield from wire_of(run.ref.kind).complete(run, steps=steps))


def single(call: ApiRequest[T]) -> Flow[T]:
    """Make one call."""
    found: T = yield call
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

    Never raises ``CallFailed``: the result says what is known.

    :param visible_by: until this Unix time a 404 means that the run is not visible yet, not that it is gone.
    """
    ends = time.monotonic() + wait
    observed: PollResult | None = None
    refused: RequestFailure | None = None
    pause = _FIRST_POLL_AFTER_CANCEL
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
    """Cancel once; when refused, look why: it has ended, is gone, or cannot be cancelled, or not yet."""
    try:
        observed: PollResult = yield wire_of(ref.kind).cancel(ref)
    except ApiRequestFailed as failed:
        if failed.failure.http_status not in _REFUSED_CANCEL | _NO_CANCEL:
            raise
        observed = yield wire_of(ref.kind).poll(ref)
        return observed, None if observed.status is RunStatus.CANCELLING else failed.failure
    return observed, None


def with_retries(
    flow: Flow[T],
    *,
    budget: float,
    before_paying: Callable[[], None] = lambda: None,
    after_refusal: Callable[[], None] = lambda: None,
) -> Flow[T]:
    """
    Run a flow within a budget in seconds, and send again what may be sent again.

    That is every call in transient trouble, but of a call that pays only what the server surely did not
    accept (connect errors, 429, 409, 503): a time-out or a 500 may have started the run.

    :param before_paying: called before each time that a call that pays is sent.
    :param after_refusal: called once the server surely did not accept it, before the pause.
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
            found = (
                (yield step)
                if isinstance(step, Sleep)
                else (yield from _answered(step, ends, before_paying, after_refusal))
            )
        except ApiRequestFailed as failed:
            advance = partial(flow.throw, failed)
        else:
            advance = partial(flow.send, found)


def _answered(
    call: ApiRequest[T], ends: float, before_paying: Callable[[], None], after_refusal: Callable[[], None]
) -> Flow[T]:
    tries = 0
    while True:
        left = max(1.0, ends - time.monotonic())
        timeout = call.timeout or (left if call.pays else min(left, _ANSWER_TIMEOUT))
        if call.pays:
            before_paying()
        try:
            found: T = yield replace(call, timeout=timeout)
        except ApiRequestFailed as failed:
            failure = failed.failure
            tries += 1
            pause = max(min(0.5 * 2.0 ** min(tries, 10), _LONGEST_PAUSE), failure.retry_after or 0.0)
            again = failure.is_transient and (failure.not_accepted or not call.pays)
            if not again or time.monotonic() + pause >= ends:
                raise
            if call.pays:
                after_refusal()
            yield Sleep(pause)
        else:
            return found
