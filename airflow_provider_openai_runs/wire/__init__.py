# SPDX-License-Identifier: Apache-2.0
"""
How a request is written and how a reply is read: one module for each wire API, and no I/O.

A request is a value; a flow is a generator that yields requests and receives what they read. So one
description serves the synchronous and the asynchronous client.
"""

from __future__ import annotations

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import responses, threads
from airflow_provider_openai_runs.wire.protocol import Answer, ApiRequest, Flow, Wire

_WIRES: dict[str, Wire] = {RunKind.THREAD_RUN: threads.WIRE, RunKind.RESPONSE: responses.WIRE}


def register(kind: str, wire: Wire) -> None:
    """Add a wire API; ``kind`` is what stands in the refs of its runs, for ever."""
    _WIRES[kind] = wire


def wire_of(kind: str) -> Wire:
    """
    Return the wire API that serves this kind of run.

    :raises RunRequestError: if there is none.
    """
    try:
        return _WIRES[kind]
    except KeyError:
        raise RunRequestError(
            f"ref['kind'] must be one of {[str(k) for k in _WIRES]}, not {kind!r}."
        ) from None


__all__ = ["Answer", "ApiRequest", "Flow", "Wire", "register", "wire_of"]
