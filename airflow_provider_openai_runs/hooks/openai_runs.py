# SPDX-License-Identifier: Apache-2.0
"""The hook: from an Airflow connection to runs, for operators and for ``@task`` functions alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.hooks.connection import ConnectionHook
from airflow_provider_openai_runs.runs.as_json import as_json
from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS
from airflow_provider_openai_runs.runs.errors import LostCreateError, OpenAIRunError, RunCallError
from airflow_provider_openai_runs.runs.failure import FailureKind
from airflow_provider_openai_runs.runs.fate import CancelResult
from airflow_provider_openai_runs.runs.model import Run, RunRef, Step
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.response_request import continuation_request, response_request
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.thread_run_request import thread_run_request
from airflow_provider_openai_runs.wire import Answer, Flow, flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS
from airflow_provider_openai_runs.wire.threads import list_runs

T = TypeVar("T")


class OpenAIRunsHook(ConnectionHook):
    """
    Create, read, list, answer and cancel runs through a connection of type ``openai``.

    Every method has an asynchronous twin with the prefix ``a``; the twins share one client for each
    connection and event loop. Errors are those of ``airflow_provider_openai_runs.exceptions``.
    """

    # -- create -------------------------------------------------------------------------------------------

    def create_thread_run(self, **arguments: Any) -> Run:
        """
        Start a thread run and return it without waiting; the arguments are ``CreateRunOperator``'s.

        A lost answer is a ``LostCreateError``; nothing is sent twice.

        :raises RunRequestError: before anything is sent.
        """
        with airflow_errors():
            return self._create(thread_run_request(**arguments))

    async def acreate_thread_run(self, **arguments: Any) -> Run:
        """Start a thread run."""
        with airflow_errors():
            return await self._acreate(thread_run_request(**arguments))

    def create_background_response(self, **arguments: Any) -> Run:
        """Start a background response; the arguments are ``CreateResponseOperator``'s."""
        with airflow_errors():
            return self._create(response_request(**arguments))

    async def acreate_background_response(self, **arguments: Any) -> Run:
        """Start a background response."""
        with airflow_errors():
            return await self._acreate(response_request(**arguments))

    def create_thread(self, *, messages: list[Mapping[str, Any]] | None = None, **more: Any) -> str:
        """Create a thread, with messages ``{"role", "content"}`` if given, and return its id."""
        return self._sync(_thread(messages, more), "create", "create a thread", RunKind.THREAD_RUN)

    async def acreate_thread(self, *, messages: list[Mapping[str, Any]] | None = None, **more: Any) -> str:
        """Create a thread and return its id."""
        return await self._async(_thread(messages, more), "create", "create a thread", RunKind.THREAD_RUN)

    # -- read ---------------------------------------------------------------------------------------------

    def retrieve(
        self, ref: RunRef | Mapping[str, Any], *, include_steps: bool = False, include: Sequence[str] = ()
    ) -> Run:
        """
        Read a run with its output.

        :param ref: the ``ref`` of a run, as in XCom.
        :param include_steps: read every page of its steps, too.
        :param include: what the API leaves out unless it is asked for, by its own names.
        :raises RunNotFoundError: if the server does not know it.
        """
        run = RunRef.from_json(ref)
        flow = flows.read(run, steps=include_steps, include=include)
        return self._sync(flow, "read", f"read {run}", run.kind)

    async def aretrieve(
        self, ref: RunRef | Mapping[str, Any], *, include_steps: bool = False, include: Sequence[str] = ()
    ) -> Run:
        """Read a run with its output."""
        run = RunRef.from_json(ref)
        flow = flows.read(run, steps=include_steps, include=include)
        return await self._async(flow, "read", f"read {run}", run.kind)

    def steps(self, ref: RunRef | Mapping[str, Any]) -> tuple[Step, ...]:
        """Read every step of a run; of a response, its output items."""
        return self.retrieve(ref, include_steps=True).steps or ()

    async def asteps(self, ref: RunRef | Mapping[str, Any]) -> tuple[Step, ...]:
        """Read every step of a run."""
        return (await self.aretrieve(ref, include_steps=True)).steps or ()

    def output(self, ref: RunRef | Mapping[str, Any]) -> str | None:
        """Read the text that a run answered with."""
        return self.retrieve(ref).output_text

    async def aoutput(self, ref: RunRef | Mapping[str, Any]) -> str | None:
        """Read the text that a run answered with."""
        return (await self.aretrieve(ref)).output_text

    def list_thread_runs(self, thread_id: str, *, order: str = "desc") -> list[Run]:
        """
        List every run of a thread, all pages; there is no list of responses.

        A run whose id no URL can carry is left out: nobody could ask for it.
        """
        flow = list_runs(thread_id, conn_id=self.conn_id, order=order)
        return self._sync(flow, "read", f"list the runs of thread {thread_id}", RunKind.THREAD_RUN)

    async def alist_thread_runs(self, thread_id: str, *, order: str = "desc") -> list[Run]:
        """List every run of a thread."""
        flow = list_runs(thread_id, conn_id=self.conn_id, order=order)
        return await self._async(flow, "read", f"list the runs of thread {thread_id}", RunKind.THREAD_RUN)

    # -- act ----------------------------------------------------------------------------------------------

    def cancel(self, ref: RunRef | Mapping[str, Any], *, wait: float = DEFAULT_TIMEOUTS["delete"]) -> Run:
        """
        End a run, wait up to ``wait`` seconds for its end, and return it as it ended.

        A run that has ended already is success: check ``status``.

        :raises RunCallError: if it could not be cancelled.
        """
        run = RunRef.from_json(ref)
        with airflow_errors():
            ended = self.run_flow(flows.cancel(run, wait=wait))
        self._check_cancelled(run, ended)
        return self.retrieve(run)

    async def acancel(
        self, ref: RunRef | Mapping[str, Any], *, wait: float = DEFAULT_TIMEOUTS["delete"]
    ) -> Run:
        """End a run and wait for its end."""
        run = RunRef.from_json(ref)
        with airflow_errors():
            ended = await self.arun_flow(flows.cancel(run, wait=wait))
        self._check_cancelled(run, ended)
        return await self.aretrieve(run)

    def submit_tool_outputs(self, run: Run, outputs: Mapping[str, Answer], *, tools: Any = None) -> Run:
        """
        Answer all pending calls of a run in one request and return the run that goes on.

        A thread run goes on itself; a response goes on as a new one, with a new id.

        :param run: as ``retrieve`` returned it.
        :param outputs: call id to text; true or false to the approval request of an MCP tool; or a whole
            output item of a response.
        :param tools: of a response: the tools to offer again, which the API does not carry over.
        """
        return self._sync(_answer(run, outputs, tools), "create", f"answer {run.ref}", run.ref.kind)

    async def asubmit_tool_outputs(
        self, run: Run, outputs: Mapping[str, Answer], *, tools: Any = None
    ) -> Run:
        """Answer all pending calls of a run in one request."""
        return await self._async(_answer(run, outputs, tools), "create", f"answer {run.ref}", run.ref.kind)

    # -- inner --------------------------------------------------------------------------------------------

    def _create(self, request: RunRequest) -> Run:
        flow = flows.create(request, token=None, conn_id=self.conn_id)
        return self._sync(flow, "create", f"create a {request.noun}", request.kind)

    async def _acreate(self, request: RunRequest) -> Run:
        flow = flows.create(request, token=None, conn_id=self.conn_id)
        return await self._async(flow, "create", f"create a {request.noun}", request.kind)

    def _sync(self, flow: Flow[T], action: str, doing: str, kind: str) -> T:
        with airflow_errors():
            try:
                return self.run_flow(flows.with_retries(flow, budget=DEFAULT_TIMEOUTS[action]))
            except ApiRequestFailed as failed:
                raise self._error(failed, doing, kind) from None

    async def _async(self, flow: Flow[T], action: str, doing: str, kind: str) -> T:
        with airflow_errors():
            try:
                return await self.arun_flow(flows.with_retries(flow, budget=DEFAULT_TIMEOUTS[action]))
            except ApiRequestFailed as failed:
                raise self._error(failed, doing, kind) from None

    def _error(self, failed: ApiRequestFailed, doing: str, kind: str) -> OpenAIRunError:
        if failed.pays and failed.failure.kind is FailureKind.OUTCOME_UNKNOWN:
            return LostCreateError(
                f"Could not {doing} (connection {self.conn_id!r}): {failed.failure}. It may have been "
                "accepted, and a run may be going on and billing; it was not sent again."
            )
        return self.error_of(failed.failure, doing=doing, kind=kind)

    def _check_cancelled(self, ref: RunRef, ended: CancelResult) -> None:
        if ended.is_gone and ended.failure is not None:
            with airflow_errors():
                raise self.error_of(ended.failure, doing=f"cancel {ref}", kind=ref.kind)
        if not ended.has_ended:
            raw_status = ended.raw_status or "unknown"
            why = ended.failure or "it did not end in time"
            done = f"{ref} is being cancelled, but" if ended.accepted else f"Could not cancel {ref}:"
            with airflow_errors():
                raise RunCallError(
                    f"{done} {why} (status {raw_status}). It may be running and billing; try again."
                )


def _thread(messages: list[Mapping[str, Any]] | None, more: Mapping[str, Any]) -> Flow[str]:
    given = {**more, **({"messages": messages} if messages else {})}
    return flows.single(THREADS.create_thread({name: as_json(name, value) for name, value in given.items()}))


def _answer(run: Run, outputs: Mapping[str, Answer], tools: Any) -> Flow[Run]:
    again = None if tools is None else continuation_request(tools=tools)
    return flows.answer(run, as_json("outputs", outputs), again)
