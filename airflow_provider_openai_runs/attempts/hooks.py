# SPDX-License-Identifier: Apache-2.0
"""The hooks of one attempt, one for each connection: a kill interrupts what creates and waits."""

from __future__ import annotations

from airflow_provider_openai_runs.attempts.kill import KillHandler
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.prices import Prices


class AttemptHooks:
    """
    Makes each hook once.

    :ivar earlier: the run of an earlier attempt or worker, as people read it: its connection has existed.
    """

    def __init__(self, kill_handler: KillHandler, *, withholds: bool) -> None:
        self.earlier: str | None = None
        self._kill_handler = kill_handler
        self._withholds = withholds
        self._hooks: dict[str, OpenAIRunsHook] = {}
        self._is_watched = False

    def watched(self, conn_id: str) -> OpenAIRunsHook:
        """
        Return a hook that a kill interrupts.

        :raises RunConnectionError: if its connection is not found, or not usable.
        """
        if not self._is_watched:
            self._hooks.clear()  # those that were only to read with
            self._is_watched = True
        if conn_id not in self._hooks:
            existed = self.earlier is not None
            hook = OpenAIRunsHook(
                conn_id, sleep=self._kill_handler.sleep, existed=existed, withholds=self._withholds
            )
            hook.await_connection(self.earlier)
            self._hooks[conn_id] = hook
        self._kill_handler.prepare(self._hooks[conn_id])
        return self._hooks[conn_id]

    def of(self, ref: RunRef) -> OpenAIRunsHook:
        """
        Return a hook to read a run with.

        :raises RunConnectionError: if its connection is not found, or not usable.
        """
        hook = self._hooks.setdefault(
            ref.conn_id, OpenAIRunsHook(ref.conn_id, existed=True, withholds=self._withholds)
        )
        hook.await_connection(ref.subject)
        return hook

    def prices_of(self, conn_id: str) -> Prices:
        """
        Return what a connection says that tokens cost.

        :raises RunConnectionError: if it is not found, or not usable.
        """
        hook = self._hooks.get(conn_id) or OpenAIRunsHook(conn_id, existed=True)
        return hook.prices
