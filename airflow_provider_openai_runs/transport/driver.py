# SPDX-License-Identifier: Apache-2.0
"""The two loops that run a flow: one that blocks its thread, one that does not block its event loop."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from airflow_provider_openai_runs.wire import Flow
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest, Sleep

T = TypeVar("T")

_log = logging.getLogger(__name__)


def run(
    flow: Flow[T],
    *,
    send: Callable[[ApiRequest[Any]], Any],
    sleep: Callable[[float], None],
    refresh_connection: Callable[[], None],
) -> T:
    """
    Run a flow to its result.

    :param send: sends one request and returns what it read; its ``ApiRequestFailed`` is thrown into the flow.
    :param sleep: takes seconds.
    :param refresh_connection: called after a pause that asks for it: the next request needs a new key.
    :raises ApiRequestFailed: for the caller to decide about.
    """
    advance: Callable[[], Any] = partial(next, flow)
    while True:
        try:
            step = advance()
        except StopIteration as stop:
            result: T = stop.value
            return result
        if isinstance(step, Sleep):
            _say_why(step)
            sleep(step.seconds)
            if step.refresh_connection:
                refresh_connection()
            advance = partial(next, flow)
            continue
        try:
            advance = partial(flow.send, send(step))
        except ApiRequestFailed as failed:
            advance = partial(flow.throw, failed)


async def arun(
    flow: Flow[T],
    *,
    send: Callable[[ApiRequest[Any]], Awaitable[Any]],
    sleep: Callable[[float], Awaitable[None]],
    refresh_connection: Callable[[], None],
) -> T:
    """
    Run a flow to its result on the running event loop; the parameters are those of ``run``.

    :raises ApiRequestFailed: for the caller to decide about.
    """
    advance: Callable[[], Any] = partial(next, flow)
    while True:
        try:
            step = advance()
        except StopIteration as stop:
            result: T = stop.value
            return result
        if isinstance(step, Sleep):
            _say_why(step)
            await sleep(step.seconds)
            if step.refresh_connection:
                refresh_connection()
            advance = partial(next, flow)
            continue
        try:
            advance = partial(flow.send, await send(step))
        except ApiRequestFailed as failed:
            advance = partial(flow.throw, failed)


def _say_why(pause: Sleep) -> None:
    if pause.because is not None:
        _log.warning("%s. It is sent again in %.0f s", pause.because, pause.seconds)
