# SPDX-License-Identifier: Apache-2.0
"""Whether a connection still leads to where a task has its runs: it keeps its name when it is edited."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.budgets import ADOPT_BUDGET
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import Flow, batches, flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

#: How many runs are asked for: some may be gone for reasons of their own.
_ASKED_FOR = 5


def may_be_elsewhere(items: Items) -> bool:
    """Whether anything of these items may be going, or is not collected."""
    return bool(items.batches.active or items.count(ItemState.INTENDED) or items.count(ItemState.CREATED))


def leads_elsewhere(hook: OpenAIRunsHook, now: Account | None, before: Account | None, items: Items) -> str:
    """
    Say in what a connection leads elsewhere than to the items; nothing if its server knows one of them.

    A key that was rotated still sees what its account has created. Creates of single runs that have no answer
    are lost wherever the connection leads.

    :param now: where the connection leads; None if nobody can say.
    :param before: where it led when the first of them was created; None if nobody can say.
    """
    moved = now.differs_from(before) if now is not None else ""
    if not moved or not may_be_elsewhere(items):
        return ""
    unknown = ""
    for name, flow in _questions(items, hook.conn_id):
        found = _answer(hook, flow)
        if found is not None and not isinstance(found, RequestFailure):
            return ""
        unknown = unknown or f"{name} cannot be found by it ({found or 'no list shows it'})"
    return f"Connection {hook.conn_id!r}: {moved}; {unknown}" if unknown else ""


def _questions(items: Items, conn_id: str) -> Iterator[tuple[str, Flow[Any]]]:
    for batch in items.batches.active[:_ASKED_FOR]:
        if batch.id is not None:
            yield batch.id, flows.single(batches.retrieve(batch.id))
        else:
            yield batch.name, batches.find(batch.token, file_id=batch.file_id, since=batch.at)
    runs = [*items.runs.values()]
    for run in runs[:: max(1, len(runs) // _ASKED_FOR)][:_ASKED_FOR]:
        ref = RunRef(kind=RunKind.RESPONSE, id=run.id, conn_id=conn_id)
        yield run.id, flows.single(wire_of(ref.kind).poll(ref))


def _answer(hook: OpenAIRunsHook, flow: Flow[Any]) -> Any:
    try:
        return hook.run_flow(flows.with_retries(flow, budget=ADOPT_BUDGET))
    except ApiRequestFailed as failed:
        return failed.failure
