# SPDX-License-Identifier: Apache-2.0
"""
A worker's one channel to Airflow, used by one thread at a time.

Airflow has a lock of its own there, but not in ``dag.test()``, which takes the channel away for each use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from airflow_provider_openai_runs.bulk.in_thread import in_thread
from airflow_provider_openai_runs.bulk.journal import StateStore
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

T = TypeVar("T")


class ChannelClosedError(Exception):
    """The session is over; the main thread alone speaks to Airflow."""


@dataclass
class Channel:
    """What the threads of a session ask of Airflow, in line."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_closed: bool = False

    def call(self, ask: Callable[[], T]) -> T:
        """
        Call it, after those before it.

        :raises ChannelClosedError: if the session is over.
        """
        with self._lock:
            if self._is_closed:
                raise ChannelClosedError
            return ask()

    def close(self) -> None:
        """Let nobody ask any more: what a thread that is late would say belongs to no attempt."""
        self._is_closed = True


@dataclass(frozen=True, slots=True)
class StoreInLine:
    """A ``StateStore`` behind the channel."""

    store: StateStore
    channel: Channel

    def load(self) -> Mapping[str, Any] | None:
        """Return what is stored; None if nothing is."""
        return self.channel.call(self.store.load)

    def save(self, value: Mapping[str, Any]) -> None:
        """
        Store a value.

        :raises NoLongerOwnerError: if a later attempt has taken over.
        """
        self.channel.call(lambda: self.store.save(value))


class ConnectionInLine:
    """A connection for the shared client, read in a thread: a worker has one channel to Airflow."""

    def __init__(self, hook: OpenAIRunsHook, channel: Channel) -> None:
        self._hook = hook
        self._channel = channel
        self.conn_id = hook.conn_id
        self.build_async_client = hook.build_async_client

    @property
    def log(self) -> Any:
        """Where to say what happens to the client."""
        return self._hook.log

    async def aread_connection(self) -> tuple[Any, dict[str, Any]]:
        """Read the connection."""
        return await in_thread(partial(self._channel.call, self._hook.read_connection))
