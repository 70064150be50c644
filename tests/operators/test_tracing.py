# SPDX-License-Identifier: Apache-2.0
"""Spans, as a collector receives them: over OTLP, by HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from airflow_provider_openai_runs import tracing
from airflow_provider_openai_runs.exceptions import OpenAIRunError
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene

AT_ONCE = Scenario(text="Because of Ann.", queued=0.01, in_progress=0.06, times=None, reasoning_tokens=2)
#: One that is not over by the time that its create is answered, however slow the machine is.
SLOWER: dict[str, Any] = {"queued": 0.3, "in_progress": 0.7}
PROMPT = "Why is Ann's sky blue?"


class Collector:
    """An OTLP receiver that keeps what it is sent; ``spans`` are dicts, attributes by name."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    @property
    def spans(self) -> list[dict[str, Any]]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            {
                "name": span.name,
                "kind": span.kind,
                "is_error": span.status.code == 2,  # STATUS_CODE_ERROR
                **{attribute.key: _value(attribute.value) for attribute in span.attributes},
            }
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def one(self, operation: str) -> dict[str, Any]:
        (found,) = (span for span in self.spans if span["gen_ai.operation.name"] == operation)
        return found


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return (
        [_value(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)
    )


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Switch tracing on, and receive the spans."""
    found = Collector()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with requests.Session() as session, HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/v1/traces"
        exporter = OTLPSpanExporter(endpoint=address, session=session)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("airflow_provider_openai_runs"))
        yield found
        provider.shutdown()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_run_has_a_span_for_its_create_its_wait_and_its_read(
    scene: Scene, respond: Make, collector: Collector, deferrable: bool
) -> None:
    scene.simulator.script(Scenario(text="Because.", **SLOWER))
    found = scene.run(respond(model="gpt-4o-mini", temperature=0.5, deferrable=deferrable))

    asked, waited, read = collector.one("chat"), collector.one("wait"), collector.one("retrieve")
    assert len(collector.spans) == 3
    assert {span["gen_ai.response.id"] for span in collector.spans} == {found["id"]}
    assert (asked["name"], asked["gen_ai.request.model"]) == ("chat gpt-4o-mini", "gpt-4o-mini")
    assert asked["gen_ai.request.temperature"] == 0.5
    assert (waited["openai.run.outcome"], waited["openai.run.status"]) == ("ended", "completed")
    assert read["gen_ai.response.finish_reasons"] == ["stop"]
    assert read["gen_ai.usage.input_tokens"] == found["usage"]["prompt_tokens"]
    assert read["gen_ai.usage.output_tokens"] == found["usage"]["completion_tokens"]
    assert not [name for span in (asked, waited) for name in span if name.startswith("gen_ai.usage")]


def test_nothing_of_prompt_or_answer_is_in_a_span_unless_asked_for(
    scene: Scene, respond: Make, collector: Collector
) -> None:
    scene.simulator.script(AT_ONCE)
    scene.run(respond(input=PROMPT, instructions="Be kind to Ann."))

    assert collector.spans
    assert b"Ann" not in b"".join(collector.bodies)


def test_contents_are_in_the_spans_of_those_who_ask_for_them(
    scene: Scene, respond: Make, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracing.CAPTURE, "true")
    scene.simulator.script(AT_ONCE)
    scene.run(respond(input=PROMPT, instructions="Be kind."))

    asked, read = collector.one("chat"), collector.one("retrieve")
    assert json.loads(asked["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}
    ]
    assert json.loads(asked["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be kind."}]
    (answer,) = json.loads(read["gen_ai.output.messages"])
    assert answer["parts"] == [{"type": "text", "content": "Because of Ann."}]


def test_a_task_that_withholds_texts_withholds_them_here_too(
    scene: Scene, respond: Make, collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv(tracing.CAPTURE, "true")
    scene.simulator.script(AT_ONCE)
    scene.run(respond(input=PROMPT, text_in_xcom=0, output_path=tmp_path.as_uri()))

    assert collector.one("chat")
    assert collector.one("retrieve")
    assert b"Ann" not in b"".join(collector.bodies)


def test_a_create_that_is_refused_has_a_name_for_it_and_not_the_servers_text(
    scene: Scene, respond: Make, collector: Collector
) -> None:
    scene.simulator.fault(
        Fault(status=400, message=f"cannot read {PROMPT}", path="/responses", method="POST")
    )
    with pytest.raises(OpenAIRunError):
        scene.run(respond())

    (asked,) = collector.spans
    assert asked["is_error"]
    assert (asked["error.type"], asked["http.response.status_code"]) == ("rejected", 400)
    assert b"Ann" not in b"".join(collector.bodies)


def test_each_round_of_calls_has_its_create_and_its_wait(
    scene: Scene, create: Make, collector: Collector
) -> None:
    def rows() -> int:
        """Count."""
        return 7

    calls = [[FunctionCall(name="rows")]]
    scene.simulator.script(Scenario(function_calls=calls, **SLOWER))
    scene.run(create(functions=[rows]))

    waits = [
        span["openai.run.outcome"] for span in collector.spans if span["gen_ai.operation.name"] == "wait"
    ]
    assert waits == ["needs_action", "ended"]


def test_where_tracing_is_off_a_span_records_nothing(scene: Scene, respond: Make) -> None:
    scene.simulator.script(AT_ONCE)

    assert scene.run(respond())["status"] == "completed"
    with tracing.creating(respond().build_request()) as span:
        assert not span._span.is_recording()


@pytest.mark.parametrize("when", ["start", "end"])
def test_tracing_that_fails_costs_no_run(
    scene: Scene, create: Make, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    broken = SpanProcessor()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no collector")

    monkeypatch.setattr(broken, f"on_{when}", fail)
    provider.add_span_processor(broken)
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("airflow_provider_openai_runs"))
    scene.simulator.script(AT_ONCE)

    assert scene.run(create())["status"] == "completed"
    assert scene.creates() == 1


def test_an_input_that_is_no_message_can_be_captured(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracing.CAPTURE, "true")
    with tracing.creating(RunRequest(kind="response", body={"model": "m", "input": ["Why?", 1]})) as span:
        del span
    assert b"Why?" in b"".join(collector.bodies)


def test_a_wait_that_moves_to_another_triggerer_is_no_error(collector: Collector) -> None:
    ref = RunRef(kind="response", id="resp_1", conn_id="openai_default")
    with pytest.raises(asyncio.CancelledError), tracing.waiting(ref):
        raise asyncio.CancelledError
    (span,) = collector.spans
    assert "error.type" not in span
