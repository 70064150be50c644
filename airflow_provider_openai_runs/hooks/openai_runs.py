# SPDX-License-Identifier: Apache-2.0
"""The hook: from an Airflow connection to runs, for operators and for ``@task`` functions alike."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import openai
from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.openai.hooks.openai import OpenAIHook

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.hooks import clients, flows, transport
from airflow_provider_openai_runs.hooks.urls import run_url
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError, RunConnectionError
from airflow_provider_openai_runs.runs.model import Run, RunRef, Step
from airflow_provider_openai_runs.runs.refusal import error_of_call
from airflow_provider_openai_runs.runs.request import (
    DEFAULT_TIMEOUTS,
    RunRequest,
    response_request,
    thread_run_request,
)
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import Flow
from airflow_provider_openai_runs.wire.call import Call, Pause
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS
from airflow_provider_openai_runs.wire.threads import list_runs
from airflow_provider_openai_runs.wire.troubled import CallFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Connection

T = TypeVar("T")


class OpenAIRunsHook(OpenAIHook):
    """
    Create, read, list, answer and cancel runs through a connection of type ``openai``.

    Every call has an asynchronous twin with the prefix ``a``; the twins share one client for each connection
    and event loop. Errors are those of ``airflow_provider_openai_runs.exceptions``.

    :param conn_id: the connection; its form is that of the official provider.
    :param sleep: how to pause between tries; operators pass one that a kill interrupts.
    """

    def __init__(
        self, conn_id: str = OpenAIHook.default_conn_name, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__(conn_id)
        self.sleep = sleep

    def for_connection(self, conn_id: str) -> OpenAIRunsHook:
        """Return a hook for another connection, with the same way to sleep."""
        return type(self)(conn_id, sleep=self.sleep)

    # -- connection ---------------------------------------------------------------------------------------

    @cached_property
    def _connection(self) -> tuple[Connection, dict[str, Any]]:
        with airflow_errors(), _connection_errors(self.conn_id):
            connection = self.get_connection(self.conn_id)
            return connection, connection.extra_dejson

    @cached_property
    def client_settings(self) -> dict[str, Any]:
        """The keyword arguments of the SDK's client, read from the connection once for each hook."""
        with airflow_errors(), _connection_errors(self.conn_id):
            return self._client_kwargs(*self._connection)

    async def aclient_settings(self) -> dict[str, Any]:
        """Read the keyword arguments of the SDK's client anew, without blocking the event loop."""
        with airflow_errors(), _connection_errors(self.conn_id):
            connection = await get_async_connection(self.conn_id, hook=self)
            return self._client_kwargs(connection, await get_async_extra_dejson(connection))

    def get_conn(self) -> openai.OpenAI:
        """Build a client of its own; ``conn`` is the one that this hook keeps."""
        with airflow_errors(), _connection_errors(self.conn_id):
            return openai.OpenAI(**self.client_settings)

    def run_url(self, ref: RunRef) -> str:
        """Return the page that shows a run, or nothing: no link rather than a broken one."""
        template = self._connection[1].get("run_url_template")
        return run_url(ref, base_url=str(self.conn.base_url), template=template)

    # -- flows --------------------------------------------------------------------------------------------

    def run_flow(self, flow: Flow[T]) -> T:
        """
        Run a flow to its result.

        :raises CallFailed: for the caller to decide about.
        """
        advance: Callable[[], Any] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Pause):
                self.sleep(step.seconds)
                if step.reconnect:
                    self._reconnect()
                advance = partial(next, flow)
                continue
            try:
                advance = partial(flow.send, self._send(step))
            except CallFailed as failed:
                advance = partial(flow.throw, failed)

    def _send(self, call: Call[T]) -> T:
        try:
            client = self.conn
        except Exception as error:
            raise transport.not_sent(error) from error
        return transport.send(client, call)

    async def arun_flow(self, flow: Flow[T]) -> T:
        """Run a flow on the client that all waits of this event loop share."""
        async with clients.shared(self) as client:
            return await client.run_flow(flow)

    def _reconnect(self) -> None:
        """Read the connection anew: its key was refused, or its route is missing."""
        for name in ("_connection", "client_settings", "conn"):
            self.__dict__.pop(name, None)

    # -- create -------------------------------------------------------------------------------------------

    def create_thread_run(self, **arguments: Any) -> Run:
        """
        Start a thread run and return it without waiting; the arguments are ``CreateRunOperator``'s.

        A lost answer is a ``RunCallError``; nothing is sent twice.

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

    def retrieve(self, ref: RunRef | Mapping[str, Any], *, include_steps: bool = False) -> Run:
        """
        Read a run with its output.

        :param ref: the ``ref`` of a run, as in XCom.
        :param include_steps: read every page of its steps, too.
        :raises RunNotFoundError: if the server does not know it.
        """
        run = RunRef.from_json(ref)
        return self._sync(flows.read(run, steps=include_steps), "read", f"read {run}", run.kind)

    async def aretrieve(self, ref: RunRef | Mapping[str, Any], *, include_steps: bool = False) -> Run:
        """Read a run with its output."""
        run = RunRef.from_json(ref)
        return await self._async(flows.read(run, steps=include_steps), "read", f"read {run}", run.kind)

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
        """List every run of a thread, all pages; there is no list of responses."""
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

        A run that has ended already is success: look at ``status``.

        :raises RunCallError: if it could not be cancelled.
        """
        run = RunRef.from_json(ref)
        ended = self._sync(flows.cancel(run, wait=wait), "delete", f"cancel {run}", run.kind)
        self._check_cancelled(run, ended)
        return self.retrieve(run)

    async def acancel(
        self, ref: RunRef | Mapping[str, Any], *, wait: float = DEFAULT_TIMEOUTS["delete"]
    ) -> Run:
        """End a run and wait for its end."""
        run = RunRef.from_json(ref)
        ended = await self._async(flows.cancel(run, wait=wait), "delete", f"cancel {run}", run.kind)
        self._check_cancelled(run, ended)
        return await self.aretrieve(run)

    def submit_tool_outputs(self, run: Run, outputs: Mapping[str, str], *, tools: Any = None) -> Run:
        """
        Answer all pending calls of a run in one request and return the run that goes on.

        A thread run goes on itself; a response goes on as a new one, with a new id.

        :param run: as ``retrieve`` returned it.
        :param outputs: call id to text.
        :param tools: of a response: the tools to offer again, which the API does not carry over.
        """
        return self._sync(_answer(run, outputs, tools), "create", f"answer {run.ref}", run.ref.kind)

    async def asubmit_tool_outputs(self, run: Run, outputs: Mapping[str, str], *, tools: Any = None) -> Run:
        """Answer all pending calls of a run in one request."""
        return await self._async(_answer(run, outputs, tools), "create", f"answer {run.ref}", run.ref.kind)

    # -- inner --------------------------------------------------------------------------------------------

    def _create(self, request: RunRequest) -> Run:
        flow = flows.create(request, token=None, conn_id=self.conn_id)
        return self._sync(flow, "create", f"create a {request.kind.noun}", request.kind)

    async def _acreate(self, request: RunRequest) -> Run:
        flow = flows.create(request, token=None, conn_id=self.conn_id)
        return await self._async(flow, "create", f"create a {request.kind.noun}", request.kind)

    def _sync(self, flow: Flow[T], action: str, doing: str, kind: RunKind) -> T:
        with airflow_errors():
            try:
                return self.run_flow(flows.patiently(flow, budget=DEFAULT_TIMEOUTS[action]))
            except CallFailed as failed:
                raise self.error_of(failed, doing=doing, kind=kind) from failed

    async def _async(self, flow: Flow[T], action: str, doing: str, kind: RunKind) -> T:
        with airflow_errors():
            try:
                return await self.arun_flow(flows.patiently(flow, budget=DEFAULT_TIMEOUTS[action]))
            except CallFailed as failed:
                raise self.error_of(failed, doing=doing, kind=kind) from failed

    def error_of(self, failed: CallFailed, *, doing: str, kind: RunKind) -> OpenAIRunError:
        """Return the public error for a call that failed for good."""
        return error_of_call(failed.trouble, doing=doing, conn_id=self.conn_id, kind=kind)

    def _check_cancelled(self, ref: RunRef, ended: flows.Cancelled) -> None:
        if not ended.has_ended:
            word = ended.look.word if ended.look else "unknown"
            with airflow_errors():
                raise RunCallError(
                    f"Could not cancel {ref}: {ended.trouble or 'it did not end in time'} (status {word}). "
                    "It may be running and billing; try again."
                )


def _thread(messages: list[Mapping[str, Any]] | None, more: Mapping[str, Any]) -> Flow[str]:
    body = {**more, **({"messages": [dict(message) for message in messages]} if messages else {})}
    return flows.single(THREADS.create_thread(body))


def _answer(run: Run, outputs: Mapping[str, str], tools: Any) -> Flow[Run]:
    again = None if tools is None else response_request(input="", tools=tools)
    return flows.answer(run, outputs, again)


@contextmanager
def _connection_errors(conn_id: str) -> Iterator[None]:
    """Say which connection is missing or unusable, instead of a class name of the SDK."""
    try:
        yield
    except OpenAIRunError:
        raise
    except openai.OpenAIError as error:
        raise RunConnectionError(f"Connection {conn_id!r} makes no usable client: {error}") from error
    except (ValueError, TypeError) as error:
        raise RunConnectionError(f"Connection {conn_id!r} is not usable: {error}") from error
    except Exception as error:
        # Airflow has an error of its own for it in the worker, another one in the triggerer.
        if not re.search(r"not.?found|isn't defined", f"{type(error).__name__} {error}", re.IGNORECASE):
            raise
        raise RunConnectionError(
            f"There is no connection {conn_id!r} ({error}). Create it with type openai, or name another "
            "conn_id."
        ) from error
