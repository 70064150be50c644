# SPDX-License-Identifier: Apache-2.0
"""
How a request is written and how a reply is read: one module for each wire API, and no I/O.

A call is a value; a flow is a generator that yields calls and receives what they read. So one description
serves the synchronous and the asynchronous client.
"""

from __future__ import annotations

from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import responses, threads
from airflow_provider_openai_runs.wire.protocol import Answer, ApiRequest, Flow, Wire

_WIRES: dict[RunKind, Wire] = {RunKind.THREAD_RUN: threads.WIRE, RunKind.RESPONSE: responses.WIRE}


def wire_of(kind: RunKind) -> Wire:
    """Return the wire API that serves this kind of run."""
    return _WIRES[kind]


__all__ = ["Answer", "ApiRequest", "Flow", "Wire", "wire_of"]
