# SPDX-License-Identifier: Apache-2.0
"""Answer the calls of one round: the functions run in a thread, one by one, while another keeps watch."""

from __future__ import annotations

import contextvars
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import TaskDeferred
from pydantic_core import from_json, to_json

from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.runs.plain import MAX_DEPTH, plain
from airflow_provider_openai_runs.runs.text import text_of
from airflow_provider_openai_runs.tool_calls.function_tool import BadArgumentsError, FunctionTool
from airflow_provider_openai_runs.tool_calls.worker_thread import Job, Worker
from airflow_provider_openai_runs.typed.text import clean

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: What a function raises that is meant for the task, and not for the model.
_FOR_THE_TASK = (SystemExit, KeyboardInterrupt)
#: A result above this many bytes is not sent; the API itself refuses much more.
MAX_OUTPUT_BYTES = 512_000
#: Lists, objects and the like of a result that is no JSON by itself; more are not shown.
_MOST_VALUES = 200_000
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
        name = clean(call.name)
        if self._withholds:
            # The model may have written any name, too.
            name = name if call.name in self._tools else "an unknown function"
            error = error and "text_in_xcom=0 withholds why"
        took = time.monotonic() - began
        outcome = f"answered after {took:.1f} s" if error is None else f"failed after {took:.1f} s: {error}"
        self._log.info("Call %s of %s %s", clean(call.id), name, outcome)
        return CallAnswer(call_id=call.id, name=name, text=text, error=error)

    def _run(
        self, call: ToolCall, until: float | None, arguments: str | Mapping[str, Any]
    ) -> tuple[str, str | None]:
        tool = self._tools.get(call.name)
        if tool is None:
            there_are = ", ".join(self._tools) or "none"
            return _failed(f"There is no function {clean(call.name)!r}. There are: {there_are}.")

        def run() -> str:
            result = tool(tool.arguments_of(arguments), context=self._context, call_id=call.id)
            return _written(result)

        job = Job(run, contextvars.copy_context())
        self._wait(job, call, until)
        if job.error is None:
            return _within_limit(call.name, job.result)
        if isinstance(job.error, BadArgumentsError):
            return _failed(str(job.error))
        if isinstance(job.error, _FOR_THE_TASK):
            raise job.error
        self._log.warning(
            "Call %s: %s raised an error; the model receives its last line",
            clean(call.id),
            call.name,
            exc_info=None if self._withholds else job.error,
        )
        if isinstance(job.error, TaskDeferred):
            # Airflow would resume this task with an event that is another operator's.
            return _failed(f"{call.name} tried to defer, which a function cannot: it has to wait itself")
        return _failed(f"{type(job.error).__name__}: {text_of(job.error)}")

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


def _written(result: Any) -> str:
    """Return a result as the model reads it: the function has done its work, so this is no error of it."""
    if isinstance(result, str):
        return str(plain(str(result.value) if isinstance(result, Enum) else result))
    try:
        return str(plain(to_json(result, fallback=_fallback, inf_nan_mode="null").decode()))
    except Exception:  # noqa: BLE001 # bytes or text that are no UTF-8, too deep, or of a class that fails
        return json.dumps(plain(_as_text(result), reserves_keys=False))


def _fallback(value: Any) -> Any:
    """Write rows of a database (``sqlite3.Row``) as objects, and the rest as text."""
    return dict(value) if hasattr(value, "keys") and hasattr(value, "__getitem__") else str(value)


def _as_text(value: Any) -> Any:
    """Return a value with text in place of what JSON does not know, and an ellipsis where it has no end."""
    left = iter(range(_MOST_VALUES))

    def shown(value: Any, within: tuple[int, ...]) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (bytes, bytearray)):
            return value.decode(errors="replace")
        if id(value) in within or len(within) > MAX_DEPTH or next(left, None) is None:
            return "…"
        if isinstance(value, Mapping):
            return {text_of(key): shown(item, (*within, id(value))) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [shown(item, (*within, id(value))) for item in value]
        try:
            return from_json(to_json(value, fallback=_fallback, inf_nan_mode="null"))
        except Exception:  # noqa: BLE001 # see above
            return text_of(value)

    return shown(value, ())


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
