# SPDX-License-Identifier: Apache-2.0
"""Answer the calls of one round: the functions run in a thread, one by one, while another keeps watch."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.runs.plain import plain
from airflow_provider_openai_runs.runs.text import text_of
from airflow_provider_openai_runs.tool_calls.function_tool import BadArgumentsError, FunctionTool
from airflow_provider_openai_runs.tool_calls.worker_thread import Job, Worker
from airflow_provider_openai_runs.typed.text import clean

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: A result above this many bytes is not sent; the API itself refuses much more.
MAX_OUTPUT_BYTES = 512_000
#: Seconds between two checks of the time and calls of ``check`` while a function runs.
CHECK_INTERVAL = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswer:
    """What is sent to the model for one call."""

    call_id: str
    name: str
    #: What the model reads.
    text: str
    #: A short sentence when the call failed; ``text`` says the same.
    error: str | None = None


class OutOfTimeError(Exception):
    """
    The time to answer was over before a function had returned.

    :param call: the call that was running, or was about to run.
    """

    def __init__(self, message: str, *, call: ToolCall) -> None:
        super().__init__(message)
        self.call = call


class FunctionCaller:
    """
    Calls functions for a model and never lets one of them end the task.

    All calls run in one thread of their own, so that what is bound to a thread (an SQLite connection) may be
    kept from one call to the next.

    :param context: Airflow's context, for functions that ask for it.
    :param withholds: repeat neither in the log nor in errors what the model wrote; it may be in what a
        function raises.
    :param check: called every ``CHECK_INTERVAL`` seconds while a function runs; raises to end the task.
    :raises RunRequestError: when a function cannot be described to a model.
    """

    def __init__(
        self,
        functions: Sequence[Callable[..., Any]],
        *,
        context: Any,
        log: Logger,
        withholds: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._tools = {tool.name: tool for tool in map(FunctionTool, functions)}
        self._context = context
        self._log = log
        self._withholds = withholds
        self._check = check
        self._worker = Worker(name="openai-run-functions")

    def answer(
        self, call: ToolCall, *, until: float | None = None, arguments: Mapping[str, Any] | None = None
    ) -> CallAnswer:
        """
        Run the function that was called, and return the answer to the call.

        :param until: Unix seconds after which an answer is of no use.
        :param arguments: what a person has put in place of the model's.
        :raises OutOfTimeError: when ``until`` is over; a function that runs is left behind.
        """
        began = time.monotonic()
        text, error = self._run(call, until, call.arguments if arguments is None else arguments)
        name = call.name
        if self._withholds:
            # The model may have written any name, too.
            name = name if name in self._tools else "an unknown function"
            error = error and "text_in_xcom=0 withholds why"
        took = time.monotonic() - began
        outcome = f"answered after {took:.1f} s" if error is None else f"failed after {took:.1f} s: {error}"
        self._log.info("Call %s of %s %s", clean(call.id), clean(name), outcome)
        return CallAnswer(call_id=call.id, name=name, text=text, error=error)

    def _run(
        self, call: ToolCall, until: float | None, arguments: str | Mapping[str, Any]
    ) -> tuple[str, str | None]:
        tool = self._tools.get(call.name)
        if tool is None:
            there_are = ", ".join(self._tools) or "none"
            return _failed(f"There is no function {call.name!r}. There are: {there_are}.")

        def run() -> str:
            result = tool(tool.arguments_of(arguments), context=self._context, call_id=call.id)
            return _written(result)

        job = Job(run, contextvars.copy_context())
        self._wait(job, call, until)
        if job.error is None:
            return _within_limit(call.name, job.result)
        if isinstance(job.error, (BadArgumentsError, _UnwritableError)):
            return _failed(str(job.error))
        if isinstance(job.error, Exception):
            self._log.warning(
                "Call %s: %s raised an error; the model receives its last line",
                clean(call.id),
                call.name,
                exc_info=None if self._withholds else job.error,
            )
            return _failed(f"{type(job.error).__name__}: {text_of(job.error)}")
        raise job.error  # SystemExit and its like are meant for the task, not for the model

    def _wait(self, job: Job, call: ToolCall, until: float | None) -> None:
        self._check()
        _raise_if_over(until, call, "could not start")
        self._worker.start(job)
        try:
            while not job.done.wait(CHECK_INTERVAL):
                self._check()
                _raise_if_over(
                    until, call, "was still running; a thread cannot be killed, so it goes on alone"
                )
        except BaseException:
            self._worker.leave_behind()
            raise


class _UnwritableError(Exception):
    """A result cannot be written as JSON."""


def _written(result: Any) -> str:
    if isinstance(result, str):
        return str(plain(result))
    try:
        return str(plain(to_json(result, fallback=_fallback, inf_nan_mode="null").decode()))
    except Exception as error:
        raise _UnwritableError(
            f"The result, of type {type(result).__name__}, cannot be written as JSON: {text_of(error)}"
        ) from error


def _fallback(value: Any) -> Any:
    """Write rows of a database (``sqlite3.Row``) as objects, and the rest as text."""
    return dict(value) if hasattr(value, "keys") and hasattr(value, "__getitem__") else str(value)


def _within_limit(name: str, text: str) -> tuple[str, str | None]:
    size = len(text.encode())
    if size <= MAX_OUTPUT_BYTES:
        return text, None
    return _failed(
        f"The result of {name} has {size} bytes; at most {MAX_OUTPUT_BYTES} can be sent. Ask for less."
    )


def _failed(what: str) -> tuple[str, str]:
    error = clean(what)
    return f"Error: {error}", error


def _raise_if_over(until: float | None, call: ToolCall, state: str) -> None:
    if until is not None and time.time() >= until:
        raise OutOfTimeError(
            f"The time to answer call {clean(call.id)} was over: function {call.name} {state}.", call=call
        )
