# SPDX-License-Identifier: Apache-2.0
"""What the servers of the runs say, as far as their connections are known on this machine."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.budgets import CLI_CANCEL_WAIT, CLI_REQUEST_BUDGET
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.fate import CancelResult
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.wire import Flow, flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook

T = TypeVar("T")


class Connections:
    """
    Asks by a hook for each connection; threads may share it.

    :ivar unusable: the connections that cannot be used here, and why.
    """

    def __init__(self) -> None:
        self.unusable: dict[str, str] = {}
        self._hooks: dict[str, OpenAIRunsHook] = {}
        self._making = threading.Lock()

    def hook(self, conn_id: str) -> OpenAIRunsHook | None:
        """Return the hook of a connection; None if it cannot be used on this machine."""
        from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 # brings the SDK

        with self._making:
            if conn_id in self.unusable:
                return None
            if conn_id not in self._hooks:
                hook = OpenAIRunsHook(conn_id)
                try:
                    hook.conn  # noqa: B018 # the client is made once, before threads share it
                except Exception as error:  # noqa: BLE001 # whatever is wrong, the column stays empty
                    self.unusable[conn_id] = message_text(error)
                    return None
                self._hooks[conn_id] = hook
            return self._hooks[conn_id]

    def poll(self, ref: RunRef) -> PollResult | RequestFailure | None:
        """Ask how a run is doing; None if its connection is not known here."""
        return self._ask(ref.conn_id, flows.single(wire_of(ref.kind).poll(ref)))

    def search(self, record: Record, kind: str, conn_id: str) -> RunRef | None:
        """Search for the run of a lost create by its token; None if it was not found, or cannot be."""
        wire = wire_of(kind)
        if not wire.can_search or record.thread_id is None:
            return None
        flow = wire.search(
            thread_id=record.thread_id, token=record.token, since=record.intent_at, conn_id=conn_id
        )
        found = self._ask(conn_id, flow)
        return None if found is None or isinstance(found, RequestFailure) else found.ref

    def elsewhere(self, conn_id: str, account: Account | None) -> str:
        """Say in what a connection leads elsewhere than to an account, as far as is known; nothing if not."""
        hook = self.hook(conn_id)
        now = hook.account if hook is not None else None
        return now.differs_from(account) if now is not None else ""

    def cancel(self, ref: RunRef, account: Account | None) -> CancelResult | None:
        """
        End a run and wait for its end; None if its connection is not known here.

        :param account: where it was created; another one's server does not know it.
        """
        result = self._ask(ref.conn_id, flows.cancel(ref, wait=CLI_CANCEL_WAIT))
        if isinstance(result, RequestFailure):
            return CancelResult(polled=None, failure=result)
        if result is not None and result.is_gone and (text := self.elsewhere(ref.conn_id, account)):
            failure = RequestFailure(kind=FailureKind.ACCESS_DENIED, text=text)
            return replace(result, is_gone=False, failure=failure)
        return result

    def read(self, ref: RunRef) -> Run | RequestFailure | None:
        """Read a run with all that it says; None if its connection is not known here."""
        return self._ask(ref.conn_id, flows.read(ref, steps=True))

    def page(self, ref: RunRef) -> str:
        """Return the page that shows a run, or nothing."""
        hook = self.hook(ref.conn_id)
        return hook.run_url(ref) if hook else ""

    def _ask(self, conn_id: str, flow: Flow[T]) -> T | RequestFailure | None:
        hook = self.hook(conn_id)
        if hook is None:
            return None
        try:
            return hook.run_flow(flows.with_retries(flow, budget=CLI_REQUEST_BUDGET))
        except ApiRequestFailed as failed:
            return failed.failure
        except OpenAIRunError as error:
            return RequestFailure(kind=FailureKind.REJECTED, text=message_text(error))


def conn_id_of(rendered: Mapping[str, object]) -> str:
    """Return the connection that a task was given, as Airflow has rendered it."""
    return str(rendered.get("conn_id") or "openai_default")
