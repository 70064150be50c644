# SPDX-License-Identifier: Apache-2.0
"""Whether a connection still leads to where a task has its runs: it keeps its name when it is edited."""

from __future__ import annotations

from typing import Any

from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.budgets import ADOPT_BUDGET
from airflow_provider_openai_runs.runs.failure import FailureKind
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import batches, flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest


def leads_elsewhere(hook: OpenAIRunsHook, now: Account | None, before: Account | None, items: Items) -> str:
    """
    Say in what a connection leads elsewhere than to the items; nothing if its server knows one of them.

    A key that was rotated still sees the runs of its account.

    :param now: where the connection leads; None if nobody can say.
    :param before: where it led when the first of them was created; None if nobody can say.
    """
    moved = now.differs_from(before) if now is not None else ""
    if not moved or not (items.count(ItemState.INTENDED) or items.count(ItemState.CREATED)):
        return ""
    text = f"Connection {hook.conn_id!r}: {moved}"
    ids = [*(batch.id for batch in items.batches.active), *(run.id for run in items.runs.values())]
    known = next(filter(None, ids), None)
    if known is None:
        return text
    ref = RunRef(kind=RunKind.RESPONSE, id=known, conn_id=hook.conn_id)
    poll: ApiRequest[Any] = batches.retrieve(known) if items.batches.active else wire_of(ref.kind).poll(ref)
    try:
        hook.run_flow(flows.with_retries(flows.single(poll), budget=ADOPT_BUDGET))
    except ApiRequestFailed as failed:
        if failed.failure.kind is FailureKind.NOT_FOUND:
            return f"{text}; {known} is unknown there"
    return ""
