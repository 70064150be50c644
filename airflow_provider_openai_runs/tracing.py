# SPDX-License-Identifier: Apache-2.0
"""
OpenTelemetry spans of a run: its create, its wait and its read, in Airflow's own tracer provider.

Names follow the GenAI semantic conventions (https://opentelemetry.io/docs/specs/semconv/gen-ai/). The three
are spans of different processes, often hours apart, so each is whole by itself; tokens are on the read only,
so that whoever adds them up counts them once. Where Airflow's tracing is off, a span is an empty object.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.status import RunStatus

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from airflow_provider_openai_runs.runs.model import Run, RunRef
    from airflow_provider_openai_runs.runs.request import RunRequest

#: By this variable of the conventions a user asks for prompts and answers in spans.
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURING = frozenset({"true", "1", "span_only", "span_and_event"})
_FINISH_REASONS = {
    "max_output_tokens": "length",
    "max_completion_tokens": "length",
    "max_prompt_tokens": "length",
}
_tracer = trace.get_tracer("airflow_provider_openai_runs")
_log = logging.getLogger(__name__)
P = ParamSpec("P")


def _harmless(note: Callable[P, None]) -> Callable[P, None]:
    """Let a deployment's tracing fail alone: a run is paid for while a span is open."""

    @wraps(note)
    def noted(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            note(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 # of span processors and exporters, too
            _log.debug("Tracing failed: %s", type(error).__name__)

    return noted


class RunSpan:
    """
    A span about a run.

    :param withholds: keep prompt and answer out, whoever asks for them.
    """

    def __init__(self, span: Span, *, withholds: bool = False) -> None:
        self._span = span
        self._captures = (
            not withholds and span.is_recording() and os.environ.get(CAPTURE, "").lower() in _CAPTURING
        )

    @_harmless
    def asks(self, request: RunRequest) -> None:
        """Note what a create asks for."""
        body = request.body
        ceiling = body.get("max_output_tokens") or body.get("max_completion_tokens")
        self._set(
            {
                "gen_ai.request.model": body.get("model"),
                "gen_ai.request.temperature": body.get("temperature"),
                "gen_ai.request.top_p": body.get("top_p"),
                "gen_ai.request.max_tokens": ceiling,
            }
        )
        if self._captures:
            self._set(
                {
                    "gen_ai.input.messages": _messages(_input_of(request)),
                    "gen_ai.system_instructions": body.get("instructions") and _parts(body["instructions"]),
                }
            )

    @_harmless
    def names(self, ref: RunRef) -> None:
        """Note which run it is about."""
        self._set({"gen_ai.response.id": ref.id, "gen_ai.conversation.id": ref.thread_id})

    @_harmless
    def answered(self, reply: Run | RequestFailure) -> None:
        """Note what a create has brought: a run, or why there is none."""
        if isinstance(reply, RequestFailure):
            self.failed(reply.kind.value)
            self._set({"http.response.status_code": reply.http_status})
        else:
            self.names(reply.ref)
            self._set({"gen_ai.response.model": reply.model, "openai.run.status": reply.raw_status})

    @_harmless
    def over(self, outcome: str, raw_status: str | None) -> None:
        """Note how a wait has ended."""
        self._set({"openai.run.outcome": outcome, "openai.run.status": raw_status})

    @_harmless
    def read(self, run: Run) -> None:
        """Note what a run has brought."""
        usage = run.usage
        self.names(run.ref)
        self._set(
            {
                "gen_ai.response.model": run.model,
                "gen_ai.response.finish_reasons": [finish_reason(run)],
                "gen_ai.usage.input_tokens": usage and usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage and usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage and usage.cached_tokens,
                "gen_ai.usage.cache_creation.input_tokens": usage and usage.cache_write_tokens,
                "gen_ai.usage.reasoning.output_tokens": usage and usage.reasoning_tokens,
                "openai.run.status": run.raw_status,
            }
        )
        if self._captures and run.output_text is not None:
            answer = {
                "role": "assistant",
                "parts": _text(run.output_text),
                "finish_reason": finish_reason(run),
            }
            self._set({"gen_ai.output.messages": json.dumps([answer])})

    @_harmless
    def failed(self, kind: str) -> None:
        """Note why it went wrong, by a name: a server's text may quote a prompt."""
        self._set({"error.type": kind})
        self._span.set_status(Status(StatusCode.ERROR))

    def _set(self, attributes: Mapping[str, Any]) -> None:
        if self._span.is_recording():
            self._span.set_attributes(
                {name: value for name, value in attributes.items() if value is not None}
            )


def finish_reason(run: Run) -> str:
    """Return why the model stopped, in the words of the conventions; else the raw status."""
    if run.needs_action:
        return "tool_calls"
    if run.status is RunStatus.COMPLETED:
        return "stop"
    reason = (run.incomplete_details or {}).get("reason")
    return _FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else run.raw_status


@contextmanager
def creating(request: RunRequest, *, withholds: bool = False) -> Iterator[RunSpan]:
    """Span a create; the run itself goes on long after it."""
    model = request.body.get("model")
    with _spanned("chat", model, kind=SpanKind.CLIENT, withholds=withholds) as span:
        span.asks(request)
        yield span


@contextmanager
def waiting(ref: RunRef) -> Iterator[RunSpan]:
    """Span a wait, in a worker or in the triggerer."""
    with _spanned("wait", ref.kind, kind=SpanKind.INTERNAL) as span:
        span.names(ref)
        yield span


@contextmanager
def reading(ref: RunRef, *, withholds: bool = False) -> Iterator[RunSpan]:
    """Span the read of a run at its end."""
    with _spanned("retrieve", ref.kind, kind=SpanKind.CLIENT, withholds=withholds) as span:
        span.names(ref)
        yield span


@contextmanager
def _spanned(operation: str, about: Any, *, kind: SpanKind, withholds: bool = False) -> Iterator[RunSpan]:
    attributes = {"gen_ai.operation.name": operation, "gen_ai.provider.name": "openai"}
    name = f"{operation} {about}" if about else operation
    try:
        # Not the current one: a trigger is an async generator, which may be ended in another context.
        span = _tracer.start_span(name, kind=kind, attributes=attributes)
    except Exception:  # noqa: BLE001 # see _harmless
        span = trace.INVALID_SPAN
    run_span = RunSpan(span, withholds=withholds)
    try:
        yield run_span
    except (asyncio.CancelledError, GeneratorExit):
        # A trigger that moves: the run goes on, and so does the wait, elsewhere.
        raise
    except BaseException as error:
        run_span.failed(type(error).__name__)
        raise
    finally:
        _harmless(span.end)()


def _input_of(request: RunRequest) -> Any:
    body = request.body
    return (
        body.get("input") or body.get("additional_messages") or (request.thread or {}).get("messages") or ()
    )


def _messages(given: Any) -> str:
    items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    return json.dumps(
        [
            {"role": str(item.get("role", "user")), "parts": _text(item.get("content", item))}
            if isinstance(item, Mapping)
            else {"role": "user", "parts": _text(item)}
            for item in items
        ]
    )


def _parts(given: Any) -> str:
    return json.dumps(_text(given))


def _text(given: Any) -> Sequence[Mapping[str, str]]:
    return [{"type": "text", "content": given if isinstance(given, str) else json.dumps(given, default=str)}]
