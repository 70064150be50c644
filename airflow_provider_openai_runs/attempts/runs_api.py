# SPDX-License-Identifier: Apache-2.0
"""What an attempt asks of a server: a failed request is a value to decide about; only a kill is raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.acquisition import SearchResult
from airflow_provider_openai_runs.runs.budgets import ADOPT_BUDGET, CLOSE_BUDGET
from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.fate import CancelResult
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.response_request import conversation_of
from airflow_provider_openai_runs.wire import Answer, ApiRequest, Flow, Wire, flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from airflow_provider_openai_runs.attempts.record_store import SavedIntent
    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RunsApi:
    """The requests of one attempt, by a hook that a kill interrupts; tests put a toy in its place."""

    hook: OpenAIRunsHook
    request: RunRequest

    @property
    def conn_id(self) -> str:
        """The connection that creates runs."""
        return self.hook.conn_id

    @property
    def wire(self) -> Wire:
        """The wire API of the request's kind."""
        return wire_of(self.request.kind)

    def sleep(self, seconds: float) -> None:
        """Pause, unless the task is killed."""
        self.hook.sleep(seconds)

    def account(self, conn_id: str) -> Account | None:
        """Return where a connection leads; None if nobody can say."""
        return self._hook_for(conn_id).account

    def poll(self, ref: RunRef) -> PollResult | RequestFailure:
        """Ask how a run is doing."""
        flow = flows.single(wire_of(ref.kind).poll(ref))
        return _tried(self._hook_for(ref.conn_id), flows.with_retries(flow, budget=ADOPT_BUDGET))

    def retrieve(self, ref: RunRef, *, budget: float) -> Run | RequestFailure:
        """Read a run, without what its API keeps elsewhere."""
        flow = flows.single(wire_of(ref.kind).retrieve(ref, self.request.that_created(ref)))
        return _tried(self._hook_for(ref.conn_id), flows.with_retries(flow, budget=budget))

    def search(self, intent: Record) -> SearchResult | RequestFailure:
        """Search once for the run of an intent, where its create was sent, whatever the Dag says now."""
        wire, conn_id = wire_of(intent.kind or self.request.kind), intent.conn_id or self.conn_id
        flow = wire.search(
            thread_id=intent.thread_id, token=intent.token, since=intent.intent_at, conn_id=conn_id
        )
        return _tried(self._hook_for(conn_id), flows.with_retries(flow, budget=ADOPT_BUDGET))

    def cancel(self, ref: RunRef, *, wait: float, visible_by: float = 0.0) -> CancelResult:
        """End a run and wait up to ``wait`` seconds for its end."""
        return self._hook_for(ref.conn_id).run_flow(flows.cancel(ref, wait=wait, visible_by=visible_by))

    def close(self, ref: RunRef) -> str | RequestFailure | None:
        """Answer the calls of an ended run with an error, and return the conversation that is free again."""
        flow = flows.close(ref, self.request.that_created(ref))
        return _tried(self._hook_for(ref.conn_id), flows.with_retries(flow, budget=CLOSE_BUDGET))

    def unanswered(self, ref: RunRef) -> tuple[Mapping[str, Any], ...] | RequestFailure:
        """Return what ``close`` sends, for a server that takes it with a create in that conversation only."""
        if conversation_of(self.request.body) != ref.thread_id:
            return ()  # the Dag was edited: this create goes elsewhere
        flow = flows.unanswered(ref, self.request.that_created(ref))
        return _tried(self._hook_for(ref.conn_id), flows.with_retries(flow, budget=CLOSE_BUDGET))

    def create_thread(self, *, budget: float) -> str | RequestFailure | None:
        """Create the thread that the request brings, and return its id; None if it brings none."""
        request = self.wire.create_thread_for(self.request)
        if request is None:
            return None
        return _tried(self.hook, flows.with_retries(flows.single(request), budget=budget))

    def create(
        self,
        intent: SavedIntent,
        *,
        thread_id: str | None,
        timeout: float,
        closing: tuple[Mapping[str, Any], ...] = (),
    ) -> Run | RequestFailure:
        """Send a create, once; ``closing`` goes ahead of its input."""
        request = replace(self.request, thread_id=thread_id, closing=closing)
        create = self.wire.create(request, token=intent.record.token, conn_id=self.conn_id)
        return self._once(create, timeout)

    def answer(
        self,
        intent: SavedIntent | None,
        run: Run,
        outputs: Mapping[str, Answer],
        request: RunRequest,
        *,
        timeout: float,
    ) -> Run | RequestFailure:
        """Send the answers to a run's calls, once; only where the run itself goes on, no intent is needed."""
        token = intent.record.token if intent else None
        return self._once(wire_of(run.ref.kind).answer(run, outputs, request, token=token), timeout)

    def error_of(self, failure: RequestFailure, doing: str) -> OpenAIRunError:
        """Return the public error for a request that failed for good."""
        return self.hook.error_of(failure, doing=doing, kind=self.request.kind)

    def _once(self, request: ApiRequest[T], timeout: float) -> T | RequestFailure:
        return _tried(self.hook, flows.single(replace(request, timeout=timeout)))

    def _hook_for(self, conn_id: str) -> OpenAIRunsHook:
        return self.hook if conn_id == self.conn_id else self.hook.for_connection(conn_id)


def _tried(hook: OpenAIRunsHook, flow: Flow[T]) -> T | RequestFailure:
    try:
        return hook.run_flow(flow)
    except ApiRequestFailed as failed:
        return failed.failure
