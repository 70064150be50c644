# SPDX-License-Identifier: Apache-2.0
"""The hook: from an Airflow connection to runs, for operators and for ``@task`` functions alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.hooks.connection import ConnectionHook
from airflow_provider_openai_runs.runs.as_json import as_json
from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS
from airflow_provider_openai_runs.runs.create_arguments import ResponseArguments, ThreadRunArguments
from airflow_provider_openai_runs.runs.errors import (
    LostCreateError,
    OpenAIRunError,
    RunCallError,
    RunRequestError,
)
from airflow_provider_openai_runs.runs.failure import FailureKind
from airflow_provider_openai_runs.runs.fate import CancelResult
from airflow_provider_openai_runs.runs.model import Run, RunRef, Step
from airflow_provider_openai_runs.runs.names import no_argument
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.response_request import continuation_request, response_request
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.thread_run_request import thread_run_request
from airflow_provider_openai_runs.wire import Answer, Flow, flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS
from airflow_provider_openai_runs.wire.threads import list_runs

T = TypeVar("T")

#: Arguments about the wait, which the operators have and the hook does not.
_OF_OPERATORS = frozenset({"completion_window", "poll_interval", "deferrable", "on_incomplete", "timeouts"})
#: Refused by a sentence of their own.
_STREAMS = frozenset({"stream", "stream_options"})


class OpenAIRunsHook(ConnectionHook):
    """
    Create, read, list, answer and cancel runs through a connection of type ``openai``.

    Every method has an asynchronous twin with the prefix ``a``; twins that run at the same time, or in one
    ``async with hook:``, share one client for each connection and event loop. A ``ref`` of another connection
    is asked for there. Errors are those of ``airflow_provider_openai_runs.exceptions``.
    """

    # -- create -------------------------------------------------------------------------------------------

    def create_thread_run(self, **arguments: Unpack[ThreadRunArguments]) -> Run:
        """
        Start a thread run and return it without waiting; the arguments are ``CreateRunOperator``'s.

        A lost answer is a ``LostCreateError``; nothing is sent twice.

        :raises RunRequestError: before anything is sent.
        """
        with airflow_errors():
            return self._create(thread_run_request(**_known(arguments, ThreadRunArguments)))

    async def acreate_thread_run(self, **arguments: Unpack[ThreadRunArguments]) -> Run:
        """Start a thread run."""
        with airflow_errors():
            return await self._acreate(thread_run_request(**_known(arguments, ThreadRunArguments)))

    def create_background_response(self, **arguments: Unpack[ResponseArguments]) -> Run:
        """
        Start a background response; the arguments are ``CreateResponseOperator``'s.

        :raises RunRequestError: before anything is sent.
        """
        with airflow_errors():
            return self._create(response_request(**_known(arguments, ResponseArguments)))

    async def acreate_background_response(self, **arguments: Unpack[ResponseArguments]) -> Run:
        """Start a background response."""
        with airflow_errors():
            return await self._acreate(response_request(**_known(arguments, ResponseArguments)))

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

        :param ref: the ``ref`` of a run, as in XCom; its connection is asked.
        :param include_steps: read every page of its steps, too.
        :param include: what the API leaves out unless it is asked for, by its own names.
        :raises RunNotFoundError: if the server does not know it.
        """
        run = self._ref(ref)
        flow = flows.read(run, steps=include_steps, include=include)
        return self._at(run)._sync(flow, "read", f"read {run}", run)  # noqa: SLF001 # our own class

    async def aretrieve(
        self, ref: RunRef | Mapping[str, Any], *, include_steps: bool = False, include: Sequence[str] = ()
    ) -> Run:
        """Read a run with its output."""
        run = self._ref(ref)
        flow = flows.read(run, steps=include_steps, include=include)
        return await self._at(run)._async(flow, "read", f"read {run}", run)  # noqa: SLF001 # the same

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

    def cancel(
        self,
        ref: RunRef | Mapping[str, Any],
        *,
        wait: float = DEFAULT_TIMEOUTS["delete"],
        visible_by: float = 0.0,
    ) -> Run:
        """
        End a run, wait up to ``wait`` seconds for its end, and return it as it ended.

        A run that has ended already is success: check ``status``.

        :param visible_by: until this Unix time a 404 means that the run is not visible yet.
        :raises RunCallError: if it could not be cancelled.
        """
        run = self._ref(ref)
        with airflow_errors():
            ended = self._at(run).run_flow(flows.cancel(run, wait=wait, visible_by=visible_by))
        self._check_cancelled(run, ended)
        return self.retrieve(run)

    async def acancel(
        self,
        ref: RunRef | Mapping[str, Any],
        *,
        wait: float = DEFAULT_TIMEOUTS["delete"],
        visible_by: float = 0.0,
    ) -> Run:
        """End a run and wait for its end."""
        run = self._ref(ref)
        with airflow_errors():
            ended = await self._at(run).arun_flow(flows.cancel(run, wait=wait, visible_by=visible_by))
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
        flow, doing = _answer(run, outputs, tools), f"answer {run.ref}"
        return self._at(run.ref)._sync(flow, "create", doing, run.ref)  # noqa: SLF001 # our own class

    async def asubmit_tool_outputs(
        self, run: Run, outputs: Mapping[str, Answer], *, tools: Any = None
    ) -> Run:
        """Answer all pending calls of a run in one request."""
        flow, doing = _answer(run, outputs, tools), f"answer {run.ref}"
        return await self._at(run.ref)._async(flow, "create", doing, run.ref)  # noqa: SLF001 # the same

    # -- inner --------------------------------------------------------------------------------------------

    def _ref(self, ref: RunRef | Mapping[str, Any]) -> RunRef:
        """Read a ref; one that names no connection is of this hook's."""
        if isinstance(ref, Mapping):
            ref = {**ref, "conn_id": ref.get("conn_id") or self.conn_id}
        return RunRef.from_json(ref)

    def _at(self, ref: RunRef) -> Self:
        """Return the hook of a run's connection."""
        if ref.conn_id == self.conn_id:
            return self
        if ref.conn_id not in self._others:
            self._others[ref.conn_id] = self.for_connection(ref.conn_id)
        return self._others[ref.conn_id]

    def _create(self, request: RunRequest) -> Run:
        flow = flows.create(request, token=None, conn_id=self.conn_id)
        return self._sync(flow, "create", f"create a {request.noun}", request.kind)

    async def _acreate(self, request: RunRequest) -> Run:
        flow = flows.create(request, token=None, conn_id=self.conn_id)
        return await self._async(flow, "create", f"create a {request.noun}", request.kind)

    def _sync(self, flow: Flow[T], action: str, doing: str, about: RunRef | str) -> T:
        with airflow_errors():
            try:
                return self.run_flow(flows.with_retries(flow, budget=DEFAULT_TIMEOUTS[action]))
            except ApiRequestFailed as failed:
                raise self._error(failed, doing, about) from None

    async def _async(self, flow: Flow[T], action: str, doing: str, about: RunRef | str) -> T:
        with airflow_errors():
            try:
                return await self.arun_flow(flows.with_retries(flow, budget=DEFAULT_TIMEOUTS[action]))
            except ApiRequestFailed as failed:
                raise self._error(failed, doing, about) from None

    def _error(self, failed: ApiRequestFailed, doing: str, about: RunRef | str) -> OpenAIRunError:
        """Return the error about a run, or, where there is none yet, about a kind of run."""
        if isinstance(about, RunRef):
            return self._error(failed, doing, about.kind).about(ref=about.to_json())
        if failed.pays and failed.failure.kind is FailureKind.OUTCOME_UNKNOWN:
            return LostCreateError(
                f"Could not {doing} (connection {self.conn_id!r}): {failed.failure}. It may have been "
                "accepted, and a run may be going on and billing; it was not sent again."
            )
        return self.error_of(failed.failure, doing=doing, kind=about)

    def _check_cancelled(self, ref: RunRef, ended: CancelResult) -> None:
        if ended.is_gone and ended.failure is not None:
            with airflow_errors():
                error = self._at(ref).error_of(ended.failure, doing=f"cancel {ref}", kind=ref.kind)
                raise error.about(ref=ref.to_json())
        if not ended.has_ended:
            raw_status = ended.raw_status or "unknown"
            why = ended.failure or "it did not end in time"
            done = f"{ref} is being cancelled, but" if ended.accepted else f"Could not cancel {ref}:"
            with airflow_errors():
                raise RunCallError(
                    f"{done} {why} (status {raw_status}). It may be running and billing; try again."
                ).about(ref=ref.to_json(), status=ended.raw_status)


def _known(arguments: Mapping[str, Any], names: type[Any]) -> dict[str, Any]:
    """
    Return arguments that a create has; of others, nobody can say what they were meant for.

    :param names: the typed dict that has them.
    :raises RunRequestError: naming the first other one.
    """
    known = names.__annotations__
    for name in arguments:
        if name in _OF_OPERATORS:
            raise RunRequestError(
                f"The hook has no argument {name!r}: it starts a run and does not wait for it. The operators "
                "do; with the hook, call retrieve() until status.is_active is false. Nothing was sent."
            )
        if name not in known and name not in _STREAMS:
            raise RunRequestError(f"{no_argument('The hook', name, known)} Nothing was sent.")
    return dict(arguments)


def _thread(messages: list[Mapping[str, Any]] | None, more: Mapping[str, Any]) -> Flow[str]:
    given = {**more, **({"messages": messages} if messages else {})}
    return flows.single(THREADS.create_thread({name: as_json(name, value) for name, value in given.items()}))


def _answer(run: Run, outputs: Mapping[str, Answer], tools: Any) -> Flow[Run]:
    again = None if tools is None else continuation_request(tools=tools)
    return flows.answer(run, as_json("outputs", outputs), again)
